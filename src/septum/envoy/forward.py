"""The way to a target on another node: who may go there is known here, what it may do is decided there.

A node has only the targets that one of its own callers may reach. Each caller goes by connections of its own, on which
it proves who it is and the target's node proves to be the target. Nothing here limits how long a call takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, HttpProtocolOptions, KeepaliveSettings
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_components_pb2 import ClusterSpecifierPlugin, Route, RouteAction
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import FilterStateInput
from envoy.extensions.router.cluster_specifiers.matcher.v3.matcher_pb2 import ClusterAction, MatcherClusterSpecifier
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions
from google.protobuf.wrappers_pb2 import UInt32Value
from xds.type.matcher.v3.matcher_pb2 import Matcher

from septum.envoy import jwt, names, rbac, route, tls
from septum.envoy.cluster import UPSTREAM_OPTIONS, limits, socket_address, static
from septum.envoy.shadow import Shadow
from septum.envoy.wire import extension, matching, pack, seconds
from septum.model.mesh import Address, Mesh, Protocol, Workload

_CALLER = matching("septum.caller", FilterStateInput(key=names.CALLER))
_PLUGIN = "envoy.router.cluster_specifier_plugin.matcher"
# Seconds. A node that is gone without a word is noticed after both together, and calls to it fail.
_PING_EVERY, _PING_WITHIN = 5.0, 3.0


@dataclass(frozen=True, slots=True)
class Way:
    """How one caller goes to a target: by a server name of its own when a rule names the pair, or else as anybody."""

    caller: str
    paired: bool


def forward_cluster(mesh: Mesh, way: Way, target: Workload, inbound: Address) -> Any:
    """One caller's connections to a target on another node."""
    cluster = static(names.forward(way.caller, target.name), socket_address(inbound), target.timeouts.connect)
    cluster.circuit_breakers.CopyFrom(limits(target))
    cluster.typed_extension_protocol_options[UPSTREAM_OPTIONS].CopyFrom(pack(_http2()))
    server_name = tls.server_name(mesh, target.name, way.caller if way.paired else "")
    cluster.transport_socket.CopyFrom(tls.calling(mesh, way.caller, target.name, server_name))
    return cluster


def forward_routes(
    mesh: Mesh, target: Workload, ways: Iterable[Way], quarantined: Collection[str], shadow: Shadow | None = None
) -> Any:
    """The target's routes on a node that does not front it. Whoever has no way is denied here, and recorded.

    So a candidate is asked here too; of a call that goes on, what it says there counts.
    """
    callers = [way.caller for way in ways]
    clusters = chosen_by_caller(mesh, {caller: names.forward(caller, target.name) for caller in callers})
    onward = RouteAction(inline_cluster_specifier_plugin=clusters, timeout=seconds(0), idle_timeout=seconds(0))
    made = Route(
        route=onward,
        request_headers_to_add=[route.mark(names.FORWARDED)],
        typed_per_filter_config=_deciding(mesh, target, _allowing(mesh, target, callers, quarantined), shadow),
    )
    placed = _placed(mesh, target, made)
    return route.configuration(mesh, target, placed, list(mesh.names(target)), shadow=shadow)


def _deciding(mesh: Mesh, target: Workload, allowing: Any, shadow: Shadow | None) -> dict[str, Any]:
    if shadow is None:
        return route.policies(RBACPerRoute(rbac=RBAC(matcher=allowing)))
    asked = rbac.beside(mesh, shadow, takes_upgrades=route.websocket(mesh, target).enabled.value)
    decided = RBACPerRoute(rbac=RBAC(matcher=allowing, shadow_matcher=asked))
    return route.policies(decided, jwt.per_route(mesh, shadow.rules))


def _placed(mesh: Mesh, target: Workload, onward: Any) -> list[Any]:
    """A CONNECT to what speaks HTTP leads back inside, as for a target of this node."""
    if target.protocol is Protocol.TCP:
        onward.match.CopyFrom(route.CONNECT)
        return [onward, route.no_request()]
    onward.match.CopyFrom(route.ANY_PATH)
    onward.route.upgrade_configs.append(route.websocket(mesh, target))
    return [route.tunnel(), onward]


def _allowing(mesh: Mesh, target: Workload, callers: Iterable[str], quarantined: Collection[str]) -> Any:
    """Exactly the callers that have a way, and of them none that is quarantined."""
    onward, shut, denied = (
        _action(names.FORWARD, RbacPolicy.ALLOW),
        _action(names.QUARANTINE, RbacPolicy.DENY),
        _action(names.DENY, RbacPolicy.DENY),
    )
    ends = {caller: shut if {caller, target.name} & set(quarantined) else onward for caller in callers}
    return _by_caller(mesh, ends, denied)


def chosen_by_caller(mesh: Mesh, clusters: Mapping[str, str]) -> Any:
    """A route's cluster for each caller; there is none for anybody else."""
    ends = {
        caller: Matcher.OnMatch(action=matching("cluster", ClusterAction(cluster=cluster)))
        for caller, cluster in clusters.items()
    }
    specifier = MatcherClusterSpecifier(cluster_matcher=_by_caller(mesh, ends, None))
    return ClusterSpecifierPlugin(extension=extension(_PLUGIN, specifier))


def _by_caller(mesh: Mesh, ends: Mapping[str, Any], otherwise: Any) -> Any:
    """By filter state, as every other decision about a caller."""
    if not ends:  # Envoy refuses an empty map
        return Matcher(on_no_match=otherwise)
    branches = {str(mesh.spiffe(caller)): end for caller, end in ends.items()}
    tree = Matcher.MatcherTree(input=_CALLER, exact_match_map=Matcher.MatcherTree.MatchMap(map=branches))
    return Matcher(matcher_tree=tree, on_no_match=otherwise)


def _action(name: str, action: Any) -> Any:
    return Matcher.OnMatch(action=matching("action", Action(name=name, action=action)))


def _http2() -> Any:
    """Extended CONNECT carries WebSocket, and TCP sessions are a CONNECT each."""
    ping = KeepaliveSettings(interval=seconds(_PING_EVERY), timeout=seconds(_PING_WITHIN))
    http2 = Http2ProtocolOptions(allow_connect=True, connection_keepalive=ping)
    common = HttpProtocolOptions(idle_timeout=seconds(60), max_headers_count=UInt32Value(value=1000))
    explicit = UpstreamOptions.ExplicitHttpConfig(http2_protocol_options=http2)
    return UpstreamOptions(common_http_protocol_options=common, explicit_http_config=explicit)
