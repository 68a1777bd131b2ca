"""The resource types of a snapshot, and the one order in which they are sent and taken away."""

from __future__ import annotations

_PREFIX = "type.googleapis.com/envoy.config."
LISTENER = _PREFIX + "listener.v3.Listener"
CLUSTER = _PREFIX + "cluster.v3.Cluster"
ROUTE = _PREFIX + "route.v3.RouteConfiguration"
SCOPE = _PREFIX + "route.v3.ScopedRouteConfiguration"

# Make before break: a thing is there before what points to it. Envoy works through one stream's responses in order, so
# the order of sending is enough. Listeners come last: none opens before its routes and clusters.
MAKE = (CLUSTER, ROUTE, SCOPE, LISTENER)
# What points goes before what it points to, and only when everything made before has been acknowledged.
BREAK = tuple(reversed(MAKE))
