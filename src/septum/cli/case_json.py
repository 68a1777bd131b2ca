"""Results of policy tests for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from septum.app.trial.verdict import Fate, Ran, Tried
from septum.cli.case_lines import Traffic
from septum.model.policy import Rule
from septum.verify.cases import Answer
from septum.verify.coverage import Coverage


def as_values(ran: Sequence[Ran], seconds: float, found: Coverage | None, traffic: Traffic | None) -> dict[str, Any]:
    """All that is known of a run."""
    passed = sum(one.fate is Fate.PASSED for one in ran)
    value: dict[str, Any] = {
        "passed": passed,
        "failed": len(ran) - passed,
        "seconds": round(seconds, 3),
        "tests": [_case(one) for one in ran],
    }
    return value | ({"coverage": _coverage(found, traffic)} if found is not None else {})


def _case(one: Ran) -> dict[str, Any]:
    case = one.result.case
    tried = {id(it.answer): it for it in one.tried}
    return {
        "name": case.title,
        "file": case.span.file if case.span else None,
        "line": case.span.line if case.span else None,
        "expect": str(case.expect),
        "by": case.by or None,
        "because": case.because or None,
        "claims": dict(case.claims),
        "at": case.at,
        "outcome": one.fate.name.lower(),
        "why": list(one.lines()),
        "requests": [_answer(answer, tried.get(id(answer))) for answer in one.result.answers],
    }


def _answer(answer: Answer, tried: Tried | None) -> dict[str, Any]:
    nearest = answer.decision.nearest
    value = {
        "from": answer.call.caller,
        "to": answer.call.target,
        "operation": answer.call.sent,
        "decision": str(answer.decision.effect),
        "rule": _rule(answer.decision.rule),
        "nearest": _rule(nearest.rule) if nearest else None,
        "reason": nearest.mismatch if nearest else None,
    }
    return value | ({"proxy": _proxy(tried)} if tried is not None else {})


def _proxy(tried: Tried) -> dict[str, Any]:
    seen = tried.seen
    return {
        "decision": str(seen.effect) if seen else None,
        "rule": (seen.rule or None) if seen else None,
        "reached": seen.passed if seen else None,
        "disagreement": tried.disagreement or None,
        "trouble": tried.trouble or None,
    }


def _rule(rule: Rule | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    return {
        "id": rule.id,
        "file": rule.span.file if rule.span else None,
        "line": rule.span.line if rule.span else None,
    }


def _coverage(found: Coverage, traffic: Traffic | None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "percent": round(found.percent, 1),
        "touched": found.touched,
        "operations": list(_entries(found, traffic)),
        "untouched_rules": [rule.id for rule in found.untouched_rules],
    }
    return value | ({"traffic_seconds": traffic.seconds} if traffic is not None else {})


def _entries(found: Coverage, traffic: Traffic | None) -> Iterable[dict[str, Any]]:
    for entry in found.entries:
        value: dict[str, Any] = {"rule": _rule(entry.rule), "operation": entry.operation, "tests": entry.calls}
        if traffic is not None:
            use = traffic.uses.get((entry.rule.id, entry.operation))
            value |= {"traffic": use.hits if use else 0, "last_used": use.last if use else None}
        yield value
