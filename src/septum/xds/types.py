"""The resource types a node may ask for, and the words for what is known about one resource."""

from __future__ import annotations

from dataclasses import dataclass

_PREFIX = "type.googleapis.com/envoy."
CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
SECRET = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
EXTENSION = _PREFIX + "config.core.v3.TypedExtensionConfig"
LISTENER = _PREFIX + "config.listener.v3.Listener"
ROUTE = _PREFIX + "config.route.v3.RouteConfiguration"
SCOPE = _PREFIX + "config.route.v3.ScopedRouteConfiguration"

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
