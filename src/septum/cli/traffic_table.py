"""Paths in use as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from septum.audit.traffic import PathRow
from septum.cli.record_lines import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


# Below this width the rules' names are left out, so that the paths stay readable.
_ROOMY = 110


@dataclass(frozen=True, slots=True)
class Space:
    """What there is to show the table in; `lines` is None where it may be as long as it is."""

    columns: int
    lines: int | None = None


def view(rows: Sequence[PathRow], version: str, window: int, now: float, space: Space) -> RenderableType:
    """The header, and as many rows as there is space for."""
    from rich.console import Group
    from rich.text import Text

    if not rows:
        return Group(_header(rows, version, window), Text(f"No calls in the last {window} seconds.", style="dim"))
    most = len(rows) if space.lines is None else space.lines - 4
    shown = rows if len(rows) <= most else rows[: max(1, most - 1)]
    hidden = [Text(f"and {len(rows) - len(shown)} more paths", style="dim")] if len(shown) < len(rows) else []
    return Group(_header(rows, version, window), _table(shown, now, roomy=space.columns >= _ROOMY), *hidden)


def _header(rows: Sequence[PathRow], version: str, window: int) -> Text:
    from rich.text import Text

    denied, would = sum(row.denied for row in rows), sum(row.would_be_denied for row in rows)
    return Text.assemble(
        ("septum top", "bold"),
        f"  {sum(row.rate for row in rows):,.1f}/s over {window} s  ",
        (f"{sum(row.allowed for row in rows):,} allowed", "green"),
        "  ",
        (f"{denied:,} denied", "red" if denied else "dim"),
        "  ",
        (f"{would:,} would be denied", "yellow" if would else "dim"),
        (f"  policy {version[:12] or 'not known'}\n", "dim"),
    )


def _table(rows: Sequence[PathRow], now: float, *, roomy: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2 if roomy else 1, 0, 0))
    for title in ("path", "operation", "rule") if roomy else ("path", "operation"):
        table.add_column(title, overflow="ellipsis")
    for title in ("allowed", "denied", "would", "rate/s", "p50 ms", "p99 ms", "last"):
        table.add_column(title, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(
            _name(f"{row.caller or '?'} → {row.target or '?'}"),
            _name(row.operation),
            *((_name(row.rule) if row.rule else Text("none", style="dim"),) if roomy else ()),
            _number(row.allowed, "green"),
            _number(row.denied, "red"),
            _number(row.would_be_denied, "yellow"),
            Text(f"{row.rate:,.1f}"),
            Text(_latency(row.p50)),
            Text(_latency(row.p99)),
            Text(_ago(now - row.last), style="dim"),
        )
    return table


def _name(text: str) -> Text:
    """Text that gives way when the terminal is narrow; numbers do not."""
    from rich.text import Text

    return Text(visible(text), no_wrap=True, overflow="ellipsis")


def _number(value: int, style: str) -> Text:
    from rich.text import Text

    return Text(f"{value:,}", style=style) if value else Text("·", style="dim")


def _latency(milliseconds: float | None) -> str:
    return "·" if milliseconds is None else f"{milliseconds:,.1f}"


def _ago(seconds: float) -> str:
    return "now" if seconds < 1.5 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
