"""What should have arrived and what did: Envoy counts its decisions, the store its lines.

A decision that Envoy had counted before the log was last read to its end, and that is not there, is lost.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Envoy's count (`expected`), asked at `time` on the monotonic clock, and the lines that were there (`written`)."""

    time: float
    expected: int
    written: int


class Account:
    """The account of one run of Envoy. No I/O: samples in, losses out."""

    def __init__(self, grace: float) -> None:
        self._grace = grace  # seconds within which a decision is surely in the file
        self._sample: Sample | None = None
        self.lost = 0

    def receive(self, sample: Sample, read_to_end: float) -> bool:
        """Take the next sample; `read_to_end` is when the log was last read to its end. True when `lost` has changed."""
        before, self._sample = self._sample, sample
        if before is None or read_to_end < before.time + self._grace:
            return False
        missing = max(0, before.expected - sample.written)
        # While requests go on, later lines hide earlier losses: only in quiet is the difference exact.
        quiet = before.expected == sample.expected and before.written == sample.written
        lost = missing if quiet else max(self.lost, missing)
        changed, self.lost = lost != self.lost, lost
        return changed

    def final(self, written: int) -> int:
        """What is lost of a run that has ended, its log read to the end. What came after the last sample is not known."""
        return max(self.lost, self._sample.expected - written) if self._sample else self.lost
