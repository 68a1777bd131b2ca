"""The lookups of paths: which end in one rule, and which in several of which tokens choose."""

from __future__ import annotations

import pytest

from septum.envoy.names import DENY, HEALTH
from septum.envoy.paths import Behind, Opening, Outcome, ending, plan_paths
from septum.model.claims import Equals, When
from septum.model.mesh import Address, External, Protocol, Workload
from septum.model.operation import HttpPattern

A, B = (When((("iss", Equals(name)),)) for name in "ab")
PLAIN = Workload("api", "core", Address("127.0.0.1", 1), Protocol.HTTP, health="/healthz")


def _patterns(*rules: tuple[str, str, When | None]) -> list[tuple[HttpPattern, Opening]]:
    return [(HttpPattern.parse(f"GET {path}"), Opening(rule, when)) for rule, path, when in rules]


def test_nothing_counts_behind_a_rule_that_asks_nothing() -> None:
    openings = [Opening("1", A), Opening("2", B), Opening("3"), Opening("4", A)]
    assert ending(openings) == Outcome("3", allow=True, asking=(Opening("1", A), Opening("2", B)))
    assert ending(openings[:2]) == Outcome(DENY, allow=False, asking=(Opening("1", A), Opening("2", B)))
    assert ending([]) == Outcome(DENY, allow=False)


def test_a_rule_that_says_the_same_twice_stands_once() -> None:
    assert ending([Opening("1", A), Opening("2", B), Opening("1", A)]).asking == (Opening("1", A), Opening("2", B))


def test_a_path_that_is_spelled_out_ends_in_its_candidates() -> None:
    plan = plan_paths(PLAIN, _patterns(("1", "/{x}", A), ("2", "/a", None), ("3", "/a", B), ("4", "/**", None)))
    assert plan.exact["/a"] == plan.prefixes["/a?"] == Outcome("2", allow=True, asking=(Opening("1", A),))


def test_a_path_that_only_tokens_open_is_denied_to_the_rest() -> None:
    plan = plan_paths(PLAIN, _patterns(("1", "/a", A)))
    assert plan.exact["/a"] == Outcome(DENY, allow=False, asking=(Opening("1", A),))


def test_a_health_path_opens_to_tokens_of_a_rule_that_spells_it_out_alone() -> None:
    plan = plan_paths(PLAIN, _patterns(("1", "/**", A), ("2", "/healthz", B)))
    assert plan.exact["/healthz"] == Outcome(HEALTH, allow=False, asking=(Opening("2", B),))


def test_a_prefix_that_asks_is_a_row_and_not_the_rest() -> None:
    patterns = _patterns(("1", "/a/**", A), ("2", "/a/{x}", None), ("3", "/a/**", None), ("4", "/a/**", B))
    (regex,) = {row for row, opening in plan_paths(PLAIN, patterns).lists["/a/"].rows if row is not None}
    assert plan_paths(PLAIN, patterns).lists["/a/"] == Behind(((None, Opening("1", A)), (regex, Opening("2"))), "3")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.TCP])
def test_a_place_outside_is_a_target_like_any(protocol: Protocol) -> None:
    outside = External("pay", "pay.test", 443, protocol)
    assert plan_paths(outside, _patterns(("1", "/a", None))).exact["/a"] == Outcome("1", allow=True)
