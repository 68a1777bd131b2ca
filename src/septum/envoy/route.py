"""One RouteConfiguration a target, found by scope: the change of one rule is the change of one resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption, Metadata
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue

from septum.envoy import names, rbac
from septum.envoy.wire import pack, seconds
from septum.model.mesh import Mesh, Mode, Protocol, Workload
from septum.model.policy import Rule

_ANY_PATH = RouteMatch(prefix="/")
_CONNECT = RouteMatch(connect_matcher=RouteMatch.ConnectMatcher())
_MARK = HeaderValueOption(
    header=HeaderValue(key=names.TUNNEL_HEADER, value="1"),
    append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
)
_TERMINATE = RouteAction.UpgradeConfig(upgrade_type="CONNECT", connect_config=RouteAction.UpgradeConfig.ConnectConfig())


def route_configuration(mesh: Mesh, target: Workload, rules: Sequence[Rule], slice_digest: str) -> Any:
    """Where requests to the target go, and what of them the rules open. `slice_digest` names these rules in records."""
    policy = rbac.per_route(mesh, target, rules)
    routes = _tcp(target, policy) if target.protocol is Protocol.TCP else _http(mesh, target, policy)
    metadata = _metadata(mesh, target, slice_digest)
    for route in routes:
        route.metadata.CopyFrom(metadata)
    return RouteConfiguration(
        name=target.name,
        virtual_hosts=[VirtualHost(name=target.name, domains=["*"], routes=routes)],
        request_headers_to_remove=[names.INSIDE_HEADER, "x-envoy-external-address"],
    )


def scope(authority: str, target: str) -> Any:
    """The scope that leads requests for one `:authority` to the target's routes."""
    fragment = ScopedRouteConfiguration.Key.Fragment(string_key=authority)
    key = ScopedRouteConfiguration.Key(fragments=[fragment])
    return ScopedRouteConfiguration(name=authority, route_configuration_name=target, key=key)


def _http(mesh: Mesh, target: Workload, policy: Any) -> list[Any]:
    """A CONNECT leads back inside, where each request in the tunnel is decided; everything else is decided here."""
    into = RouteAction(cluster_header=names.INSIDE_HEADER, timeout=seconds(0), upgrade_configs=[_TERMINATE])
    tunnel = Route(name=names.TUNNEL, match=_CONNECT, route=into, typed_per_filter_config=_rbac(rbac.tunnel()))
    tunnel.request_headers_to_add.append(_MARK)
    to_target = RouteAction(
        cluster=target.name,
        timeout=seconds(target.timeouts.request),
        idle_timeout=seconds(target.timeouts.idle),
        upgrade_configs=[_websocket(mesh, target)],
    )
    return [tunnel, Route(match=_ANY_PATH, route=to_target, typed_per_filter_config=_rbac(policy))]


def _websocket(mesh: Mesh, target: Workload) -> Any:
    enabled = target.protocol is Protocol.HTTP and (target.websocket or mesh.mode(target) is Mode.OBSERVE)
    return RouteAction.UpgradeConfig(upgrade_type="websocket", enabled=BoolValue(value=enabled))


def _tcp(target: Workload, policy: Any) -> list[Any]:
    session = RouteAction(
        cluster=target.name,
        timeout=seconds(0),
        idle_timeout=seconds(target.timeouts.idle),
        upgrade_configs=[_TERMINATE],
    )
    refused = DirectResponseAction(status=403, body=DataSource(inline_string=""))
    return [
        Route(match=_CONNECT, route=session, typed_per_filter_config=_rbac(policy)),
        Route(match=_ANY_PATH, direct_response=refused, typed_per_filter_config=_rbac(rbac.denied())),
    ]


def _rbac(per_route: Any) -> dict[str, Any]:
    return {names.RBAC_FILTER: pack(per_route)}


def _metadata(mesh: Mesh, target: Workload, slice_digest: str) -> Any:
    fields = Struct()
    fields.update({"target": target.name, "mode": str(mesh.mode(target)), "slice": slice_digest})
    return Metadata(filter_metadata={names.METADATA: fields})
