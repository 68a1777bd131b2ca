"""Which rules end, and who loses something when one does."""

from __future__ import annotations

import pytest

from septum.model.policy import Policy
from septum.model.window import parse_time, time_text
from septum.policy.grants import described, ended, ends, grants, losing
from septum.policy.load import load
from septum.policy.revoked import revoked

MESH = """\
mesh: shop
trust_domain: shop.test
segments: {core: null, seen: null}
workloads:
  web: {segment: core, at: 127.0.0.1:9101, protocol: http}
  desk: {segment: core, at: 127.0.0.1:9102, protocol: http}
  orders: {segment: core, at: 127.0.0.1:9103, protocol: http}
  ledger: {segment: core, at: 127.0.0.1:9104, protocol: tcp}
  watched: {segment: seen, at: 127.0.0.1:9105, protocol: http}
enforce: [core]
"""
FIRST, SECOND, THIRD = "2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z", "2027-01-03T00:00:00Z"
ONE = f"{{name: one, from: web, to: orders, http: ['GET /orders/**'], until: {SECOND}}}"


def policy(*rules: str) -> Policy:
    text = "\n".join(["allow:", *(f"  - {rule}" for rule in rules)]) if rules else "allow: []"
    loaded = load({"septum.yaml": MESH.encode(), "policy/rules.yaml": text.encode()})
    assert loaded.policy is not None, loaded.errors
    return loaded.policy


def test_grants_are_the_rules_that_end_the_first_to_end_before_the_others() -> None:
    found = policy(
        ONE,
        f"{{name: a-later, from: web, to: ledger, until: {THIRD}}}",
        f"{{name: z-first, from: web, to: ledger, from_time: {FIRST}, until: {SECOND}}}",
        f"{{name: begins, from: web, to: ledger, from_time: {FIRST}}}",
        "{name: always, from: web, to: ledger}",
    )
    assert [rule.id for rule in grants(found)] == ["one", "z-first", "a-later"]
    assert [time_text(end) for end in ends(found)] == [SECOND, THIRD]
    assert [rule.id for rule in ended(found, parse_time(SECOND) - 0.001)] == []
    assert [rule.id for rule in ended(found, parse_time(SECOND))] == ["one", "z-first"]
    assert [rule.id for rule in ended(found, parse_time(THIRD))] == ["one", "z-first", "a-later"]


def test_a_grant_is_told_with_all_that_it_says() -> None:
    (rule,) = policy(f"{{name: g, from: segment:core, to: ledger, until: {SECOND}, because: it moves}}").rules
    assert described(rule) == {
        "rule": "g",
        "from": "segment:core",
        "to": "ledger",
        "operations": ["connect"],
        "from_time": None,
        "until": parse_time(SECOND),
        "because": "it moves",
        "at": "policy/rules.yaml:2",
    }


@pytest.mark.parametrize(
    ("others", "lost"),
    [
        ((), {("web", "orders")}),
        (("{from: web, to: orders, http: ['GET /orders/{id}']}",), {("web", "orders")}),
        (("{from: web, to: orders, http: ['* /**']}",), set()),
        (("{from: desk, to: orders, http: ['* /**']}",), {("web", "orders")}),
        # A grant that goes on, or begins just then, keeps them.
        ((f"{{from: web, to: orders, http: ['* /**'], until: {THIRD}}}",), set()),
        ((f"{{from: web, to: orders, http: ['* /**'], from_time: {SECOND}}}",), set()),
        # Not one that ends with it, and not one that begins a second later.
        ((f"{{from: web, to: orders, http: ['* /**'], until: {SECOND}}}",), {("web", "orders")}),
        (("{from: web, to: orders, http: ['* /**'], from_time: 2027-01-02T00:00:01Z}",), {("web", "orders")}),
        ((f"{{from: web, to: watched, http: ['* /**'], until: {SECOND}}}",), {("web", "orders")}),
    ],
)
def test_who_loses_something_at_an_end(others: tuple[str, ...], lost: set[tuple[str, str]]) -> None:
    assert losing(policy(ONE, *others), parse_time(SECOND)) == lost
    assert losing(policy(ONE, *others), parse_time(FIRST)) == set()


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ("", f", until: {SECOND}", True),
        (f", until: {SECOND}", "", False),
        (f", until: {SECOND}", f", until: {THIRD}", False),
        (f", until: {THIRD}", f", until: {SECOND}", True),
        (f", from_time: {FIRST}", f", from_time: {SECOND}", True),
        (f", from_time: {SECOND}", f", from_time: {FIRST}", False),
        (f", from_time: {FIRST}, until: {SECOND}", f", from_time: {FIRST}", False),
        (f", from_time: {FIRST}", f", from_time: {FIRST}, until: {SECOND}", True),
        (f", until: {SECOND}", f", from_time: {FIRST}, until: {SECOND}", True),
    ],
)
def test_a_shorter_window_takes_away_and_a_longer_one_does_not(before: str, after: str, lost: bool) -> None:
    old, new = (policy(f"{{name: g, from: web, to: ledger{window}}}") for window in (before, after))
    assert revoked(old, new) == ({("web", "ledger")} if lost else set())


def test_taking_out_what_is_over_takes_nothing_away_once_its_calls_were_ended() -> None:
    old, new = policy(ONE), policy()
    assert revoked(old, new) == {("web", "orders")}
    assert revoked(old, new, ended=parse_time(SECOND) - 1) == {("web", "orders")}
    assert revoked(old, new, ended=parse_time(SECOND)) == set()
