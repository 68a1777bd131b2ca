"""What a guarantee `always` needs of what would be cut."""

from __future__ import annotations

import meshes
from septum.policy.upkeep.cuts import after
from septum.verify.guarantee import verdicts
from septum.verify.spared import Cut, merged, spared

NOW = 1_800_000_000.0
RULES = """\
allow:
  - {name: probe, from: storefront, to: orders, http: [GET /healthz, GET /a, GET /b]}
  - {name: other, from: storefront, to: orders, http: [GET /a]}
  - {name: book, from: orders, to: ledger}
  - {name: pay, from: orders, to: payments, grpc: a.B/C}
"""
ALWAYS = """\
guarantees:
  - name: probes
    always: {from: storefront, to: orders, http: GET /healthz}
  - name: reading
    always: {from: storefront, to: orders, http: GET /a}
  - name: books
    always: {from: orders, to: ledger}
"""
CUTS: list[Cut] = [("probe", 0), ("probe", 1), ("probe", 2), ("other", 0), ("book", None), ("pay", 0)]


def test_what_a_guarantee_needs_is_spared_with_its_name() -> None:
    policy = meshes.policy(RULES + ALWAYS)
    assert spared(policy, CUTS, NOW) == {("probe", 0): "probes", ("other", 0): "reading", ("book", None): "books"}
    left = after(policy.rules, merged(cut for cut in CUTS if cut not in spared(policy, CUTS, NOW)))
    assert [rule.id for rule in left] == ["book", "other", "probe"]
    assert all(one.holds for one in verdicts(policy, NOW))


def test_without_such_a_guarantee_nothing_is() -> None:
    never = "guarantees:\n  - never: {from: storefront, to: ledger}\n"
    assert spared(meshes.policy(RULES + never), CUTS, NOW) == {}
    assert spared(meshes.policy(RULES), CUTS, NOW) == {}


def test_one_that_is_broken_already_spares_nothing() -> None:
    broken = "guarantees:\n  - always: {from: payments, to: ledger}\n"
    assert spared(meshes.policy(RULES + broken), CUTS, NOW) == {}


def test_cuts_of_one_rule_are_one() -> None:
    assert merged([("a", 1), ("a", 2), ("b", None), ("b", 0)]) == {"a": frozenset({1, 2}), "b": None}
