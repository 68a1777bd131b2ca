"""A consistent set of xDS resources for one node, as opaque bytes. "Resource" means an xDS resource only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

# Septum's own resource, for agents and never for an Envoy: JSON that says what the snapshot is as a whole.
MANIFEST = "type.googleapis.com/septum.Manifest"

_MODULUS = 1 << 128


@dataclass(frozen=True)
class Resource:
    """One xDS resource: `body` is the serialised message, `version` the digest of it."""

    name: str
    version: str
    body: bytes

    @cached_property
    def share(self) -> int:
        """The resource's share of `whole`: a number made of its name and version."""
        return int.from_bytes(sha256(f"{self.name} {self.version}".encode()).digest()[:16])


def whole(resources: Mapping[str, Iterable[Resource]]) -> str:
    """A digest (hex) of what a node should hold, without its manifest, that does not depend on any order.

    A sum, so that whoever keeps it can take one resource out and put another in without looking at the rest.
    """
    shares = (
        int.from_bytes(sha256(type_url.encode()).digest()[:16]) * made.share
        for type_url, of_type in resources.items()
        if type_url != MANIFEST
        for made in of_type
    )
    return f"{sum(shares) % _MODULUS:032x}"


def together(digests: Iterable[str]) -> str:
    """The `whole` of what several parts make up that have no resource in common, from that of each."""
    return f"{sum(int(digest, 16) for digest in digests) % _MODULUS:032x}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node should hold: type URL → resource name → resource."""

    version: str
    resources: Mapping[str, Mapping[str, Resource]]

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of one type; none when the type does not occur."""
        return self.resources.get(type_url, {})

    def for_envoy(self) -> Snapshot:
        """The same without what is for agents alone."""
        return Snapshot(self.version, {kind: made for kind, made in self.resources.items() if kind != MANIFEST})

    def count(self) -> int:
        """How many resources there are over all types."""
        return sum(len(names) for names in self.resources.values())
