"""A consistent set of xDS resources for one node, as opaque bytes. "Resource" means an xDS resource only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One xDS resource: `body` is the serialised message, `version` the digest of it."""

    name: str
    version: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node should hold: type URL → resource name → resource."""

    version: str
    resources: Mapping[str, Mapping[str, Resource]]

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of one type; none when the type does not occur."""
        return self.resources.get(type_url, {})

    def count(self) -> int:
        """How many resources there are over all types."""
        return sum(len(names) for names in self.resources.values())
