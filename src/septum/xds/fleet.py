"""All nodes: what each should hold, its stream, and who waits for it. Owned by one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from septum.model.snapshot import Snapshot
from septum.xds.order import Differ
from septum.xds.protocol import Absent, Command, Event, Held, Published, Rejected, Send, Stale
from septum.xds.session import Session
from septum.xds.status import (
    AllHeld,
    AskedForAbsent,
    Connected,
    Disconnected,
    Displaced,
    Happening,
    Missing,
    NodeRefused,
    NodeStatus,
    Outcome,
    Refused,
    Settled,
    StaleAnswer,
    TurnedAway,
)


class UnknownNode(LookupError):
    """No node has this name."""


class Outlet(Protocol):
    """Where a stream's responses go. Neither call blocks."""

    def send(self, response: Send) -> None:
        """Put a response on the stream, after those before it."""

    def end(self) -> None:
        """End the stream: another one took its place, or its node is not known any more."""


@dataclass(eq=False, slots=True)
class Stream:
    """One open stream of a node; `receive` and `close` of the fleet take it."""

    node: str
    outlet: Outlet
    session: Session


# Called with a node after each event of its stream, and what its session wanted done; it must neither block nor raise.
Watch = Callable[[str, Session, Event, Sequence[Command]], None]

# An outcome and when it came, by the fleet's clock.
_Waiting = asyncio.Future[tuple[Outcome, float]]


@dataclass(slots=True)
class _Node:
    """A known node. `session` is that of the stream, or of the last one there was."""

    desired: Snapshot | None = None
    stream: Stream | None = None
    session: Session = field(default_factory=Session)
    changed: float = 0.0
    waiting: list[tuple[str, _Waiting]] = field(default_factory=list)


