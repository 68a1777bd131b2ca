"""What a candidate would decide otherwise, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from septum.audit.apart import Comparison, Difference
from septum.cli.moment import ago
from septum.cli.output import style
from septum.cli.record_lines import visible

_GAP = "  "


def comparison_lines(compared: Comparison, now: float) -> list[str]:
    """How much was compared over how long, what is newly denied, and what is newly allowed."""
    if not compared.version:
        return ["No candidate was asked about any call on record: septum shadow apply"]
    name = f"candidate {style(compared.version[:12], bold=True)}"
    if compared.first is None:
        return [f"{name} was asked about no call on record yet"]
    total = compared.agreed + compared.apart
    lines = [
        f"{name} was asked about {_calls(total)}, the first {ago(compared.first, now)}, the last "
        f"{ago(compared.last, now)}: it agrees with the policy on {compared.agreed:,}, and not on {compared.apart:,}"
    ]
    lines += _section("newly denied", "red", compared.newly_denied, now)
    return [*lines, *_section("newly allowed", "yellow", compared.newly_allowed, now)]


def _section(title: str, colour: str, differences: Sequence[Difference], now: float) -> Iterator[str]:
    if not differences:
        return
    yield ""
    yield style(f"{title}: {_calls(sum(one.calls for one in differences))}", fg=colour)
    rows = [_row(one, now) for one in differences]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for count, *row in rows:
        cells = [count.rjust(widths[0]), *(cell.ljust(width) for cell, width in zip(row, widths[1:], strict=True))]
        yield f"  {_GAP.join(cells)}".rstrip()


def _row(one: Difference, now: float) -> tuple[str, ...]:
    return (
        f"{one.calls:,}",
        visible(f"{one.caller or '?'} → {one.target or '?'}"),
        visible(one.operation),
        f"enforced: {_said(one.policy, one.rule)}{' (observed: it passed)' if _passed(one) else ''}",
        f"candidate: {_said(one.candidate, one.candidate_rule)}",
        f"last {ago(one.last, now)}",
    )


def _said(decision: str, rule: str) -> str:
    return f"{decision} by {rule}" if rule else decision


def _passed(one: Difference) -> bool:
    return one.mode == "observe" and one.policy == "deny"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
