"""What should have arrived and what did: Envoy counts its decisions, the store its lines.

A decision that Envoy had counted, and that is not in the log when that is read to its end later on, is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counted:
    """The decisions that one run of Envoy has counted; `run` is what its lines carry."""

    run: str
    decisions: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Of a run's `expected` decisions `written` are stored."""

    run: str
    expected: int
    written: int


class Account:
    """Compares. No I/O: counts in, losses out. Times are of one monotonic clock."""

    def __init__(self, grace: float, lost: Mapping[str, int]) -> None:
        self._grace = grace  # seconds within which a decision is surely in the log
        self._lost = dict(lost)
        self._before: tuple[float, Counted, int] | None = None

    @property
    def lost(self) -> int:
        """Decisions lost, of all runs."""
        return sum(self._lost.values())

    def receive(self, time: float, counted: Counted, written: Mapping[str, int], read_to_end: float) -> Loss | None:
        """Take a count that was asked at `time`. Returns what has become known about losses, if anything has.

        `read_to_end` is when the log was last read to its end; what a count is compared with was read later.
        """
        before = self._before
        if before and read_to_end < before[0] + self._grace:
            return None
        self._before = (time, counted, written.get(counted.run, 0))
        return self._compare(before[1], before[2], counted, written.get(before[1].run, 0)) if before else None

    def _compare(self, then: Counted, had: int, counted: Counted, has: int) -> Loss | None:
        missing = max(0, then.decisions - has)
        # While requests go on, later lines hide earlier losses: only in quiet is the difference exact.
        quiet = then == counted and had == has
        known = self._lost.get(then.run, 0)
        lost = missing if quiet else max(known, missing)
        if lost == known:
            return None
        self._lost[then.run] = lost
        return Loss(then.run, has + lost, has)
