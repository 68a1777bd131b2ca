"""A plan as Markdown for a pull request. Names, reasons and paths are written by others: none of them is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from septum.cli.diagnostics import visible
from septum.cli.moment import ago
from septum.cli.plan_words import (
    conditions,
    kinds,
    looked_text,
    number,
    parts,
    place_text,
    shift_text,
    side_text,
    touched_text,
    verdicts_text,
    witness_text,
)
from septum.plan.plan import Change, Plan, Row
from septum.plan.replayed import Group, Replay

# By this line a job finds its own comment again.
MARK = "<!-- septum plan -->"
# A comment holds some 65,000 characters; beyond this many rows the text or the JSON has them all.
MOST = 60
_BAR = "\\|"
# What can begin markup inside a line, a link, a mention, or a reference, on any of the common hosts.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>|~@#$!%^]|:(?=//)|(?<=w)\.")


def plan_markdown(plan: Plan, now: float) -> str:
    """The whole plan: what matters first, the rest in sections to open."""
    lines = [MARK, f"### Septum: {prose(plan.risk.text)}", ""]
    lines += [f"{code(side_text(plan.base))} → {code(side_text(plan.wanted))}", ""]
    if plan.changes_nothing:
        return "\n".join([*lines, "Nothing changes: both are the same version.", ""])
    for section in _sections(plan, now):
        lines += [*section, ""] if section else []
    return "\n".join(lines)


def _sections(plan: Plan, now: float) -> Iterator[list[str]]:
    yield _guarantees(plan)
    yield _rows("Newly allowed", plan.allowed, plan, allowed=True)
    yield _rows("Newly denied", plan.denied, plan, allowed=False)
    if plan.shifts:
        yield ["**As a whole**", "", *(f"- {prose(shift_text(shift))}" for shift in plan.shifts)]
    yield _replay(plan.replay, now)
    for title, changes in kinds(plan.changes):
        yield _details(title, _changes(changes))
    yield _details(f"Touched: {number(len(plan.touched.workloads), 'workload')}", [prose(touched_text(plan, 200))])


def _guarantees(plan: Plan) -> list[str]:
    if not plan.guarantees:
        return []
    lines = [f"**Guarantees:** {verdicts_text(plan)}"]
    for finding in plan.findings:
        lines += [
            "",
            f"- {prose(finding.message)}",
            *(f"  - {code(line)}" for line in finding.label.split("\n") if line),
        ]
    return lines


def _rows(title: str, rows: Sequence[Row], plan: Plan, *, allowed: bool) -> list[str]:
    if not rows:
        return []
    table = [("who", "whom", "what", "by", "such as")]
    for row in rows[:MOST]:
        more = [prose(text) for text in (*conditions(row), *parts(row, allowed=allowed))]
        by = code(row.rule) + (f" {code(place_text(row.place))}" if row.place else "")
        what = "<br>".join([code(row.operation), *more])
        such_as = code(witness_text(row.witness, plan.created))
        table.append((prose(row.callers_text), prose(row.targets_text), what, by, such_as))
    return [f"**{title}: {len(rows):,}**", "", *_table(table), *_hidden(len(rows))]


def _replay(replay: Replay | None, now: float) -> list[str]:
    if replay is None:
        return []
    if not replay.groups:
        said = "None of it would be decided otherwise." if replay.records else ""
        return [f"**Recorded traffic:** {prose(looked_text(replay, now))}. {said}".rstrip()]
    table: list[tuple[str, ...]] = [("would be", "who", "whom", "what", "requests", "last")]
    table += [_group(group, now) for group in replay.groups[:MOST]]
    lines = [prose(looked_text(replay, now)), "", *_table(table), *_hidden(len(replay.groups))]
    return _details(f"Recorded traffic: {number(len(replay.groups), 'kind')} of requests decided otherwise", lines)


def _group(group: Group, now: float) -> tuple[str, ...]:
    who = (prose(group.caller), prose(group.target))
    return (str(group.now), *who, code(group.operation), f"{group.count:,}", ago(group.last, now))


def _changes(changes: Sequence[Change]) -> list[str]:
    lines = []
    for change in changes[:MOST]:
        place = f" {code(place_text(change.place))}" if change.place and change.what != "removed" else ""
        lines.append(f"- {change.what} {code(change.name)}{place}")
        lines += [f"  - {prose(part.name)}: {_value(part.before)} → {_value(part.after)}" for part in change.parts]
    return [*lines, *_hidden(len(changes))]


def _value(text: str) -> str:
    return code(text) if text else "nothing"


def _hidden(count: int) -> list[str]:
    return ["", f"And {count - MOST:,} more."] if count > MOST else []


def _details(title: str, lines: Iterable[str]) -> list[str]:
    return [f"<details><summary>{prose(title)}</summary>", "", *lines, "", "</details>"]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    head, *body = rows
    return [_line(head), _line(["---"] * len(head)), *map(_line, body)]


def _line(cells: Iterable[str]) -> str:
    """A row of a table: within a cell `|` is written with a backslash, also in code."""
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


def prose(text: str) -> str:
    """Text that means itself: no markup, no HTML, no mention of anybody."""
    shown = visible(" ".join(text.split())).replace("&", "&amp;")
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", shown)


def code(text: str) -> str:
    """Text as code, whatever backticks are in it."""
    shown = visible(" ".join(text.split()))
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{shown}{space}{fence}"
