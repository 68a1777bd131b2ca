"""The resource types a node may ask for, and the words for what is known about one resource."""

from __future__ import annotations

from dataclasses import dataclass

from septum.model.resource_types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, SCOPE, SECRET

# What the protocol is spoken about, and the names by which others know it here.
__all__ = [
    "ALL", "CLUSTER", "ENDPOINT", "EXCLUSIVE", "EXTENSION", "LISTENER", "ON_DEMAND", "ROUTE", "SCOPE", "SECRET",
    "WILDCARD", "Key", "Refusal",
]  # fmt: skip

# Envoy asks for all resources of these types, and for the others by name.
WILDCARD = frozenset({CLUSTER, LISTENER, SCOPE})
# Two resources of these types can claim one thing (an address, a scope key), and nothing refers to them.
EXCLUSIVE = frozenset({LISTENER, SCOPE})
# Nothing is missing where nobody asks for one of these: a certificate is made before anything uses it.
ON_DEMAND = frozenset({SECRET})

ALL = "*"

# Type URL and name.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that Envoy refused, and why. `version` is None when what was refused is its removal."""

    type_url: str
    name: str
    version: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.type_url.rpartition('.')[2]} {self.name}: {self.reason}"
