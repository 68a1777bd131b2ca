"""A plan as diagnostics, for those who read them: code hosts, editors, CI."""

from __future__ import annotations

from collections.abc import Iterator

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.plan.plan import Plan, Row
from septum.plan.replayed import Now
from septum.policy.codes import DENIED_ON_RECORD, NEWLY_ALLOWED, NEWLY_DENIED, PASSES_OTHERWISE
from septum.policy.roles import MESH_FILE
from septum.policy.text import whole


def plan_findings(plan: Plan) -> tuple[Diagnostic, ...]:
    """The broken guarantees, and as warnings what is newly allowed and newly denied, in the order of their places."""
    found = (*plan.findings, *_allowed(plan), *_denied(plan), *_shifts(plan), *_recorded(plan))
    return tuple(sorted(found, key=lambda diagnostic: diagnostic.order))


def _allowed(plan: Plan) -> Iterator[Diagnostic]:
    for row in plan.allowed:
        yield _diagnostic(NEWLY_ALLOWED, f"newly allowed: {_text(row)}", row.place or whole(MESH_FILE), _such_as(row))


def _denied(plan: Plan) -> Iterator[Diagnostic]:
    """Where the rule stands now, if it still does; what was taken away has no line in the new files."""
    places = {
        change.name: change.place for change in plan.changes if change.kind == "rule" and change.what != "removed"
    }
    for row in plan.denied:
        file = row.place.file if row.place and row.place.file in plan.files else MESH_FILE
        yield _diagnostic(
            NEWLY_DENIED, f"newly denied: {_text(row)}", places.get(row.rule) or whole(file), _such_as(row)
        )


def _shifts(plan: Plan) -> Iterator[Diagnostic]:
    for shift in plan.shifts:
        yield _diagnostic(PASSES_OTHERWISE, f"{shift.name} is {shift.kind} now", whole(MESH_FILE))


def _recorded(plan: Plan) -> Iterator[Diagnostic]:
    for group in plan.replay.groups if plan.replay else ():
        if group.now is Now.DENIED:
            message = f"{group.count:,} recorded requests of {group.caller} to {group.target} would be denied: "
            yield _diagnostic(DENIED_ON_RECORD, message + group.operation, whole(MESH_FILE))


def _text(row: Row) -> str:
    part = " in part" if row.other or row.above else ""
    return f"{row.callers_text} -> {row.targets_text} {row.operation}{part}, by {row.rule}"


def _such_as(row: Row) -> str:
    return f"such as {row.witness.caller} -> {row.witness.target} {row.witness.text}"


def _diagnostic(code: str, message: str, place: Span, label: str = "") -> Diagnostic:
    return Diagnostic(code, message, place, label, severity=Severity.WARNING)
