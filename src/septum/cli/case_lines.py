"""Results of policy tests for people: a letter a case, then why, then how many; and what nothing has touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from septum.app.trial.verdict import Fate, Ran
from septum.cli.moment import ago, spoken
from septum.cli.output import style
from septum.verify.cases import expectation
from septum.verify.coverage import Coverage, Entry

if TYPE_CHECKING:
    from septum.audit.usage import Use

_TONES = {Fate.PASSED: "green", Fate.FAILED: "red", Fate.DISAGREED: "magenta", Fate.TROUBLED: "yellow"}
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is on record of the last `seconds` until `now`, by rule and operation."""

    uses: Mapping[tuple[str, str], Use]
    seconds: float
    now: float


def letters(ran: Sequence[Ran], before: str) -> Iterator[str]:
    """A line a file, with a letter for each of its cases."""
    for file, of_file in groupby(ran, _file):
        marks = [style(one.fate.letter, fg=_TONES[one.fate]) for one in of_file]
        room = max(10, _WIDTH - len(before + file) - 1)
        for start in range(0, len(marks), room):
            head = before + file if start == 0 else " " * len(before + file)
            yield f"{head} {''.join(marks[start : start + room])}"


def each(ran: Sequence[Ran], before: str) -> Iterator[str]:
    """A line a case."""
    for one in ran:
        fate = style(one.fate.word.upper(), fg=_TONES[one.fate])
        case = one.result.case
        said = case.name or f"{case.text} {expectation(case)}"
        yield f"{before}{_place(one)}  {said}  {fate}"


def failures(ran: Iterable[Ran], before: str) -> Iterator[str]:
    """Why each case failed that did, and where it stands."""
    for one in ran:
        if one.fate is not Fate.PASSED:
            yield ""
            fate = style(one.fate.word.upper(), fg=_TONES[one.fate], bold=True)
            yield f"{fate}  {before}{_place(one)}  {style(one.result.case.title, bold=True)}"
            yield from (f"  {line}" for line in one.lines(before))


def summary(ran: Sequence[Ran], seconds: float) -> str:
    """How many there were, and how they ended."""
    counts = Counter(one.fate for one in ran)
    parts = [f"{counts[fate]} {_counted(fate)}" for fate in Fate if counts[fate]]
    bad = len(ran) - counts[Fate.PASSED]
    calls = sum(len(one.result.answers) for one in ran)
    number = f"{_number(len(ran), 'test')} ({_number(calls, 'request')}): " if calls != len(ran) else ""
    return style(f"{number}{', '.join(parts)} in {seconds:.2f} s", fg="red" if bad else "green")


def _counted(fate: Fate) -> str:
    return {Fate.DISAGREED: "disagreed", Fate.TROUBLED: "not asked"}.get(fate, fate.word)


def covered(found: Coverage, traffic: Traffic | None, *, everything: bool) -> Iterator[str]:
    """The operations that no test, or no traffic, has touched: all of them when `everything` is asked for."""
    rules = {entry.rule.id for entry in found.entries}
    tested = len(rules) - len(found.untouched_rules)
    yield (
        f"coverage: tests touch {found.touched} of {_number(len(found.entries), 'operation')} ({found.percent:.0f} %), "
        f"and {tested} of {_number(len(rules), 'rule')}"
    )
    shown = [e for e in found.entries if everything or not e.calls or (traffic and not _use(e, traffic))]
    if shown:
        yield from _table([_titles(traffic), *(_row(entry, traffic) for entry in shown)])


def _titles(traffic: Traffic | None) -> list[str]:
    return ["rule", "operation", "tests", *([f"traffic, {spoken(traffic.seconds)}"] if traffic else [])]


def _row(entry: Entry, traffic: Traffic | None) -> list[str]:
    row = [entry.rule.id, entry.operation, str(entry.calls or "none")]
    if traffic is not None:
        use = _use(entry, traffic)
        row.append(f"{use.hits}, last {ago(use.last, traffic.now)}" if use else "none")
    return row


def _use(entry: Entry, traffic: Traffic) -> Use | None:
    return traffic.uses.get((entry.rule.id, entry.operation))


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield f"  {style(line, dim=True) if number == 0 else line}"


def _place(one: Ran) -> str:
    span = one.result.case.span
    return span.place if span else ""


def _file(one: Ran) -> str:
    span = one.result.case.span
    return span.file if span else ""


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
