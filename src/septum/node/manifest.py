"""What the control plane says about a node's snapshot as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ManifestError(ValueError):
    """The manifest is none, or another node's; the text says which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Whose snapshot it is, the workloads whose certificates the node needs, and `snapshot.whole` of all the rest.

    `content` is the manifest as it came, with what a newer control plane may have added.
    """

    node: str
    workloads: tuple[str, ...]
    whole: str
    content: Mapping[str, Any]


def read(body: bytes, node: str) -> Manifest:
    """The manifest of a node. Raises ManifestError."""
    try:
        content = json.loads(body)
        found = Manifest(content["node"], tuple(content["workloads"]), content["whole"], content)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"this is no manifest that this version of Septum reads: {error!r}") from None
    texts = (found.node, found.whole, *found.workloads)
    if not all(isinstance(text, str) for text in texts):
        raise ManifestError("this is no manifest that this version of Septum reads: node, workloads and whole are text")
    if found.node != node:
        raise ManifestError(f"this is the snapshot of the node {found.node!r}, and this node is {node!r}")
    return found
