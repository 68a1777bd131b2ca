"""The type URLs of the xDS resources that make up a snapshot. Nothing but their names is known here."""

from __future__ import annotations

_PREFIX = "type.googleapis.com/envoy."
CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
SECRET = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
EXTENSION = _PREFIX + "config.core.v3.TypedExtensionConfig"
LISTENER = _PREFIX + "config.listener.v3.Listener"
ROUTE = _PREFIX + "config.route.v3.RouteConfiguration"
SCOPE = _PREFIX + "config.route.v3.ScopedRouteConfiguration"
