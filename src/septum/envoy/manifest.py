"""What a snapshot is as a whole, for the agent that relays it: whose it is, whose certificates it needs, its digest."""

from __future__ import annotations

import json
from collections.abc import Iterable

from septum.envoy.wire import sealed
from septum.model.snapshot import Resource

NAME = "manifest"


def manifest(node: str, workloads: Iterable[str], trust_domain: str, whole: str) -> Resource:
    """The manifest of a node's snapshot; `whole` is `snapshot.whole` of everything else in it.

    Without a trust domain the workloads need no certificates.
    """
    content = {"node": node, "trust_domain": trust_domain, "whole": whole, "workloads": sorted(workloads)}
    return sealed(NAME, json.dumps(content).encode())
