"""What a benchmark hands back: figures in rows, with the goals they were held to, and how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Goal:
    """An upper bound, and whether the figure kept it."""

    text: str
    kept: bool

    @property
    def verdict(self) -> str:
        return "pass" if self.kept else "MISS"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured, a cell for each column, and a goal where there is one."""

    what: str
    cells: tuple[str, ...]
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark. `how` says how the figures were made, one sentence or two an item."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    how: tuple[str, ...]

    @property
    def missed(self) -> int:
        return sum(row.goal is not None and not row.goal.kept for row in self.rows)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a benchmark puts into its figures: `quick` is a smoke run, whose figures mean little."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def at_most(value: float, limit: float, text: str) -> Goal:
    return Goal(text, value <= limit)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was measured, never one in between."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float], unit: str = "", digits: int = 1) -> tuple[str, str]:
    """Minimum and median, as cells."""
    return f"{min(values):.{digits}f}{unit}", f"{median(values):.{digits}f}{unit}"
