"""Two policies to the plan that leads from one to the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from septum.model.decision import Request
from septum.model.mesh import Mode
from septum.model.policy import Policy
from septum.plan import plan as values
from septum.plan.plan import Plan, Side
from septum.plan.replayed import Replay
from septum.policy.roles import Role, role
from septum.policy.times import window_text
from septum.verify import changes, passing, rows
from septum.verify.conditions import when_text
from septum.verify.diff import Diff
from septum.verify.guarantee import findings, verdicts

Files = Mapping[str, bytes | OSError]
_PARTS = frozenset({Role.MESH, Role.POLICY, Role.FILE})


@dataclass(frozen=True, slots=True)
class Planned:
    """One of two policies, what it is called, and the files it was read from."""

    name: str
    policy: Policy
    files: Files


def plan_of(
    base: Planned,
    wanted: Planned,
    found: Diff,
    now: float,
    *,
    message: str = "",
    commit: str = "",
    replay: Replay | None = None,
) -> Plan:
    """The plan for a difference (`found`) that was made at `now`. `commit` is the one that the wanted files are of."""
    old, new = base.policy, wanted.policy
    return Plan(
        base=Side(base.name, old.version),
        wanted=Side(wanted.name, new.version),
        files=_texts(wanted.files),
        quarantined=tuple(sorted(new.quarantined)),
        message=message,
        commit=commit,
        created=float(int(now)),
        changes=tuple(_change(change) for change in found.changes),
        allowed=tuple(_row(row, new) for row in found.allowed),
        denied=tuple(_row(row, new) for row in found.denied),
        shifts=tuple(_shift(shift) for shift in found.shifts),
        guarantees=_verdicts(old, new, now),
        findings=findings(new, now),
        touched=values.Touched(found.touched.workloads, found.touched.nodes),
        risk=values.Risk(str(found.risk), found.risk.widens, found.risk.narrows, found.risk.unknown),
        replay=replay,
    )


def _texts(files: Files) -> dict[str, str]:
    """The files that make up the policy. One below `files/` that is no text is one that nothing names."""
    found = {}
    for path, content in files.items():
        if role(path) in _PARTS and isinstance(content, bytes):
            try:
                found[path] = content.decode("utf-8")
            except UnicodeDecodeError:
                assert role(path) is Role.FILE  # or the policy would have an error
    return found


def _change(change: changes.Change) -> values.Change:
    parts = tuple(values.Part(part.name, part.before, part.after) for part in change.parts)
    return values.Change(change.kind, change.name, str(change.what), parts, change.span)


def _row(row: rows.Row, new: Policy) -> values.Row:
    rule = row.rule
    return values.Row(
        rule=rule.id,
        operation=row.operation,
        callers_text=row.callers_text,
        targets_text=row.targets_text,
        callers=row.callers,
        targets=row.targets,
        witness=_witness(row.witness),
        when=when_text(rule.when) if rule.when else "",
        window=window_text(rule.window) if rule.window else "",
        because=rule.because,
        other=row.other,
        above=row.above,
        observed=_observed(row.targets, new),
        place=rule.span,
    )


def _observed(targets: Iterable[str], policy: Policy) -> bool:
    known = [policy.mesh.target(name) for name in targets]
    return all(target is not None and policy.mesh.mode(target) is Mode.OBSERVE for target in known)


def _witness(request: Request) -> values.Witness:
    assert request.time is not None  # a witness says when
    return values.Witness(
        request.caller, request.target, str(request.operation), dict(request.claims), float(request.time)
    )


def _shift(shift: passing.Shift) -> values.Shift:
    witness = _witness(shift.witness) if shift.witness else None
    return values.Shift(str(shift.kind), shift.name, shift.widens, shift.narrows, witness)


def _verdicts(old: Policy, new: Policy, now: float) -> tuple[values.Verdict, ...]:
    before = {one.guarantee.canonical: one.holds for one in verdicts(old, now)}
    return tuple(
        values.Verdict(
            one.guarantee.name, one.holds, one.overridden, before.get(one.guarantee.canonical), one.guarantee.span
        )
        for one in verdicts(new, now)
    )
