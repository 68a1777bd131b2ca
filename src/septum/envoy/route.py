"""One RouteConfiguration a target, found by scope: the change of one rule is the change of one resource."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption, Metadata
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue
from xds.type.matcher.v3.matcher_pb2 import Matcher

from septum.envoy import jwt, names, rbac
from septum.envoy.shadow import Shadow
from septum.envoy.wire import matching, pack, seconds
from septum.model.mesh import Mesh, Mode, Protocol, Target, Workload
from septum.model.policy import Policy, Rule
from septum.policy.digest import slice_of

ANY_PATH = RouteMatch(prefix="/")
CONNECT = RouteMatch(connect_matcher=RouteMatch.ConnectMatcher())
TERMINATE = RouteAction.UpgradeConfig(upgrade_type="CONNECT", connect_config=RouteAction.UpgradeConfig.ConnectConfig())
# RFC 9110, section 15.5.20.
MISDIRECTED_REQUEST = 421


def route_configuration(
    policy: Policy, target: Workload, quarantined: Collection[str] = (), shadow: Shadow | None = None
) -> Any:
    """Where requests to the target go, and what of them the rules open; `quarantined` are those it concerns."""
    mesh, rules = policy.mesh, policy.rules_to[target.name]
    opened = opening(mesh, target, rules, quarantined, shadow)
    routes = _tcp(target, opened) if target.protocol is Protocol.TCP else _http(mesh, target, opened)
    return configuration(mesh, target, routes, _domains(mesh, target), slice_of(policy, target.name), shadow)


def opening(
    mesh: Mesh, target: Target, rules: Sequence[Rule], quarantined: Collection[str], shadow: Shadow | None
) -> dict[str, Any]:
    """What the routes to a target say to the filters: what the rules open, and what a candidate would."""
    decided = rbac.per_route(mesh, target, rules, quarantined, shadow)
    return policies(decided, jwt.per_route(mesh, [*rules, *(shadow.rules if shadow else ())]))


def configuration(
    mesh: Mesh,
    target: Target,
    routes: Sequence[Any],
    domains: Sequence[str],
    slice: str = "",
    shadow: Shadow | None = None,
) -> Any:
    """The routes under the target's name. `slice` names, in records, the rules that they carry.

    In a mesh of many nodes the inbound listener leads here by server name alone, so `:authority` is compared with
    `domains` here; elsewhere a scope has done that.
    """
    hosts = [VirtualHost(name=target.name, domains=domains if mesh.nodes else ["*"], routes=routes)]
    if mesh.nodes:
        hosts.append(VirtualHost(name=names.MISDIRECTED, domains=["*"], routes=_misdirected()))
    metadata = _metadata(mesh, target, slice, shadow.version if shadow else "")
    for made in (made for host in hosts for made in host.routes):
        made.metadata.CopyFrom(metadata)
    return RouteConfiguration(
        name=target.name,
        virtual_hosts=hosts,
        request_headers_to_remove=[names.INSIDE_HEADER, "x-envoy-external-address"],
    )


def scope(authority: str, target: str) -> Any:
    """The scope that leads requests for one `:authority` to the target's routes."""
    fragment = ScopedRouteConfiguration.Key.Fragment(string_key=authority)
    key = ScopedRouteConfiguration.Key(fragments=[fragment])
    return ScopedRouteConfiguration(name=authority, route_configuration_name=target, key=key)


@lru_cache(maxsize=1)
def tunnel() -> Any:
    """A CONNECT to what speaks HTTP leads back inside, where each request in the tunnel is decided."""
    into = RouteAction(cluster_header=names.INSIDE_HEADER, timeout=seconds(0), upgrade_configs=[TERMINATE])
    made = Route(name=names.TUNNEL, match=CONNECT, route=into, typed_per_filter_config=policies(rbac.tunnel()))
    made.request_headers_to_add.append(mark("1"))
    return made


@lru_cache(maxsize=1)
def no_request() -> Any:
    """What speaks TCP takes no requests."""
    refused = DirectResponseAction(status=403, body=DataSource(inline_string=""))
    return Route(match=ANY_PATH, direct_response=refused, typed_per_filter_config=policies(rbac.denied()))


def websocket(mesh: Mesh, target: Target) -> Any:
    """Whether the target takes WebSocket; where it is only observed, whether or not it says so."""
    enabled = target.protocol is Protocol.HTTP and (target.websocket or mesh.mode(target) is Mode.OBSERVE)
    return RouteAction.UpgradeConfig(upgrade_type="websocket", enabled=BoolValue(value=enabled))


def mark(value: str) -> Any:
    """A call that goes to where it is decided is logged there."""
    header = HeaderValue(key=names.TUNNEL_HEADER, value=value)
    return HeaderValueOption(header=header, append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)


def policies(rbac: Any, tokens: Any = None) -> dict[str, Any]:
    """What a route says to the filters: who may what, and, if its rules ask for them, that tokens be looked at."""
    return {names.RBAC_FILTER: pack(rbac)} | ({} if tokens is None else {jwt.FILTER: pack(tokens)})


def _http(mesh: Mesh, target: Workload, opened: dict[str, Any]) -> list[Any]:
    to_target = RouteAction(
        cluster=target.name,
        timeout=seconds(target.timeouts.request),
        idle_timeout=seconds(target.timeouts.idle),
        upgrade_configs=[websocket(mesh, target)],
    )
    return [tunnel(), Route(match=ANY_PATH, route=to_target, typed_per_filter_config=opened)]


def _tcp(target: Workload, opened: dict[str, Any]) -> list[Any]:
    session = RouteAction(
        cluster=target.name,
        timeout=seconds(0),
        idle_timeout=seconds(target.timeouts.idle),
        upgrade_configs=[TERMINATE],
    )
    return [Route(match=CONNECT, route=session, typed_per_filter_config=opened), no_request()]


def _domains(mesh: Mesh, target: Workload) -> list[str]:
    """Every `:authority` of the target on its node.

    A client with a certificate of its own also names the port of the node's inbound listener, where it connects to.
    """
    if target.node not in mesh.nodes:
        return list(mesh.authorities(target))
    port = mesh.nodes[target.node].inbound.port
    dialled = (f"{target.name}:{port}", f"{target.name}.{mesh.trust_domain}:{port}")
    # Envoy compares domains without regard to case, and refuses the same one twice.
    return list(dict.fromkeys((*mesh.authorities(target), *dialled)))


@lru_cache(maxsize=1)
def _misdirected() -> list[Any]:
    """The connection's server name says one target and the request another (RFC 9110, section 7.4)."""
    answer = DirectResponseAction(status=MISDIRECTED_REQUEST)
    policy = policies(_open_to_an_answer())
    return [Route(match=match, direct_response=answer, typed_per_filter_config=policy) for match in (CONNECT, ANY_PATH)]


def _open_to_an_answer() -> Any:
    """Opens the way to an answer that Envoy makes itself, and to nothing else."""
    action = Action(name=names.MISDIRECTED, action=RbacPolicy.ALLOW)
    on_match = Matcher.OnMatch(action=matching("action", action))
    return RBACPerRoute(rbac=RBAC(matcher=Matcher(on_no_match=on_match)))


def _metadata(mesh: Mesh, target: Target, slice: str, candidate: str) -> Any:
    named = {"slice": slice, names.CANDIDATE: candidate}
    fields = Struct()
    fields.update({"target": target.name, "mode": str(mesh.mode(target))})
    fields.update({name: value for name, value in named.items() if value})
    return Metadata(filter_metadata={names.METADATA: fields})
