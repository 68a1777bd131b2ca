"""A plan as lines for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from septum.cli.diagnostics import visible
from septum.cli.moment import ago
from septum.cli.output import style
from septum.cli.plan_words import (
    SIGNS,
    conditions,
    kinds,
    looked_text,
    parts,
    place_text,
    shift_text,
    side_text,
    touched_text,
    verdicts_text,
    witness_text,
)
from septum.model.diagnostic import Severity
from septum.plan.plan import Change, Plan, Row
from septum.plan.replayed import Group, Now, Replay
from septum.plan.stages import Keep, stage_text, stages

T = TypeVar("T")
_TONES = {"+": "green", "-": "red", "~": "yellow"}
_REPLAY_TONES = {Now.DENIED: "red", Now.ALLOWED: "yellow"}
# So many of a list are shown, unless all are asked for.
MOST = 40


def plan_lines(plan: Plan, now: float, most: int | None = MOST, *, steps: bool = False) -> list[str]:
    """The whole plan, at most so many of each list (None: all of them), and the steps that carry it out."""
    lines = [f"from  {visible(side_text(plan.base))}", f"to    {visible(side_text(plan.wanted))}", ""]
    for section in _sections(plan, now, most):
        lines += [*section, ""] if section else []
    return [*lines, *(_steps(plan) if steps else []), *_risk(plan)]


def _sections(plan: Plan, now: float, most: int | None) -> Iterator[list[str]]:
    if plan.changes_nothing:
        yield ["nothing changes: both are the same version"]
        return
    if not plan.changes and not plan.shifts:
        yield ["nothing changes but how it is written"]
    for title, changes in kinds(plan.changes):
        yield [style(title, bold=True), *_shown(changes, most, _change)]
    yield _rows("newly allowed", "+", plan.allowed, plan, most)
    yield _rows("newly denied", "-", plan.denied, plan, most)
    if plan.shifts:
        yield [style("as a whole", bold=True), *(f"  ~ {visible(shift_text(shift))}" for shift in plan.shifts)]
    yield _guarantees(plan)
    yield [f"{style('touched', bold=True)}  {visible(touched_text(plan))}"]
    yield _replay(plan.replay, now, most)


def _steps(plan: Plan) -> list[str]:
    """The stages, up to the one at which it would be refused."""
    lines = []
    for count, stage in enumerate(stages(plan), start=1):
        lines.append(f"  {count}. {visible(stage_text(stage))}")
        if isinstance(stage, Keep) and stage.broken:
            break
    return [style("to apply it", bold=True), *lines, ""] if lines else []


def _shown(items: Sequence[T], most: int | None, lines: object) -> list[str]:
    assert callable(lines)
    shown = [line for item in items[:most] for line in lines(item)]
    hidden = len(items) - len(items[:most])
    return [*shown, f"  and {hidden:,} more: --all shows them"] if hidden else shown


def _change(change: Change) -> Iterator[str]:
    sign, place = SIGNS[change.what], place_text(change.place)
    where = f"  {'was ' if change.what == 'removed' else ''}{place}" if place else ""
    yield style(f"  {sign} {visible(change.name)}", fg=_TONES[sign]) + style(visible(where), dim=True)
    for part in change.parts:
        yield from _part(part.name, part.before, part.after)


def _part(name: str, before: str, after: str) -> Iterator[str]:
    """Short values beside each other, long ones and lists below each other."""
    name, before, after = visible(name), visible(before), visible(after)
    if before and after and len(before) + len(after) < 60 and name != "operations":
        yield f"      {name}: {before} → {after}"
        return
    if before:
        yield f"      {name}: " + style(f"- {before}", fg="red")
    if after:
        yield f"      {name}: " + style(f"+ {after}", fg="green")


def _rows(title: str, sign: str, rows: Sequence[Row], plan: Plan, most: int | None) -> list[str]:
    if not rows:
        return []

    def lines(row: Row) -> Iterator[str]:
        what = f"  {sign} {row.callers_text} → {row.targets_text}  {row.operation}"
        yield style(visible(what), fg=_TONES[sign])
        for text in (*conditions(row), *parts(row, allowed=sign == "+")):
            yield f"      {visible(text)}"
        by = f"by {row.rule}" + (f", {place_text(row.place)}" if row.place else "")
        yield f"      such as {visible(witness_text(row.witness, plan.created))}" + style(f"  {visible(by)}", dim=True)

    return [style(f"{title}: {len(rows):,}", bold=True), *_shown(rows, most, lines)]


def _guarantees(plan: Plan) -> list[str]:
    if not plan.guarantees:
        return []
    lines = [f"{style('guarantees', bold=True)}  {verdicts_text(plan)}"]
    already = {f"`{one.name}`" for one in plan.guarantees if one.held is False}
    for finding in plan.findings:
        tone = "red" if finding.severity is Severity.ERROR else "yellow"
        before = " (as before)" if any(name in finding.message for name in already) else ""
        lines.append(style(f"  {visible(finding.message)}{before}", fg=tone))
        lines += [f"      {visible(line)}" for line in finding.label.split("\n") if line]
    return lines


def _replay(replay: Replay | None, now: float, most: int | None) -> list[str]:
    if replay is None:
        return [f"{style('recorded traffic', bold=True)}  no record was asked"]
    head = f"{style('recorded traffic', bold=True)}  {looked_text(replay, now)}"
    if not replay.groups:
        return [head, "  none of it would be decided otherwise"] if replay.records else [head]
    widths = [max(len(cell) for cell in column) for column in zip(*map(_cells, replay.groups), strict=True)]

    def lines(group: Group) -> Iterator[str]:
        cells = [cell.ljust(width) for cell, width in zip(_cells(group), widths, strict=True)]
        line = f"  {'  '.join(cells)}  last {ago(group.last, now)}"
        yield style(line, fg=_REPLAY_TONES.get(group.now))

    return [head, *_shown(replay.groups, most, lines)]


def _cells(group: Group) -> tuple[str, ...]:
    who = f"{group.caller} → {group.target}"
    return (str(group.now), visible(who), visible(group.operation), f"{group.count:,}x")


def _risk(plan: Plan) -> list[str]:
    tone = "yellow" if plan.risk.widens or plan.risk.unknown else None
    return [f"{style('risk', bold=True)}  {style(visible(plan.risk.text), fg=tone, bold=tone is not None)}"]
