"""Follows the log while Envoy writes it: reads at once, rotates, keeps the account, waits out a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from septum.audit.account import Account, Counted
from septum.audit.ingest import Ingest
from septum.audit.schema import StoreUnavailable
from septum.audit.store import Store

_log = structlog.get_logger("septum.audit")
_T = TypeVar("_T")


class Writer(Protocol):
    """What the tail asks of the Envoy that writes the log."""

    async def reopen(self) -> None:
        """Have the log opened again (`POST /reopen_logs`). May fail to; it is asked again until there is a new file."""
        ...

    async def counted(self) -> Counted | None:
        """The decisions that the Envoy which runs now has counted, or None when it cannot be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks at the log, between samples of the account, and until a decision is surely in the file.

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
    """The one reader of a node's log. `run` follows it; `drain` before the end takes what is left; `close` lets go."""

    def __init__(self, ingest: Ingest, store: Store, writer: Writer, pace: Pace | None = None) -> None:
        self._ingest, self._store, self._writer = ingest, store, writer
        self._pace = pace or Pace()
        self._account = Account(self._pace.grace, store.lost())
        self._stalled = ""
        self._read_to_end = 0.0
        self._quiet: tuple[object, ...] | None = None
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="septum-audit")

    async def run(self) -> None:
        """Follow the log until cancelled. What is being stored at that moment is stored to its end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="audit follow")
            tasks.create_task(self._reopen(), name="audit reopen")
            tasks.create_task(self._keep_account(), name="audit account")

    async def drain(self) -> None:
        """Take in every whole line that is there now. Raises StoreUnavailable."""
        async with self._lock:
            while await self._call(self._ingest.advance):
                pass

    async def close(self) -> None:
        """Let go of the log. The store stays open."""
        async with self._lock:
            self._ingest.close()
            self._thread.shutdown()

    def status(self) -> AuditStatus:
        """How the record stands now."""
        totals = self._store.totals
        return AuditStatus(
            ingested=totals.records,
            unreadable=totals.unreadable,
            lost=self._account.lost,
            behind=self._ingest.behind(),
            stalled=self._stalled,
            disagreements=self._ingest.mark.disagreements,
            last=totals.last,
        )

    async def _follow(self) -> None:
        wait = self._pace.retry
        while True:
            try:
                if not await self._look():
                    await asyncio.sleep(self._pace.poll)
                wait = self._pace.retry
            except (StoreUnavailable, OSError) as error:
                self._note_stalled(str(error))
                await asyncio.sleep(wait)
                wait = min(2 * wait, self._pace.retry_most)

    async def _look(self) -> bool:
        """One step, unless nothing has come since the last one found nothing. False when there is nothing to do."""
        now, state = asyncio.get_running_loop().time(), self._ingest.state()
        if state != self._quiet:
            async with self._lock:
                more = await self._call(self._step)
            self._note_stalled("")
            if more:
                return True
            self._quiet = state
        self._read_to_end = now
        return False

    async def _reopen(self) -> None:
        """Tell the writer to leave a file that was set aside, until it has."""
        wait = self._pace.retry
        while True:
            if not self._ingest.awaits_writer:
                wait = self._pace.retry
                await asyncio.sleep(8 * self._pace.poll)  # rare, and nothing waits for it
                continue
            await self._writer.reopen()
            await asyncio.sleep(wait)
            wait = min(2 * wait, self._pace.retry_most)

    async def _keep_account(self) -> None:
        while True:
            await asyncio.sleep(self._pace.account)
            counted = await self._writer.counted()
            if counted is not None:
                async with self._lock:
                    await self._compare(counted)

    async def _compare(self, counted: Counted) -> None:
        now = asyncio.get_running_loop().time()
        loss = self._account.receive(now, counted, self._ingest.written, self._read_to_end)
        if loss is None:
            return
        _log.error("decisions were made that never reached the log", run=loss.run, lost=loss.expected - loss.written)
        try:
            await self._call(lambda: self._store.note_loss(loss.run, loss.expected, loss.written))
        except StoreUnavailable as error:
            self._note_stalled(str(error))

    def _step(self) -> bool:
        more = self._ingest.advance()
        self._ingest.rotate(self._pace.rotate_at)
        return more

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
