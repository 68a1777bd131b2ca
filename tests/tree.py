"""Reads compiled RouteConfigurations as Envoy does, so that laws can be tried without starting one.

Only what the compiler emits is understood; anything else raises. The square checks the same against a real Envoy.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute
from xds.type.matcher.v3.cel_pb2 import CelMatcher

from septum.envoy import names

Inputs = dict[str, str]


def outcome(matcher: Any, inputs: Inputs) -> tuple[bool, str]:
    """Whether the tree allows, and the name of the action it ends in."""
    found = _found(matcher, inputs)
    action = Action()
    assert found.action.typed_config.Unpack(action), found
    return action.action == RbacPolicy.ALLOW, action.name


def _found(matcher: Any, inputs: Inputs) -> Any:
    on = _matched(matcher, inputs)
    if on is not None:
        if not on.HasField("matcher"):
            return on
        return _found(on.matcher, inputs)
    otherwise = matcher.on_no_match
    return _found(otherwise.matcher, inputs) if otherwise.HasField("matcher") else otherwise


def _matched(matcher: Any, inputs: Inputs) -> Any:
    kind = matcher.WhichOneof("matcher_type")
    if kind == "matcher_list":
        return next((row.on_match for row in matcher.matcher_list.matchers if _holds(row.predicate, inputs)), None)
    if kind == "matcher_tree":
        value = inputs.get(matcher.matcher_tree.input.name)
        if matcher.matcher_tree.WhichOneof("tree_type") == "exact_match_map":
            branches = matcher.matcher_tree.exact_match_map.map
            return branches[value] if value in branches else None  # noqa: SIM401 - a protobuf map adds what get asks for
        branches = matcher.matcher_tree.prefix_match_map.map
        prefixes = [prefix for prefix in branches if value is not None and value.startswith(prefix)]
        return branches[max(prefixes, key=len)] if prefixes else None
    assert kind is None, kind
    return None


def _holds(predicate: Any, inputs: Inputs) -> bool:
    if predicate.HasField("and_matcher"):
        return all(_holds(part, inputs) for part in predicate.and_matcher.predicate)
    single = predicate.single_predicate
    value = inputs.get(single.input.name)
    if value is None:
        return False
    if single.HasField("custom_match"):
        window = CelMatcher()
        assert single.custom_match.typed_config.Unpack(window), single
        return bool(_computed(window.expr_match.cel_expr_parsed.expr, float(value)))
    matcher = single.value_match
    match matcher.WhichOneof("match_pattern"):
        case "safe_regex":
            return re.fullmatch(matcher.safe_regex.regex.replace(r"\C", r"[\s\S]"), value) is not None
        case "contains":
            return matcher.contains in value
        case "prefix":
            return value.startswith(matcher.prefix)
        case kind:
            raise AssertionError(kind)


def _computed(expression: Any, time: float) -> float:
    """What an expression in CEL amounts to for a request that starts at a time."""
    match expression.WhichOneof("expr_kind"):
        case "const_expr":
            assert expression.const_expr.WhichOneof("constant_kind") == "int64_value", expression
            return int(expression.const_expr.int64_value)
        case "select_expr":
            select = expression.select_expr
            assert (select.operand.ident_expr.name, select.field) == ("request", "time"), expression
            return time
        case "call_expr":
            function = expression.call_expr.function
            return _FUNCTIONS[function](*(_computed(argument, time) for argument in expression.call_expr.args))
        case kind:
            raise AssertionError(kind)


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "int": int,
    "_>=_": operator.ge,
    "_<_": operator.lt,
    "_&&_": operator.and_,
}


@lru_cache(maxsize=64)
def policy_of(body: bytes) -> Any:
    """The RBAC of the route that leads to the target: the last one for HTTP and gRPC, the first for TCP."""
    host = RouteConfiguration.FromString(body).virtual_hosts[0]
    route = host.routes[1] if host.routes[1].route.cluster else host.routes[0]
    per_route = RBACPerRoute()
    assert route.typed_per_filter_config[names.RBAC_FILTER].Unpack(per_route)
    return per_route.rbac


def forwarding_of(body: bytes) -> list[Any]:
    """The RBAC of each route that leads to another node."""
    found = []
    for route in RouteConfiguration.FromString(body).virtual_hosts[0].routes:
        if route.route.HasField("inline_cluster_specifier_plugin"):
            per_route = RBACPerRoute()
            assert route.typed_per_filter_config[names.RBAC_FILTER].Unpack(per_route)
            found.append(per_route.rbac)
    return found
