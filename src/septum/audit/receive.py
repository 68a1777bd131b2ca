"""The store's side: takes what all nodes ship, each line once, with one writer for all and a fair turn for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from septum.audit.explain import Explainer, Policies
from septum.audit.inbox import GRACE, Inbox, MayShip
from septum.audit.parcel import Kept, Parcel, Position, Sample
from septum.audit.parse import Recorder
from septum.audit.schema import StoreUnavailable, WrongVersion
from septum.audit.sink import Sink, SinkUnavailable
from septum.audit.store import Store
from septum.audit.worker import Worker

_log = structlog.get_logger("septum.audit")
_T = TypeVar("_T")
# Lines that are stored in one turn: about a tenth of a second at worst, whatever a node ships.
_LINES = 4096


class Receiver:
    """Owns the record file, which it opens when the first node comes, and again until it can be opened.

    `node` is in each call the name by which the node was authenticated, never what its lines say. `trust_domain` is
    asked when the file is opened. A file that cannot be written stops nothing: the nodes keep their logs until it can.
    """

    def __init__(
        self,
        path: Path,
        trust_domain: Callable[[], str],
        policies: Policies,
        may_ship: MayShip | None = None,
        grace: float = GRACE,
    ) -> None:
        self._path, self._trust_domain, self._policies = path, trust_domain, policies
        self._may_ship, self._grace = may_ship, grace
        self._opened: tuple[Store, Recorder] | None = None
        self._inboxes: dict[str, Inbox] = {}
        self._kept: dict[str, Kept] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._worker = Worker("septum-records")
        self._closed = False
        self.stalled = ""

    async def position(self, node: str) -> Position:
        """How far a node's log is in the record. Raises SinkUnavailable, like each call."""
        return await self._in_turn(node, lambda inbox: inbox.position)

    async def take(self, node: str, parcel: Parcel) -> Position:
        """Store a parcel that starts where the record of the node's log is; any other changes nothing.

        Returns, once it is committed, where the record is.
        """
        position = parcel.start
        for piece in parcel.pieces(_LINES):
            position = await self._in_turn(node, partial(_taken, piece))
            if position != piece.end:
                break
        return position

    async def account(self, node: str, sample: Sample) -> None:
        """Compare what a node's Envoy has counted with what is stored."""
        await self._in_turn(node, lambda inbox: inbox.account(sample))

    def kept(self) -> Mapping[str, Kept]:
        """What the record has of each node; nothing before it was opened."""
        return dict(self._kept)

    def sink(self, node: str) -> Sink:
        """The way here for a node in the same process."""
        return _Here(self, node)

    async def close(self) -> None:
        """Close the file when all that was begun is done; who calls now is told that nothing can be taken."""
        self._closed = True
        await self._worker.close()
        if self._opened:
            self._opened[0].close()

    async def _in_turn(self, node: str, work: Callable[[Inbox], _T]) -> _T:
        # At most one piece of work of each node waits for the thread, so none has to wait for more than one of each.
        async with self._turns.setdefault(node, asyncio.Lock()):
            if self._closed:
                raise SinkUnavailable("the control plane is stopping")
            try:
                done = await self._worker.call(lambda: self._do(node, work))
            except (StoreUnavailable, WrongVersion) as error:
                self._note_stalled(str(error))
                raise SinkUnavailable(str(error)) from error
            self._note_stalled("")
            return done

    def _do(self, node: str, work: Callable[[Inbox], _T]) -> _T:
        """In the thread."""
        inbox = self._inboxes.get(node) or self._inbox(node)
        try:
            return work(inbox)
        finally:
            self._kept[node] = inbox.kept()

    def _inbox(self, node: str) -> Inbox:
        assert node, "a node has a name"
        store, recorder = self._opened = self._opened or self._open()
        inbox = self._inboxes[node] = Inbox(node, store, recorder, self._may_ship, self._grace)
        return inbox

    def _open(self) -> tuple[Store, Recorder]:
        store = Store(self._path)
        for node in store.nodes():
            totals, lost = store.totals(node), sum(store.lost(node).values())
            self._kept[node] = Kept(totals.records, totals.unreadable, lost, totals.disagreements, totals.last)
        return store, Recorder(self._trust_domain(), Explainer(self._policies))

    def _note_stalled(self, reason: str) -> None:
        if reason and not self.stalled:
            _log.error("decisions cannot be stored; they wait in the nodes' logs", reason=reason)
        elif self.stalled and not reason:
            _log.info("decisions are stored again")
        self.stalled = reason


def _taken(parcel: Parcel, inbox: Inbox) -> Position:
    inbox.take(parcel)
    return inbox.position


@dataclass(frozen=True, slots=True)
class _Here:
    """A receiver as the sink of one node."""

    receiver: Receiver
    node: str

    async def position(self) -> Position:
        return await self.receiver.position(self.node)

    async def take(self, parcel: Parcel) -> Position:
        return await self.receiver.take(self.node, parcel)

    async def account(self, sample: Sample) -> None:
        await self.receiver.account(self.node, sample)
