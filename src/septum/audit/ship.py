"""Follows the log while Envoy writes it, and ships it: reads at once, rotates, waits while nobody takes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from septum.audit.account import Counted
from septum.audit.parcel import Sample, Standing
from septum.audit.reading import Reading
from septum.audit.sink import Sink, SinkUnavailable
from septum.audit.worker import Worker

_log = structlog.get_logger("septum.audit")
# Runs of Envoy whose counts are kept while nobody takes them.
_RUNS = 1000


class Writer(Protocol):
    """What the shipper asks of the Envoy that writes the log."""

    async def reopen(self) -> None:
        """Have the log opened again (`POST /reopen_logs`). May fail to; it is asked again until there is a new file."""
        ...

    async def counts(self) -> Sequence[Counted]:
        """The decisions that runs of Envoy have counted, as far as they can be asked; the one that runs now is last."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks at the log, and between samples of what Envoy has counted.

    `rotate_at` is the size in bytes at which the log is set aside; back-off doubles from `retry` to `retry_most`.
    """

    poll: float = 0.03
    account: float = 2.0
    retry: float = 0.1
    retry_most: float = 5.0
    rotate_at: int = 64 << 20


class Shipper:
    """The one reader of a node's log. `run` follows it; `drain` before the end ships what is left; `close` lets go.

    One parcel at a time: the next one is made when the store has the one before.
    """

    def __init__(self, reading: Reading, sink: Sink, writer: Writer, pace: Pace | None = None) -> None:
        self._reading, self._sink, self._writer = reading, sink, writer
        self._pace = pace or Pace()
        self._counts = _Counts()
        self._stalled, self._since = "", 0.0
        self._in_step = False  # whether the reading is known to be where the store is
        self._read_to_end = 0.0
        self._quiet: tuple[object, ...] | None = None
        self._lock = asyncio.Lock()
        self._worker = Worker("septum-log")

    async def run(self) -> None:
        """Follow the log until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="records follow")
            tasks.create_task(self._rotate(), name="records rotate")
            tasks.create_task(self._keep_account(), name="records account")

    async def drain(self) -> None:
        """Ship every whole line that is there now. Raises SinkUnavailable."""
        while await self._step():
            pass

    async def close(self) -> None:
        """Let go of the log."""
        async with self._lock:
            await self._worker.close()
            self._reading.close()

    def status(self) -> Standing:
        """How shipping stands now."""
        return Standing(self._reading.behind(), self._stalled, self._since if self._stalled else None)

    async def _follow(self) -> None:
        wait = self._pace.retry
        while True:
            try:
                if not await self._look():
                    await asyncio.sleep(self._pace.poll)
                wait = self._pace.retry
            except (SinkUnavailable, OSError) as error:
                self._note_stalled(str(error))
                await asyncio.sleep(wait)
                wait = min(2 * wait, self._pace.retry_most)

    async def _look(self) -> bool:
        """One step, unless nothing has come since the last one found nothing. False when there is nothing to do."""
        now, state = asyncio.get_running_loop().time(), self._reading.state()
        if state != self._quiet or not self._in_step:
            more = await self._step()
            self._note_stalled("")
            if more:
                return True
            self._quiet = state
        self._read_to_end = now
        return False

    async def _step(self) -> bool:
        """Ship one parcel; False when there is none."""
        async with self._lock:
            if not self._in_step:
                position = await self._sink.position()
                await self._worker.call(self._reading.close)  # the file is known again by what stands in it
                await self._worker.call(lambda: self._reading.resume(position))
                self._in_step = True
            parcel = await self._worker.call(self._reading.next)
            if parcel is None:
                return False
            self._in_step = False  # until the answer is here, whatever happens to it
            position = await self._sink.take(parcel)
            if position != parcel.end:
                _log.warning("the record is not where the log was read; going on from there")
            await self._worker.call(lambda: self._reading.resume(position))
            self._in_step = True
            return True

    async def _rotate(self) -> None:
        """Set the log aside when it is long, also while nobody takes it, and have the writer leave it."""
        wait = self._pace.retry
        while True:
            try:
                # In the thread that reads, so that the names of the files stay while a parcel is made.
                await self._worker.call(lambda: self._reading.rotate(self._pace.rotate_at))
            except OSError as error:
                _log.error("the decision log cannot be set aside; it goes on growing", reason=str(error))
                await asyncio.sleep(self._pace.retry_most)
            if not self._reading.awaits_writer:
                wait = self._pace.retry
                await asyncio.sleep(8 * self._pace.poll)  # rare, and nothing waits for it
                continue
            await self._writer.reopen()
            await asyncio.sleep(wait)
            wait = min(2 * wait, self._pace.retry_most)

    async def _keep_account(self) -> None:
        while True:
            await asyncio.sleep(self._pace.account)
            counts = await self._writer.counts()
            self._counts.add(asyncio.get_running_loop().time(), counts)
            try:
                await self._send_counts()
            except SinkUnavailable:
                # Whoever was away may have been set back meanwhile.
                self._in_step = False
                self._counts.unsure()

    async def _send_counts(self) -> None:
        for asked, counted in self._counts.due():
            await self._sink.account(Sample(counted.run, counted.decisions, asked, self._read_to_end))
            self._counts.sent(counted)

    def _note_stalled(self, reason: str) -> None:
        if reason and not self._stalled:
            self._since = time.time()
            _log.error("decisions cannot be shipped; they wait in the log", reason=reason)
        elif self._stalled and not reason:
            _log.info("decisions are shipped again")
        self._stalled = reason


class _Counts:
    """The newest count of each run, until the store has it: an outage must not hide what was counted in it."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[float, Counted]] = {}
        self._sent: dict[str, int] = {}

    def add(self, asked: float, counts: Sequence[Counted]) -> None:
        """Take what was counted at a time. Only what is new about a run counts, or that it runs now."""
        for counted in counts:
            if counted is counts[-1] or self._sent.get(counted.run) != counted.decisions:
                self._newest.pop(counted.run, None)  # in the order in which they were asked
                self._newest[counted.run] = (asked, counted)
        while len(self._newest) > _RUNS:
            del self._newest[next(iter(self._newest))]

    def due(self) -> list[tuple[float, Counted]]:
        """What the store does not have, in the order in which it was asked."""
        return list(self._newest.values())

    def sent(self, counted: Counted) -> None:
        """The store has it."""
        self._newest.pop(counted.run, None)
        self._sent[counted.run] = counted.decisions
        while len(self._sent) > _RUNS:
            del self._sent[next(iter(self._sent))]

    def unsure(self) -> None:
        """The store may have forgotten what it was sent."""
        self._sent.clear()
