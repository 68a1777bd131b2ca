"""What the tree is made of: nothing more than before where no rule asks and nobody is quarantined, and never open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from septum.envoy import names, rbac
from septum.envoy.lint import LintError, lint
from septum.envoy.shadow import Shadow
from septum.envoy.wire import pack
from septum.model.claims import Equals, Scope, When
from septum.model.mesh import Address, External, Mesh, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Rule
from tree import outcome

WHEN = When((("iss", Equals("https://login.test")), ("scope", Scope("read"))))
WEB, API, STORE = (
    Workload(name, "core", Address("127.0.0.1", port), protocol)
    for port, (name, protocol) in enumerate(
        (("web", Protocol.HTTP), ("api", Protocol.HTTP), ("store", Protocol.TCP)), start=1
    )
)
MESH = Mesh("m", "m.test", {"core": Segment("core")}, {one.name: one for one in (WEB, API, STORE)}, frozenset({"core"}))
OBSERVED = replace(MESH, enforced=frozenset())
PATTERNS = ("GET /a", "GET /a/{x}", "GET /b/**", "POST /{x}/c/**")


def _rules(target: str, *whens: When | None) -> list[Rule]:
    http = tuple(HttpPattern.parse(text) for text in PATTERNS)
    return [
        Rule(f"r{nth}", ("web",), (target,), None if target == "store" else http, when=when)
        for nth, when in enumerate(whens)
    ]


def _linted(per_route: Any, mesh: Mesh = MESH) -> None:
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster="api"))
    route.metadata.filter_metadata[names.METADATA].update({"mode": str(mesh.mode(API)), names.CANDIDATE: "v"})
    route.typed_per_filter_config[names.RBAC_FILTER].CopyFrom(pack(per_route))
    host = VirtualHost(name="api", domains=["*"], routes=[route])
    lint(RouteConfiguration(name="api", virtual_hosts=[host]))


@pytest.mark.parametrize("mesh", [MESH, OBSERVED])
@pytest.mark.parametrize("target", [API, STORE])
@pytest.mark.parametrize("whens", [(WHEN,), (WHEN, None), (None, WHEN), (WHEN, WHEN, None, WHEN)])
def test_every_level_falls_through_to_a_denial_or_passes_where_it_is_observed(
    mesh: Mesh, target: Workload, whens: tuple[When | None, ...]
) -> None:
    _linted(rbac.per_route(mesh, target, _rules(target.name, *whens)), mesh)


def test_a_rule_at_the_end_of_a_list_is_a_row_of_it() -> None:
    """As what a list falls through to it would be open to whatever no row is about, and the lint would not pass it."""
    opened = rbac.per_route(MESH, API, _rules("api", WHEN, None))
    leaf = opened.rbac.matcher.on_no_match.matcher.matcher_tree.exact_match_map.map[str(MESH.spiffe("web"))]
    path = leaf.matcher.matcher_tree.exact_match_map.map["GET"].matcher.matcher_tree.exact_match_map.map["/a"]
    last = path.matcher.matcher_list.matchers[-1].on_match.action
    path.matcher.on_no_match.action.CopyFrom(last)
    with pytest.raises(LintError):
        _linted(opened)


@pytest.mark.parametrize("mesh", [MESH, OBSERVED])
def test_nobody_in_quarantine_changes_nothing(mesh: Mesh) -> None:
    rules = _rules("api", None)
    assert rbac.per_route(mesh, API, rules, frozenset()) == rbac.per_route(mesh, API, rules)


@pytest.mark.parametrize("mesh", [MESH, OBSERVED])
@pytest.mark.parametrize("target", [API, STORE])
def test_a_target_in_quarantine_has_no_tree(mesh: Mesh, target: Workload) -> None:
    denied = rbac.per_route(mesh, target, _rules(target.name, None), {target.name, "web"})
    _linted(denied)
    assert denied.rbac.matcher.WhichOneof("matcher_type") is None
    assert _action(denied.rbac.matcher.on_no_match) == (names.QUARANTINE, "DENY")


@pytest.mark.parametrize("mesh", [MESH, OBSERVED])
def test_a_caller_in_quarantine_is_looked_for_first(mesh: Mesh) -> None:
    rules = _rules("api", None)
    opened = rbac.per_route(mesh, API, rules, {"web"})
    _linted(opened, mesh)
    matcher = opened.rbac.matcher
    branches = matcher.matcher_tree.exact_match_map.map
    assert {caller: _action(on) for caller, on in branches.items()} == {
        "spiffe://m.test/web": (names.QUARANTINE, "DENY")
    }
    assert matcher.on_no_match.matcher == rbac.per_route(mesh, API, rules).rbac.matcher


@pytest.mark.parametrize("mesh", [MESH, OBSERVED])
@pytest.mark.parametrize("target", [API, STORE])
def test_a_candidate_stands_beside_and_changes_nothing(mesh: Mesh, target: Workload) -> None:
    rules = _rules(target.name, None)
    shadow = Shadow("v", target, tuple(_rules(target.name, WHEN, None)), frozenset({"store"}))
    asked = rbac.per_route(mesh, target, rules, {"web"}, shadow)
    _linted(asked, mesh)
    assert asked.rbac.matcher == rbac.per_route(mesh, target, rules, {"web"}).rbac.matcher
    assert asked.rbac.HasField("shadow_matcher")


@pytest.mark.parametrize("shadow", [Shadow("v"), Shadow("v", API, tuple(_rules("api", None)), frozenset({"api"}))])
def test_a_candidate_without_the_target_or_with_it_in_quarantine_denies(shadow: Shadow) -> None:
    asked = rbac.per_route(MESH, API, _rules("api", None), (), shadow).rbac.shadow_matcher
    assert asked.WhichOneof("matcher_type") is None
    assert _action(asked.on_no_match) == (names.DENY, "DENY")


@pytest.mark.parametrize(
    ("mesh", "enforced", "proposed", "denied"),
    [
        (MESH, False, False, False),  # Envoy refuses the upgrade before anything is asked
        (MESH, True, True, False),
        (MESH, True, False, True),
        (OBSERVED, False, False, True),
        (OBSERVED, False, True, False),
    ],
)
def test_an_upgrade_that_only_the_enforced_route_takes_the_candidate_denies(
    mesh: Mesh, enforced: bool, proposed: bool, denied: bool
) -> None:
    shadow = Shadow("v", replace(API, websocket=proposed), tuple(_rules("api", None)))
    asked = rbac.per_route(mesh, replace(API, websocket=enforced), (), (), shadow).rbac.shadow_matcher
    inputs = {"septum.caller": str(mesh.spiffe("web")), "method": "GET", "path": "/a", "upgrade": "WebSocket"}
    assert outcome(asked, inputs) == ((False, names.UPGRADE) if denied else (True, "r0"))


@pytest.mark.parametrize(
    ("flags", "path", "rule"),
    [
        ({}, "/b/x;v=1", names.DENY),
        ({"path_parameters": True}, "/b/x;v=1", "r0"),
        ({}, "/B/x", names.DENY),
        ({"ignore_case": True}, "/B/x", "r0"),
        ({}, "/b/health", "r0"),
        ({"health": "/b/health"}, "/b/health", names.HEALTH),
    ],
)
def test_what_a_candidate_says_of_the_target_itself_counts(flags: dict[str, Any], path: str, rule: str) -> None:
    shadow = Shadow("v", replace(API, **flags), tuple(_rules("api", None)))
    asked = rbac.per_route(MESH, API, (), (), shadow).rbac.shadow_matcher
    inputs = {"septum.caller": str(MESH.spiffe("web")), "method": "GET", "path": path}
    assert outcome(asked, inputs) == (rule == "r0", rule)


def test_a_candidate_among_some_callers_keeps_who_is_in_quarantine_with_them() -> None:
    rules = (replace(_rules("api", None)[0], callers=("web", "store")),)
    shadow = Shadow("v", API, rules, frozenset({"api", "store"}))
    assert shadow.among(["web"]) == Shadow("v", API, (replace(rules[0], callers=("web",)),), frozenset({"api"}))
    assert shadow.among(["idle"]) == Shadow("v", API, (), frozenset({"api"}))


def test_a_place_outside_is_a_target_like_any() -> None:
    outside = External("pay", "pay.test", 443, Protocol.HTTP)
    mesh = replace(MESH, external={"pay": outside})
    _linted(rbac.per_route(mesh, outside, _rules("pay", None, WHEN)))


def _action(on: Any) -> tuple[str, str]:
    action = Action()
    assert on.action.typed_config.Unpack(action)
    return action.name, "DENY" if action.action else "ALLOW"
