"""What a change would do, in a few lines, for somebody who is about to apply it. `septum plan` says all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from septum.cli.diagnostics import visible
from septum.cli.output import style
from septum.cli.place import state_dir
from septum.control.state import StateError
from septum.control.versions import ENFORCED, Versions
from septum.model.policy import Policy
from septum.policy.load import Files, load
from septum.policy.quarantine import quarantined
from septum.verify.diff import Diff, diff
from septum.verify.rows import Row

# So many rows of a kind are shown.
_SHOWN = 8


def change_lines(mesh: Path, files: Files, now: float) -> list[str]:
    """What would change against what is enforced; nothing when that cannot be told, and the answer will say why."""
    try:
        with closing(Versions.open(state_dir(mesh))) as versions:
            enforced = versions.find(ENFORCED)
    except StateError:
        return []
    old, new = (load(enforced.files).policy if enforced else None), load(files).policy
    if enforced is None or old is None or new is None:
        return []
    return list(_lines(_both(old, new, enforced.quarantined, now)))


def _both(old: Policy, new: Policy, shut: frozenset[str], now: float) -> Diff:
    """Whoever is in quarantine stays there."""
    return diff(quarantined(old, shut), quarantined(new, shut), now)


def _lines(found: Diff) -> Iterator[str]:
    counts = Counter((change.kind, str(change.what)) for change in found.changes)
    if not counts:
        yield "nothing changes but how it is written"
        return
    yield "; ".join(f"{number} {kind}{'s' if number > 1 else ''} {what}" for (kind, what), number in counts.items())
    yield from _rows("+", "green", found.allowed)
    yield from _rows("-", "red", found.denied)
    yield from (f"  ~ {visible(shift.name)}: {shift.kind}" for shift in found.shifts)
    yield f"  it {found.risk}" if not found.risk.unknown else f"  {visible(str(found.risk))}"


def _rows(sign: str, tone: str, rows: tuple[Row, ...]) -> Iterator[str]:
    for row in rows[:_SHOWN]:
        what = f"{row.callers_text} -> {row.targets_text}  {row.operation}"
        part = "  in part" if row.other or row.above else ""
        yield style(f"  {sign} {visible(what)}", fg=tone) + f"{part}  ({visible(row.rule.id)})"
    if len(rows) > _SHOWN:
        yield f"  {sign} and {len(rows) - _SHOWN} more: `septum plan`"
