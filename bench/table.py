"""Reports as text for a terminal and as Markdown, from the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.report import Report, Row

_GOAL = ("goal", "")


def text(report: Report) -> str:
    """A table in columns, with the way it was made below."""
    rows = [("", *report.columns, *_GOAL), *(_cells(row) for row in report.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    return "\n".join([report.title, *(f"  {line}" for line in lines), *(f"  - {line}" for line in report.how)])


def markdown(report: Report) -> str:
    """The same as a Markdown section."""
    head = ["what", *report.columns, *_GOAL]
    lines = [_line(head), _line(["---"] + ["---:"] * len(report.columns) + ["---"] * len(_GOAL))]
    lines += [_line(_cells(row)) for row in report.rows]
    return "\n".join([f"## {report.title}", "", *lines, "", *(f"- {line}" for line in report.how)])


def _cells(row: Row) -> tuple[str, ...]:
    return (row.what, *row.cells, *((row.goal.text, row.goal.verdict) if row.goal else ("", "")))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
