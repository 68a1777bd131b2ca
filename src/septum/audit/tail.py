"""Follows the log while Envoy writes it: reads at once, rotates, keeps the account, waits out a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from septum.audit.account import Account, Sample
from septum.audit.ingest import Ingest
from septum.audit.schema import StoreUnavailable
from septum.audit.store import Store

_log = structlog.get_logger("septum.audit")
_T = TypeVar("_T")


class Writer(Protocol):
    """What the tail asks of the Envoy that writes the log."""

    async def reopen(self) -> bool:
        """Have the log opened again (`POST /reopen_logs`); False when Envoy could not be told."""
        ...

    async def expected(self) -> int | None:
        """Decisions counted since this Envoy started, or None when it cannot be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks at the log, between samples of the account, and until a counted decision is surely in the file.

    `rotate_at` is the size in bytes at which the log is set aside; back-off doubles from `retry` to `retry_most`.
    """

    poll: float = 0.03
    account: float = 2.0
    grace: float = 1.0
    retry: float = 0.1
    retry_most: float = 5.0
    rotate_at: int = 64 << 20


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """How the record stands. `behind` is in bytes of the log; `stalled` is why nothing can be stored now, or empty."""

    ingested: int
    unreadable: int
    lost: int
    behind: int
    stalled: str
    disagreements: int
    last: float | None


class Tail:
    """The one reader of a node's log. `begin` before each start of Envoy, `run` all the while, `finish` after its end."""

    def __init__(self, ingest: Ingest, store: Store, writer: Writer, pace: Pace | None = None) -> None:
        self._ingest, self._store, self._writer = ingest, store, writer
        self._pace = pace or Pace()
        self._account = Account(self._pace.grace)
        self._lost = store.lost()
        self._stalled = ""
        self._read_to_end = 0.0
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="septum-audit")

    async def run(self) -> None:
        """Follow the log until cancelled. What is being stored at that moment is stored to its end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="audit follow")
            tasks.create_task(self._reopen(), name="audit reopen")
            tasks.create_task(self._keep_account(), name="audit account")

    async def begin(self, epoch: str) -> None:
        """Start the account of a run of Envoy. To be called before the run starts, while nobody writes.

        With the name of the run that is already counted, the account goes on: the agent may restart under a live Envoy.
        Raises StoreUnavailable.
        """
        async with self._lock:
            if epoch == self._ingest.mark.epoch:
                return
            await self._call(lambda: self._drain(stopped=True))
            await self._call(self._close_account)
            await self._call(lambda: self._ingest.begin(epoch))
            self._account = Account(self._pace.grace)

    async def finish(self) -> None:
        """Take in the rest of the log after Envoy has ended, an unfinished line too. Raises StoreUnavailable."""
        async with self._lock:
            await self._call(lambda: self._drain(stopped=True))
            await self._call(self._close_account)

    async def close(self) -> None:
        """Let go of the log. The store stays open."""
        async with self._lock:
            self._ingest.close()
            self._thread.shutdown()

    async def status(self) -> AuditStatus:
        """How the record stands now."""
        async with self._lock:
            return await self._call(self._status)

    async def _follow(self) -> None:
        wait = self._pace.retry
        while True:
            try:
                async with self._lock:
                    more = await self._call(self._step)
                self._note_stalled("")
                wait = self._pace.retry
                if not more:
                    self._read_to_end = asyncio.get_running_loop().time()
                    await asyncio.sleep(self._pace.poll)
            except (StoreUnavailable, OSError) as error:
                self._note_stalled(str(error))
                await asyncio.sleep(wait)
                wait = min(2 * wait, self._pace.retry_most)

    async def _reopen(self) -> None:
        """Tell the writer to leave a file that was set aside, until it has."""
        wait = self._pace.retry
        while True:
            if not self._ingest.awaits_writer:
                wait = self._pace.retry
                await asyncio.sleep(self._pace.poll)
                continue
            await self._writer.reopen()
            await asyncio.sleep(wait)
            wait = min(2 * wait, self._pace.retry_most)

    async def _keep_account(self) -> None:
        while True:
            await asyncio.sleep(self._pace.account)
            expected = await self._writer.expected()
            if expected is None or self._stalled:
                continue
            async with self._lock:
                sample = Sample(asyncio.get_running_loop().time(), expected, self._ingest.mark.written)
                if self._account.receive(sample, self._read_to_end):
                    await self._call(lambda: self._note_loss(self._account.lost))

    def _step(self) -> bool:
        more = self._ingest.advance()
        self._ingest.rotate(self._pace.rotate_at)
        return more

    def _drain(self, *, stopped: bool) -> None:
        while self._ingest.advance(stopped=stopped):
            pass

    def _close_account(self) -> None:
        lost = self._account.final(self._ingest.mark.written)
        if lost > self._account.lost:
            self._note_loss(lost)

    def _note_loss(self, lost: int) -> None:
        mark = self._ingest.mark
        self._store.note_loss(mark.epoch, mark.written + lost, mark.written)
        self._lost[mark.epoch] = lost
        _log.error("decisions were lost before they reached the log", lost=lost, written=mark.written, epoch=mark.epoch)

    def _status(self) -> AuditStatus:
        ingested, unreadable, last = self._store.counts()
        return AuditStatus(
            ingested=ingested,
            unreadable=unreadable,
            lost=sum(self._lost.values()),
            behind=self._ingest.behind(),
            stalled=self._stalled,
            disagreements=self._ingest.mark.disagreements,
            last=last,
        )

    def _note_stalled(self, reason: str) -> None:
        if reason and not self._stalled:
            _log.error("decisions cannot be stored; they wait in the log", reason=reason)
        elif self._stalled and not reason:
            _log.info("decisions are stored again")
        self._stalled = reason

    async def _call(self, work: Callable[[], _T]) -> _T:
        """Run in the thread that owns the store, and to its end also when this task is cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
