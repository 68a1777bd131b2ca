"""Places outside the mesh: where they are, and what of them the rules open to the callers of one node.

The call is decided and recorded here, on the caller's node, since nothing at the other end would do it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions

from septum.envoy import names, route
from septum.envoy.cluster import UPSTREAM_OPTIONS, http1_options
from septum.envoy.forward import chosen_by_caller
from septum.envoy.host import SYSTEM_ROOTS, checked, host_cluster
from septum.envoy.shadow import Shadow, among
from septum.envoy.wire import pack, seconds
from septum.model.mesh import External, Mesh, Protocol, Timeouts
from septum.model.policy import Policy
from septum.policy.digest import slice_of

# Seconds for a connection, TLS handshake included: what is outside may be far away.
_CONNECT = 5.0
_TLS_PORT, _PLAIN_PORT = 443, 80


def place_cluster(place: External, roots: str = SYSTEM_ROOTS) -> Any:
    """The connections to a place. `roots` is the file of those who may sign its certificate, if it does not say."""
    name = names.gated(place.name) if place.sni else names.outside(place.name)
    cluster = host_cluster(name, place.host, place.port, _CONNECT)
    if place.originate_tls:
        trusted = DataSource(inline_string=place.ca) if place.ca else DataSource(filename=roots)
        cluster.transport_socket.CopyFrom(checked(place.host, trusted, ("h2", "http/1.1")))
    if place.protocol is Protocol.HTTP:
        cluster.typed_extension_protocol_options[UPSTREAM_OPTIONS].CopyFrom(pack(_http_options(place)))
    return cluster


def place_routes(
    policy: Policy,
    place: External,
    callers: Collection[str],
    quarantined: Collection[str],
    shadow: Shadow | None = None,
) -> Any:
    """What the rules open on a place to these callers; `quarantined` are those it concerns.

    To nobody, where it is a candidate that would: then there is no way to the place either.
    """
    mesh = policy.mesh
    rules = list(among(policy.rules_to[place.name], callers))
    opened = route.opening(mesh, place, rules, quarantined, shadow)
    tcp = place.protocol is Protocol.TCP
    routes = _tcp(mesh, place, callers, opened) if tcp else _http(mesh, place, callers, opened)
    return route.configuration(mesh, place, routes, list(place.names), slice_of(policy, place.name), shadow)


def _http(mesh: Mesh, place: External, callers: Collection[str], opened: dict[str, Any]) -> list[Any]:
    """Whatever name callers use, the host hears its own; and nothing of how they came to the proxy."""
    outward = RouteAction(
        host_rewrite_literal=_authority(place),
        timeout=seconds(0),
        idle_timeout=seconds(Timeouts().idle),
        upgrade_configs=[route.websocket(mesh, place)],
    )
    _lead(mesh, outward, names.outside(place.name), callers)
    made = Route(match=route.ANY_PATH, route=outward, typed_per_filter_config=opened)
    made.request_headers_to_remove.append("x-forwarded-proto")
    return [route.tunnel(), made]


def _tcp(mesh: Mesh, place: External, callers: Collection[str], opened: dict[str, Any]) -> list[Any]:
    session = RouteAction(timeout=seconds(0), idle_timeout=seconds(Timeouts().idle), upgrade_configs=[route.TERMINATE])
    if place.sni:
        gates = {caller: names.gate(caller, place.name) for caller in callers}
        session.inline_cluster_specifier_plugin.CopyFrom(chosen_by_caller(mesh, gates))
    else:
        _lead(mesh, session, names.outside(place.name), callers)
    return [Route(match=route.CONNECT, route=session, typed_per_filter_config=opened), route.no_request()]


def _lead(mesh: Mesh, action: Any, cluster: str, callers: Collection[str]) -> None:
    """To the cluster, if there is somebody whom a route lets through."""
    if callers:
        action.cluster = cluster
    else:
        action.inline_cluster_specifier_plugin.CopyFrom(chosen_by_caller(mesh, {}))


def _authority(place: External) -> str:
    """How the host is named in a request to it; its scheme's own port goes without saying (RFC 9110, section 4.2)."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port == (_TLS_PORT if place.originate_tls else _PLAIN_PORT) else f"{host}:{place.port}"


def _http_options(place: External) -> Any:
    """HTTP/2 where the host chooses it in the handshake, and HTTP/1.1 otherwise."""
    options = UpstreamOptions()
    options.common_http_protocol_options.idle_timeout.CopyFrom(seconds(60))
    options.common_http_protocol_options.max_headers_count.value = 1000
    if place.originate_tls:
        options.auto_config.http_protocol_options.CopyFrom(http1_options())
        options.auto_config.http2_protocol_options.CopyFrom(Http2ProtocolOptions())
    else:
        options.explicit_http_config.http_protocol_options.CopyFrom(http1_options())
    return options
