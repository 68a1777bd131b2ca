"""All nodes: what each should hold, was sent, holds and refused. The one owner of that state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from septum.model.snapshot import Snapshot
from septum.xds.session import Command, Event, Held, Published, Rejected, Send, Session

Key = tuple[str, str]
Deliver = Callable[[list[Send]], None]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that a node refused, the version, and Envoy's reason."""

    type_url: str
    name: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What is known of one node. `held` is the snapshot version all of whose resources it holds, or None."""

    node: str
    connected: bool
    desired: str | None
    held: str | None
    waiting_for: int
    resources: int
    refusals: tuple[Refusal, ...]


class UnknownNodeError(Exception):
    """A node that nobody has registered asked to be served."""


@dataclass
class _Node:
    name: str
    desired: Snapshot | None = None
    held: dict[Key, str] = field(default_factory=dict)
    missing: set[Key] = field(default_factory=set)
    refusals: dict[Key, Refusal] = field(default_factory=dict)
    streams: dict[Session, Deliver] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def expect(self) -> None:
        """Work out what is still missing from the desired snapshot."""
        wanted = (
            {(t, name): r.version for t, names in self.desired.resources.items() for name, r in names.items()}
            if self.desired
            else {}
        )
        self.missing = {key for key, version in wanted.items() if self.held.get(key) != version}
        self.missing |= self.held.keys() - wanted.keys()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(eq=False)
class Stream:
    """One connected proxy, between the server and the fleet."""

    fleet: Fleet
    node: str
    session: Session

    def receive(self, event: Event) -> list[Send]:
        """Take an event of this stream; the responses are to be written in order."""
        return self.fleet._carry_out(self.node, self.session.receive(event))

    def close(self) -> None:
        """The stream ended; what the node holds stays what it last acknowledged."""
        self.fleet._closed(self.node, self.session)


class Fleet:
    """Publishes snapshots to nodes and knows what came of them. `on_refusal` is told of each, so none is silent."""

    def __init__(
        self, on_refusal: Callable[[str, Refusal], None], on_stranger: Callable[[str], None] = lambda _: None
    ) -> None:
        self._nodes: dict[str, _Node] = {}
        self._on_refusal = on_refusal
        self._on_stranger = on_stranger

    def register(self, node: str) -> None:
        """Let a node be served. It gets nothing until something is published."""
        self._nodes.setdefault(node, _Node(node))

    def open(self, node: str, deliver: Deliver) -> Stream:
        """A proxy connected as this node. `deliver` writes responses that no event of its own asked for."""
        if node not in self._nodes:
            self._on_stranger(node)
            raise UnknownNodeError(node)
        state, session = self._nodes[node], Session()
        # A new stream starts from what the proxy says it holds (`initial_resource_versions`).
        state.held.clear()
        state.expect()
        state.streams[session] = deliver
        if state.desired is not None:
            session.receive(Published(state.desired))
        state.wake()
        return Stream(self, node, session)

    def publish(self, node: str, snapshot: Snapshot) -> None:
        """Make a snapshot the desired one of a node and send what differs."""
        state = self._nodes[node]
        state.desired = snapshot
        state.refusals = {k: r for k, r in state.refusals.items() if _version(snapshot, k) == r.version}
        state.expect()
        for session, deliver in tuple(state.streams.items()):
            deliver(self._carry_out(node, session.receive(Published(snapshot))))
        state.wake()

    async def settled(self, node: str, version: str) -> NodeStatus:
        """Wait until the node holds the snapshot, refuses part of it, or is asked to hold another one."""
        state = self._nodes[node]
        while True:
            status = self.status(node)
            if status.desired != version or status.held == version or status.refusals:
                return status
            await state.changed.wait()

    async def connected(self, node: str) -> NodeStatus:
        """Wait until a proxy is connected as this node."""
        state = self._nodes[node]
        while not state.streams:
            await state.changed.wait()
        return self.status(node)

    def status(self, node: str) -> NodeStatus:
        """What is known of a node now."""
        state = self._nodes[node]
        desired = state.desired.version if state.desired else None
        settled = desired is not None and not state.missing and not state.refusals
        return NodeStatus(
            node=node,
            connected=bool(state.streams),
            desired=desired,
            held=desired if settled else None,
            waiting_for=len(state.missing),
            resources=len(state.held),
            refusals=tuple(state.refusals.values()),
        )

    def nodes(self) -> Iterable[str]:
        """The registered nodes, by name."""
        return sorted(self._nodes)

    def _carry_out(self, node: str, commands: list[Command]) -> list[Send]:
        state = self._nodes[node]
        sends = []
        for command in commands:
            match command:
                case Send():
                    sends.append(command)
                case Held(type_url, name, version):
                    self._note_held(state, (type_url, name), version)
                case Rejected(type_url, name, version, reason):
                    refusal = Refusal(type_url, name, version, reason)
                    state.refusals[type_url, name] = refusal
                    self._on_refusal(node, refusal)
        if len(sends) != len(commands):
            state.wake()
        return sends

    def _note_held(self, state: _Node, key: Key, version: str | None) -> None:
        if version is None:
            state.held.pop(key, None)
        else:
            state.held[key] = version
            if key in state.refusals and state.refusals[key].version != version:
                del state.refusals[key]
        if _version(state.desired, key) == version:
            state.missing.discard(key)
        else:
            state.missing.add(key)

    def _closed(self, node: str, session: Session) -> None:
        state = self._nodes[node]
        state.streams.pop(session, None)
        state.wake()


def _version(snapshot: Snapshot | None, key: Key) -> str | None:
    resource = snapshot.of(key[0]).get(key[1]) if snapshot else None
    return resource.version if resource else None