class Fleet:
    """The nodes by name. `tell` is called with everything that happens, and must neither block nor raise."""

    def __init__(
        self, clock: Callable[[], float], tell: Callable[[Happening], None], watch: Watch | None = None
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._watch = watch
        self._nodes: dict[str, _Node] = {}
        self._differ = Differ()

    def now(self) -> float:
        """The time by the fleet's clock, in which arrivals are told."""
        return self._clock()

    def nodes(self) -> tuple[str, ...]:
        """The nodes that are known."""
        return tuple(self._nodes)

    def expect(self, node: str) -> None:
        """Make a node known. Until something is published for it, its Envoy waits."""
        self._nodes.setdefault(node, _Node(changed=self._clock()))

    def forget(self, node: str) -> None:
        """Make a node unknown and end its stream. Its Envoy goes on with what it holds."""
        gone = self._nodes.pop(node, None)
        if gone is None:
            return
        if gone.stream:
            gone.stream.outlet.end()
        for _, future in gone.waiting:
            self._resolve(future, Missing("the node is not known any more"))

    def rename(self, node: str, name: str) -> None:
        """Know a node, its stream and what it should hold by another name; who had that name is forgotten."""
        self.forget(name)
        known = self._nodes[name] = self._nodes.pop(node)
        if known.stream:
            known.stream.node = name

    def publish(self, node: str, snapshot: Snapshot) -> None:
        """Say what a node should hold. What differs is on its stream's way when this returns."""
        self.expect(node)
        known = self._nodes[node]
        if self._watch is None and known.desired is snapshot and known.session.book.held_version == snapshot.version:
            return  # the most of a fleet, at most changes; who watches is told of every publication
        known.desired, known.changed = snapshot, self._clock()
        if known.stream:
            self._deliver(known, known.stream, Published(snapshot))
        self._answer_waiting(known)

    async def settled(self, nodes: Iterable[str], version: str, within: float) -> dict[str, Outcome]:
        """Wait until each node holds the snapshot of this version or refused some of it, for at most `within` seconds.

        A node that is not connected may still come, and is waited for.
        """
        arrived = await self.arrivals(dict.fromkeys(nodes, version), within)
        return {node: outcome for node, (outcome, _) in arrived.items()}

    async def arrivals(self, wanted: Mapping[str, str], within: float) -> dict[str, tuple[Outcome, float]]:
        """The same for nodes that should hold different snapshots; with each outcome, when it came (fleet's clock)."""
        waits = {node: self._wait(node, version) for node, version in wanted.items()}
        open_waits = [wait for wait in waits.values() if not wait.done()]
        try:
            if open_waits:
                await asyncio.wait(open_waits, timeout=within)
            now = self._clock()
            return {node: wait.result() if wait.done() else (self._late(node), now) for node, wait in waits.items()}
        finally:
            for node, wait in waits.items():
                self._stop_waiting(node, wait)

    def _stop_waiting(self, node: str, wait: _Waiting) -> None:
        wait.cancel()
        known = self._nodes.get(node)
        if known and known.waiting:
            known.waiting = [entry for entry in known.waiting if entry[1] is not wait]

    def status(self) -> list[NodeStatus]:
        """Every known node, by name."""
        return [_status(name, self._nodes[name]) for name in sorted(self._nodes)]

    def open(self, node: str, outlet: Outlet) -> Stream:
        """Begin a node's stream; an earlier one is ended. Raises UnknownNode."""
        known = self._nodes.get(node)
        if known is None:
            self._tell(TurnedAway(node))
            raise UnknownNode(node)
        if known.stream:
            known.stream.outlet.end()
            self._tell(Displaced(node))
        known.session = Session(self._differ, known.session.doubtful)
        known.stream = Stream(node, outlet, known.session)
        self._tell(Connected(node))
        if known.desired:
            self._deliver(known, known.stream, Published(known.desired))
        return known.stream

    def receive(self, stream: Stream, event: Event) -> None:
        """Take what happened on a stream; nothing follows if another took its place."""
        known = self._nodes.get(stream.node)
        if known and known.stream is stream:
            self._deliver(known, stream, event)
            self._answer_waiting(known)

    def close(self, stream: Stream) -> None:
        """Take note that a stream ended."""
        known = self._nodes.get(stream.node)
        if known and known.stream is stream:
            known.stream, known.changed = None, self._clock()
            self._tell(Disconnected(stream.node))

    def _deliver(self, known: _Node, stream: Stream, event: Event) -> None:
        before = stream.session.book.held_version
        commands = stream.session.receive(event)
        for command in commands:
            self._carry_out(stream, command)
        known.changed = self._clock()
        after = stream.session.book.held_version
        if after is not None and after != before:
            self._tell(Settled(stream.node, after))
        if self._watch:
            self._watch(stream.node, stream.session, event, commands)

    def _carry_out(self, stream: Stream, command: Command) -> None:
        match command:
            case Send():
                stream.outlet.send(command)
            case Held():
                pass  # the session's book has it
            case Rejected(refusal):
                self._tell(NodeRefused(stream.node, refusal))
            case Absent(type_url, names):
                self._tell(AskedForAbsent(stream.node, type_url, names))
            case Stale(type_url, nonce):
                self._tell(StaleAnswer(stream.node, type_url, nonce))
            case _:
                assert_never(command)

    def _wait(self, node: str, version: str) -> _Waiting:
        future: _Waiting = asyncio.get_running_loop().create_future()
        known = self._nodes.get(node)
        outcome = _outcome(known, version) if known else Missing("the node is not known")
        if outcome:
            self._resolve(future, outcome)
        elif known:
            known.waiting.append((version, future))
        return future

    def _answer_waiting(self, known: _Node) -> None:
        for version, future in known.waiting:
            outcome = _outcome(known, version)
            if outcome:
                self._resolve(future, outcome)

    def _resolve(self, future: _Waiting, outcome: Outcome) -> None:
        if not future.done():
            future.set_result((outcome, self._clock()))

    def _late(self, node: str) -> Outcome:
        known = self._nodes[node]
        if known.stream is None:
            return Missing("not connected")
        refusals = known.session.book.refusals()
        return Refused(refusals) if refusals else Missing(_reason(known.session))


def _outcome(known: _Node, version: str) -> Outcome | None:
    """What became of a snapshot on a node, or None while that is open."""
    if known.desired is None or known.desired.version != version:
        return Missing("another snapshot was published")
    if known.stream is None:
        return None
    book = known.session.book
    if book.held_version == version:
        return AllHeld(version)
    refusals = book.refusals()
    return Refused(refusals) if refusals and known.session.quiet else None


def _reason(session: Session) -> str:
    """Why a connected node without refusals is late."""
    if session.quiet and session.book.unheld:
        type_url, name = min(session.book.unheld)
        return f"Envoy does not ask for {type_url.rpartition('.')[2]} {name}"
    return "no answer yet"


def _status(name: str, known: _Node) -> NodeStatus:
    book = known.session.book
    return NodeStatus(
        node=name,
        connected=known.stream is not None,
        desired_version=known.desired.version if known.desired else None,
        held_version=book.held_version,
        resources=known.desired.count() if known.desired else 0,
        sent=known.session.in_flight if known.stream else 0,
        held=book.desired.count() - len(book.unheld) if book.desired else 0,
        rejected=tuple(book.rejected.values()),
        changed=known.changed,
    )
