from __future__ import annotations

import pytest

import meshes
from septum.policy.cases_file import read_cases
from septum.policy.load import load
from septum.verify.cases import run_all
from septum.verify.coverage import Coverage, coverage

RULES = """\
allow:
  - {name: one, from: storefront, to: orders, http: [GET /a, "GET,HEAD /b/**", POST /a, "GET /b/{id}"]}
  - {name: pay, from: orders, to: payments, grpc: [p.S/Pay, "p.S/*"]}
  - {name: keep, from: orders, to: ledger}
  - {name: shadowed, from: storefront, to: orders, http: GET /a}
"""


def covered(tests: str) -> Coverage:
    files = {
        "septum.yaml": meshes.SHOP.encode(),
        "policy/rules.yaml": RULES.encode(),
        "policy/a_test.yaml": tests.encode(),
    }
    policy = load(files).policy
    assert policy is not None
    found = read_cases(files, policy)
    assert found.diagnostics == ()
    return coverage(policy, run_all(policy, found.cases, 0.0))


def calls(found: Coverage) -> dict[tuple[str, str], int]:
    return {(entry.rule.id, entry.operation): entry.calls for entry in found.entries}


def test_what_no_test_asks_is_untouched() -> None:
    found = covered("[]")
    assert set(calls(found).values()) == {0}
    assert (found.touched, found.percent, len(found.entries)) == (0, 0.0, 8)
    assert [rule.id for rule in found.untouched_rules] == ["keep", "one", "pay", "shadowed"]


def test_operations_are_touched_that_open_an_allowed_call() -> None:
    found = covered(
        "- {from: storefront, to: orders, http: [GET /a, HEAD /b, GET /b/7], expect: allow}\n"
        "- {from: orders, to: payments, grpc: p.S/Ask, expect: allow}\n"
        "- {from: orders, to: ledger, expect: allow}\n"
    )
    assert calls(found) == {
        ("keep", "connect"): 1,
        ("one", "GET /a"): 1,
        ("one", "GET,HEAD /b/**"): 2,
        ("one", "POST /a"): 0,
        ("one", "GET /b/{id}"): 1,
        ("pay", "p.S/Pay"): 0,
        ("pay", "p.S/*"): 1,
        ("shadowed", "GET /a"): 0,
    }
    assert found.percent == pytest.approx(62.5)
    assert [rule.id for rule in found.untouched_rules] == ["shadowed"], "the rule before it is the one that decides"


def test_denials_touch_nothing() -> None:
    assert covered("- {from: storefront, to: orders, http: PUT /a, expect: deny}\n").touched == 0


def test_of_no_rules_all_is_touched() -> None:
    policy = meshes.policy("allow: []\n")
    assert coverage(policy, ()) == Coverage(())
    assert coverage(policy, ()).percent == 100.0
