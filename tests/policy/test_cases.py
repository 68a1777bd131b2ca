"""Runs the literate cases of this directory; tests/literate.py says how they are written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from literate import Asked, Case, cases
from septum.cli.diagnostics import as_text
from septum.model.decision import Decision, Request
from septum.model.operation import Operation
from septum.model.policy import Policy
from septum.model.window import parse_time
from septum.policy.ask import http_operation, operation_of
from septum.policy.cases_file import read_cases
from septum.policy.decide import decide
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from septum.policy.upkeep.cuts import cut
from septum.verify.guarantee import findings
from septum.verify.lint import lint, together

CASES = list(cases())
WEBSOCKET = " (websocket)"


@pytest.mark.parametrize("case", [case for case in CASES if case.asked], ids=str)
def test_requests_are_decided_as_written(case: Case) -> None:
    loaded = load(case.files)
    assert loaded.policy is not None, as_text(loaded.errors, case.files, colour=False)
    policy = quarantined(loaded.policy, case.quarantined)
    for asked in case.asked:
        assert answer(policy, asked) == asked


@pytest.mark.parametrize("case", [case for case in CASES if case.findings is not None], ids=str)
def test_mistakes_are_shown_as_written(case: Case) -> None:
    loaded = load(case.files)
    policy = quarantined(loaded.policy, case.quarantined) if loaded.policy is not None else None
    broken = findings(policy, parse_time(case.now)) if policy is not None else ()
    read = read_cases(case.files, loaded.partial)
    found = sorted((*loaded.diagnostics, *read.diagnostics, *broken), key=lambda d: d.order)
    assert as_text(found, case.files, colour=False) + "\n" == case.findings


@pytest.mark.parametrize("case", [case for case in CASES if case.lint is not None], ids=str)
def test_what_lint_says_is_as_written(case: Case) -> None:
    policy = load(case.files).policy
    assert policy is not None
    found = lint(case.files, policy, parse_time(case.now))
    assert as_text([one.diagnostic for one in found], case.files, colour=False) + "\n" == case.lint
    changed = cut(case.files, policy, together(found))
    assert changed.get("policy/rules.yaml", b"").decode() == (case.fixed or "")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_expects_something(case: Case) -> None:
    assert case.asked or case.findings is not None or case.lint is not None


def answer(policy: Policy, asked: Asked) -> Asked:
    """What the policy says, in the words of the table; a reason is only given where the table asks for it."""
    target = policy.mesh.target(asked.target)
    protocol = target.protocol if target is not None else None
    operation: Operation
    if asked.operation.endswith(WEBSOCKET):
        operation = http_operation(*asked.operation.removesuffix(WEBSOCKET).split(" ", 1), websocket=True)
    else:
        operation = operation_of(asked.operation, protocol)
    claims = json.loads(asked.claims or "{}")
    time = parse_time(asked.time) if asked.time else None
    decision = decide(policy, Request(asked.caller, asked.target, operation, claims, time))
    rule, reason = _why(decision)
    return replace(asked, decision=str(decision.effect), rule=rule, reason=reason if asked.reason else "")


def _why(decision: Decision) -> tuple[str, str]:
    if decision.rule is not None:
        return decision.rule.id, ""
    assert decision.nearest is not None, "a denial says what came nearest"
    return decision.nearest.rule.id if decision.nearest.rule else "", decision.nearest.mismatch
