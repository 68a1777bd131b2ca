from __future__ import annotations

from dataclasses import replace

import meshes
from septum.model.case import Case
from septum.policy.cases_file import read_cases
from septum.policy.load import load
from septum.verify.cases import Result, because, expectation, run, run_all, why

NOW = 1_800_000_000.0
RULES = (
    meshes.SHOP_RULES
    + "  - {name: brief, from: storefront, to: orders, http: GET /brief, until: 2027-01-31T00:00:00Z}\n"
)


def cases(text: str) -> tuple[Case, ...]:
    files = {
        "septum.yaml": meshes.SHOP.encode(),
        "policy/rules.yaml": RULES.encode(),
        "policy/a_test.yaml": text.encode(),
    }
    found = read_cases(files, load(files).policy)
    assert found.diagnostics == ()
    return found.cases


def result(text: str) -> Result:
    [case] = cases(text)
    return run(meshes.policy(RULES), case, NOW)


def told(found: Result) -> list[str]:
    return [line for answer in found.wrong for line in why(found.case, answer, "shop/")]


def test_what_is_as_expected_passes() -> None:
    passing = """\
- {from: storefront, to: orders, http: GET /orders/42, expect: allow}
- {from: storefront, to: orders, http: GET /orders/42, expect: allow, by: customers-orders}
- {from: storefront, to: orders, http: DELETE /orders/42, expect: deny}
- {from: segment:edge, to: payments, grpc: a.B/C, expect: deny}
"""
    found = run_all(meshes.policy(RULES), cases(passing), NOW)
    assert [one.passed for one in found] == [True] * 4
    assert [one.wrong for one in found] == [()] * 4


def test_a_denial_that_was_to_be_allowed_says_what_came_nearest() -> None:
    found = result("- {from: storefront, to: orders, http: PUT /orders/42, expect: allow, because: it is theirs}\n")
    assert not found.passed
    assert told(found) == [
        "storefront -> orders  PUT /orders/42: expected allow, decided deny",
        "  nearest  customers-orders  shop/policy/rules.yaml:2",
        "  reason   method: it allows GET, not PUT",
        "  expected because it is theirs",
    ]


def test_an_allow_that_was_to_be_denied_says_which_rule_allows() -> None:
    assert told(result("- {from: orders, to: ledger, expect: deny}\n")) == [
        "orders -> ledger  connect: expected deny, decided allow",
        "  rule     orders->ledger  shop/policy/rules.yaml:10",
    ]


def test_an_allow_by_another_rule_is_not_what_was_expected() -> None:
    found = result("- {from: storefront, to: orders, http: GET /orders/42, expect: allow, by: brief}\n")
    assert told(found)[0] == "storefront -> orders  GET /orders/42: expected allow by brief, decided allow"
    assert expectation(found.case) == "is allowed by brief"


def test_of_a_segment_the_members_are_said_that_are_not_as_expected() -> None:
    found = result("- {from: [storefront, orders], to: ledger, expect: allow}\n")
    assert [(answer.call.caller, answer.fits(found.case)) for answer in found.answers] == [
        ("orders", True),
        ("storefront", False),
    ]
    assert [answer.call.caller for answer in found.wrong] == ["storefront"]


def test_a_case_is_asked_at_its_own_time_or_at_that_of_the_run() -> None:
    own = result("- {from: storefront, to: orders, http: GET /brief, at: 2027-01-31T00:00:00Z, expect: deny}\n")
    assert own.passed
    [case] = cases("- {from: storefront, to: orders, http: GET /brief, expect: allow}\n")
    policy = meshes.policy(RULES)
    assert run(policy, case, NOW).passed
    late = run(policy, case, NOW + 10**9)
    assert [line for line in because(late.answers[0].decision) if "reason" in line] == [
        "  reason   time: the rule ended at 2027-01-31T00:00:00Z"
    ]


def test_a_rule_without_a_place_is_named_all_the_same() -> None:
    policy = meshes.policy(RULES)
    bare = replace(policy, rules=tuple(replace(rule, span=None) for rule in policy.rules))
    [case] = cases("- {from: orders, to: ledger, expect: deny}\n")
    assert list(because(run(bare, case, NOW).answers[0].decision)) == ["  rule     orders->ledger"]
