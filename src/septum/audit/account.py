"""What should have arrived and what did: Envoy counts its decisions, the store its lines.

A decision that Envoy had counted, and that is not in the log when that is read to its end later on, is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from septum.audit.parcel import Sample


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
    """Compares what one node has counted with what is stored. No I/O: samples in, losses out.

    Runs overlap while one Envoy takes over from another, so each is compared by itself.
    """

    def __init__(self, grace: float, lost: Mapping[str, int]) -> None:
        self._grace = grace  # seconds within which a decision is surely in the log
        self._lost = dict(lost)
        self._before: dict[str, tuple[Sample, int]] = {}
        self._clock = 0.0

    @property
    def lost(self) -> int:
        """Decisions lost, of all runs."""
        return sum(self._lost.values())

    def receive(self, sample: Sample, written: Mapping[str, int]) -> list[Loss]:
        """Take a count, with the lines stored by run. Returns what has become known about losses.

        A count is compared with what is stored once the log was read to its end later than it was asked.
        """
        if sample.asked < self._clock:
            self._before.clear()  # the node's clock began anew
        self._clock = sample.asked
        due = [run for run, (then, _) in self._before.items() if sample.read >= then.asked + self._grace]
        losses = [loss for run in due if (loss := self._compare(*self._before.pop(run), sample, written))]
        self._before.setdefault(sample.run, (sample, written.get(sample.run, 0)))
        return losses

    def _compare(self, then: Sample, had: int, now: Sample, written: Mapping[str, int]) -> Loss | None:
        has = written.get(then.run, 0)
        missing = max(0, then.decisions - has)
        # While requests go on, later lines hide earlier losses: only in quiet is the difference exact.
        quiet = (then.run, then.decisions) == (now.run, now.decisions) and had == has
        known = self._lost.get(then.run, 0)
        lost = missing if quiet else max(known, missing)
        if lost == known:
            return None
        self._lost[then.run] = lost
        return Loss(then.run, has + lost, has)
