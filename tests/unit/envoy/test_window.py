"""Windows as the compiler writes them: nothing where there are none, one comparison where there are, and all linted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cel.expr.syntax_pb2 import Constant, Expr
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from xds.type.matcher.v3.cel_pb2 import CelMatcher
from xds.type.matcher.v3.matcher_pb2 import Matcher

from septum.envoy import names, rbac, window
from septum.envoy.lint import LintError, lint
from septum.envoy.wire import pack
from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Rule
from septum.model.window import Window

WEB, API, STORE = (
    Workload(name, "core", Address("127.0.0.1", port), protocol)
    for port, (name, protocol) in enumerate(
        (("web", Protocol.HTTP), ("api", Protocol.HTTP), ("store", Protocol.TCP)), start=1
    )
)
MESH = Mesh("m", "m.test", {"core": Segment("core")}, {one.name: one for one in (WEB, API, STORE)}, frozenset({"core"}))
OPEN, OVER = Window(until=2_000_000_000), Window(1_000_000_000, 1_000_000_001)


def rule(operations: str, *, window: Window | None = None, target: str = "api") -> Rule:
    patterns = tuple(HttpPattern.parse(text) for text in operations.split(", ")) if operations else None
    return Rule(operations or "connect", ("web",), (target,), patterns, window=window)


def predicates(matcher: Any) -> Iterator[Any]:
    """Every predicate of a tree, those inside of others too."""
    for row in matcher.matcher_list.matchers:
        yield from inner(row.predicate)
        yield from predicates(row.on_match.matcher)
    tree = matcher.matcher_tree
    for on in (*tree.exact_match_map.map.values(), *tree.prefix_match_map.map.values(), matcher.on_no_match):
        if on.HasField("matcher"):
            yield from predicates(on.matcher)


def inner(predicate: Any) -> Iterator[Any]:
    parts = predicate.and_matcher.predicate
    yield from (found for part in parts for found in inner(part)) if parts else (predicate,)


def windows(made: Any) -> int:
    return sum(1 for predicate in predicates(made.rbac.matcher) if window.is_window(predicate))


def linted(made: Any) -> None:
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster="api"))
    route.metadata.filter_metadata[names.METADATA].update({"mode": "enforce", names.CANDIDATE: "v"})
    route.typed_per_filter_config[names.RBAC_FILTER].CopyFrom(pack(made))
    host = VirtualHost(name="api", domains=["*"], routes=[route])
    lint(RouteConfiguration(name="api", virtual_hosts=[host]))


@pytest.mark.parametrize("one", [OPEN, OVER, Window(7), Window(7, 8)])
def test_a_window_is_read_back_as_what_it_was_written(one: Window) -> None:
    assert window.is_window(window.inside(one))


@pytest.mark.parametrize("operations", ["GET /a", "GET /a/{x}", "GET /b/**", "GET /a, GET /a/{x}, POST /{x}/c/**", ""])
def test_only_rules_with_a_window_ask_for_the_time(operations: str) -> None:
    target = API if operations else STORE
    plain, ends = (rule(operations, window=one, target=target.name) for one in (None, OPEN))
    assert windows(rbac.per_route(MESH, target, [plain])) == 0
    made = rbac.per_route(MESH, target, [ends])
    assert windows(made) > 0
    linted(made)
    # What it opens for a while, a rule that stands before it opens always.
    assert windows(rbac.per_route(MESH, target, [plain, ends])) <= windows(made)


def test_a_rule_that_is_over_is_compiled_as_any_other() -> None:
    """The compiler has no clock, so the same policy is always the same resources."""
    over, ends = (rbac.per_route(MESH, API, [rule("GET /a/{x}", window=one)]) for one in (OVER, OPEN))
    assert windows(over) == windows(ends) == 1
    linted(over)


def _negated(predicate: Any) -> None:
    inside = Matcher.MatcherList.Predicate()
    inside.CopyFrom(predicate)
    predicate.CopyFrom(Matcher.MatcherList.Predicate(not_matcher=inside))


def _either(predicate: Any) -> None:
    inside = Matcher.MatcherList.Predicate()
    inside.CopyFrom(predicate)
    both = Matcher.MatcherList.Predicate.PredicateList(predicate=[inside, inside])
    predicate.CopyFrom(Matcher.MatcherList.Predicate(or_matcher=both))


def _always(predicate: Any) -> None:
    _put(predicate, Expr(const_expr=Constant(bool_value=True)))


def _turned(predicate: Any) -> None:
    asked = CelMatcher()
    predicate.single_predicate.custom_match.typed_config.Unpack(asked)
    asked.expr_match.cel_expr_parsed.expr.call_expr.function = "_>_"
    predicate.single_predicate.custom_match.typed_config.CopyFrom(pack(asked))


def _of_a_header(predicate: Any) -> None:
    request = Expr(ident_expr=Expr.Ident(name="request"))
    headers = Expr(select_expr=Expr.Select(operand=request, field="headers"))
    key = Expr(const_expr=Constant(string_value="date"))
    value = Expr(call_expr=Expr.Call(function="_[_]", args=[headers, key]))
    end = Expr(const_expr=Constant(int64_value=2_000_000_000))
    seconds = Expr(call_expr=Expr.Call(function="int", args=[value]))
    _put(predicate, Expr(call_expr=Expr.Call(function="_<_", args=[seconds, end])))


def _of_another_kind(predicate: Any) -> None:
    predicate.single_predicate.custom_match.typed_config.CopyFrom(pack(RbacPolicy()))


def _put(predicate: Any, expression: Expr) -> None:
    made = CelMatcher()
    made.expr_match.cel_expr_parsed.expr.CopyFrom(expression)
    predicate.single_predicate.custom_match.typed_config.CopyFrom(pack(made))


@pytest.mark.parametrize("change", [_negated, _either, _always, _turned, _of_a_header, _of_another_kind])
@pytest.mark.parametrize("shadow", [False, True])
def test_a_row_that_asks_for_anything_else_is_not_sent(change: Any, shadow: bool) -> None:
    made = rbac.per_route(MESH, API, [rule("GET /a/{x}", window=OPEN), rule("POST /a", window=replace(OPEN, until=9))])
    if shadow:
        made.rbac.shadow_matcher.CopyFrom(made.rbac.matcher)
    linted(made)
    of = made.rbac.shadow_matcher if shadow else made.rbac.matcher
    change(next(predicate for predicate in predicates(of) if window.is_window(predicate)))
    with pytest.raises(LintError, match="a row asks"):
        linted(
            RBACPerRoute(
                rbac=RBAC(matcher=made.rbac.matcher, shadow_matcher=made.rbac.shadow_matcher if shadow else None)
            )
        )
