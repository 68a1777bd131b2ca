"""The lint refuses every way in which Envoy would be open by omission: real resources, each broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.any_pb2 import Any as AnyMessage

from septum.envoy import names
from septum.envoy.compile import Compiler, Front
from septum.envoy.lint import LintError, consistent, lint
from septum.envoy.shadow import Candidate
from septum.envoy.wire import pack
from septum.model.resource_types import LISTENER, ROUTE
from septum.policy.load import load

FILES = {
    "septum.yaml": b"""
mesh: lab
trust_domain: lab.test
segments: {core: all, seen: observed}
workloads:
  web: {segment: core, at: 127.0.0.1:1, protocol: http, outbound: 127.0.0.1:2, dials: {store: 127.0.0.1:3}}
  store: {segment: core, at: 127.0.0.1:4, protocol: tcp, outbound: 127.0.0.1:5}
  old: {segment: seen, at: 127.0.0.1:6, protocol: http, outbound: 127.0.0.1:7}
enforce: [core]
""",
    "policy/a.yaml": b'allow: [{from: web, to: web, http: ["GET /a/{b}", "* /c/**", GET /d]}, {from: web, to: store}]',
}


def _resource(type_url: str, name: str, *, candidate: bool = False) -> Any:
    policy = load(FILES).policy
    assert policy is not None
    beside = Candidate(policy, policy.version) if candidate else None
    front = Front("n", tuple(policy.mesh.workloads), {}, "decisions.jsonl", candidate=beside)
    body = Compiler().compile(policy, front).of(type_url)[name].body
    return (Listener if type_url == LISTENER else RouteConfiguration).FromString(body)


def _with_manager(change: Callable[[Any], None]) -> Any:
    listener = _resource(LISTENER, "outbound/web")
    last = listener.filter_chains[0].filters[-1].typed_config
    manager = HttpConnectionManager()
    last.Unpack(manager)
    change(manager)
    last.CopyFrom(pack(manager))
    return listener


def _empty_base(manager: Any) -> None:
    manager.http_filters[0].typed_config.CopyFrom(pack(RBAC()))


def _no_rbac(manager: Any) -> None:
    del manager.http_filters[0]


def _router_first(manager: Any) -> None:
    rbac = manager.http_filters.pop(0)
    manager.http_filters.append(rbac)


def _disabled(manager: Any) -> None:
    manager.http_filters[0].disabled = True


def _own_upgrade_chain(manager: Any) -> None:
    manager.upgrade_configs[0].filters.append(manager.http_filters[1])


def _unrecorded(manager: Any) -> None:
    del manager.access_log[:]


def _not_normalised(manager: Any) -> None:
    manager.merge_slashes = False


@pytest.mark.parametrize(
    "change", [_empty_base, _no_rbac, _router_first, _disabled, _own_upgrade_chain, _unrecorded, _not_normalised]
)
def test_a_connection_manager_that_is_open_is_refused(change: Callable[[Any], None]) -> None:
    with pytest.raises(LintError):
        lint(_with_manager(change))


def test_a_raw_session_that_does_not_lead_inside_is_refused() -> None:
    listener = _resource(LISTENER, "dial/web/store")
    lint(listener)
    config = listener.filter_chains[0].filters[0].typed_config
    proxy = TcpProxy()
    config.Unpack(proxy)
    proxy.cluster = "store"
    config.CopyFrom(pack(proxy))
    with pytest.raises(LintError):
        lint(listener)


def _rbac_of(route: Any) -> Any:
    per_route = RBACPerRoute()
    route.typed_per_filter_config[names.RBAC_FILTER].Unpack(per_route)
    return per_route


def _put(route: Any, per_route: Any) -> None:
    route.typed_per_filter_config[names.RBAC_FILTER].CopyFrom(pack(per_route))


def _empty(route: Any) -> None:
    _put(route, RBACPerRoute())


def _empty_rbac(route: Any) -> None:
    _put(route, RBACPerRoute(rbac=RBAC()))


def _misnamed(route: Any) -> None:
    route.typed_per_filter_config["envoy.filters.http.rbacs"].CopyFrom(route.typed_per_filter_config[names.RBAC_FILTER])


def _without(route: Any) -> None:
    route.typed_per_filter_config.clear()


def _another_type(route: Any) -> None:
    route.typed_per_filter_config[names.RBAC_FILTER].CopyFrom(AnyMessage(type_url="type.googleapis.com/x.Y"))


def _no_fall_through(route: Any) -> None:
    per_route = _rbac_of(route)
    per_route.rbac.matcher.ClearField("on_no_match")
    _put(route, per_route)


def _no_fall_through_below(route: Any) -> None:
    per_route = _rbac_of(route)
    by_caller = per_route.rbac.matcher.on_no_match.matcher.matcher_tree
    for branch in by_caller.exact_match_map.map.values():
        branch.matcher.ClearField("on_no_match")
    _put(route, per_route)


def _open_beneath(route: Any) -> None:
    per_route = _rbac_of(route)
    opened = _rbac_of(_resource(ROUTE, "old").virtual_hosts[0].routes[1]).rbac.matcher
    per_route.rbac.matcher.on_no_match.CopyFrom(opened.on_no_match)
    _put(route, per_route)


@pytest.mark.parametrize(
    "change",
    [
        _empty,
        _empty_rbac,
        _misnamed,
        _without,
        _another_type,
        _no_fall_through,
        _no_fall_through_below,
        _open_beneath,
    ],
)
def test_a_route_that_is_open_is_refused(change: Callable[[Any], None]) -> None:
    routes = _resource(ROUTE, "web")
    lint(routes)
    change(routes.virtual_hosts[0].routes[1])
    with pytest.raises(LintError):
        lint(routes)


def _tree(route: Any) -> tuple[Any, Any]:
    """The policy of a route, and the tree in it."""
    per_route = _rbac_of(route)
    return per_route, per_route.rbac.matcher.on_no_match.matcher


def _a_level_denies(route: Any) -> None:
    per_route, tree = _tree(route)
    tree.on_no_match.action.typed_config.CopyFrom(pack(Action(name=names.DENY, action=RbacPolicy.DENY)))
    _put(route, per_route)


def _a_branch_denies(route: Any) -> None:
    per_route = _rbac_of(route)
    upgrade = per_route.rbac.matcher.matcher_list.matchers[0].on_match
    upgrade.action.typed_config.CopyFrom(pack(Action(name=names.DENY, action=RbacPolicy.DENY)))
    _put(route, per_route)


def _no_end(route: Any) -> None:
    per_route, tree = _tree(route)
    tree.ClearField("on_no_match")
    _put(route, per_route)


def _a_rule_for_the_rest(route: Any) -> None:
    per_route, tree = _tree(route)
    tree.on_no_match.action.typed_config.CopyFrom(pack(Action(name="a-rule", action=RbacPolicy.ALLOW)))
    _put(route, per_route)


def _enforced(route: Any) -> None:
    route.metadata.filter_metadata[names.METADATA]["mode"] = "enforce"


def _of_no_mode(route: Any) -> None:
    route.ClearField("metadata")


@pytest.mark.parametrize(
    "change", [_a_level_denies, _a_branch_denies, _no_end, _a_rule_for_the_rest, _enforced, _of_no_mode]
)
def test_what_is_observed_only_passes_and_only_where_its_route_says_so(change: Callable[[Any], None]) -> None:
    routes = _resource(ROUTE, "old")
    lint(routes)
    change(routes.virtual_hosts[0].routes[1])
    with pytest.raises(LintError):
        lint(routes)


def test_a_branch_of_an_enforced_tree_that_passes_as_observed_is_refused() -> None:
    routes = _resource(ROUTE, "web")
    route = routes.virtual_hosts[0].routes[1]
    per_route = _rbac_of(route)
    readable = per_route.rbac.matcher.matcher_list.matchers[0].on_match
    readable.action.typed_config.CopyFrom(pack(Action(name=names.OBSERVE, action=RbacPolicy.ALLOW)))
    _put(route, per_route)
    with pytest.raises(LintError):
        lint(routes)


def _without_a_name(route: Any) -> None:
    del route.metadata.filter_metadata[names.METADATA].fields[names.CANDIDATE]


def _open_candidate(route: Any) -> None:
    per_route = _rbac_of(route)
    per_route.rbac.shadow_matcher.ClearField("on_no_match")
    _put(route, per_route)


@pytest.mark.parametrize("change", [_without_a_name, _open_candidate])
@pytest.mark.parametrize("target", ["web", "old", "store"])
def test_a_candidate_has_a_name_and_denies_what_it_does_not_allow(change: Callable[[Any], None], target: str) -> None:
    routes = _resource(ROUTE, target, candidate=True)
    lint(routes)
    change(routes.virtual_hosts[0].routes[0 if target == "store" else 1])
    with pytest.raises(LintError):
        lint(routes)


def test_the_way_inside_may_only_lead_inside() -> None:
    routes = _resource(ROUTE, "web")
    routes.virtual_hosts[0].routes[0].route.cluster = "web"
    with pytest.raises(LintError):
        lint(routes)


def test_what_points_nowhere_is_refused() -> None:
    references = lint(_resource(ROUTE, "web"))
    assert references == (("cluster", "web"),)
    with pytest.raises(LintError, match="cluster web"):
        consistent([("web", references[0])], {"cluster": {"other"}, "route": set()})
