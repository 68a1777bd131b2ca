"""One delta xDS stream as a state machine: events in, commands out, no I/O and no clock.

A node holds only what it acknowledged. After the first answer to a subscription every response carries one resource:
Envoy applies the good resources of a response that it refuses, and its reasons do not always name the bad one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from septum.model.snapshot import Resource, Snapshot
from septum.xds.types import BREAK, MAKE

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Published:
    """The snapshot that the node should hold from now on."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The proxy wants (or no longer wants) names of a type; `initial` is what it holds from an earlier stream."""

    type_url: str
    names: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    initial: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ack:
    """The proxy applied a response."""

    type_url: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Nack:
    """The proxy refused a response, or part of it."""

    type_url: str
    nonce: str
    reason: str


Event = Published | Subscribe | Ack | Nack


@dataclass(frozen=True, slots=True)
class Send:
    """A response to write."""

    type_url: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    nonce: str


@dataclass(frozen=True, slots=True)
class Held:
    """The node holds this version; None means that it holds the resource no longer."""

    type_url: str
    name: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The node refused this version."""

    type_url: str
    name: str
    version: str
    reason: str


Command = Send | Held | Rejected


@dataclass
class _Type:
    """What is known of one type on this stream. `client` is what the proxy has or was sent last."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    answered: bool = False
    client: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    pending: dict[str, tuple[tuple[str, str | None], ...]] = field(default_factory=dict)

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names


@dataclass(eq=False)
class Session:
    """The state of one stream."""

    _snapshot: Snapshot | None = None
    _types: dict[str, _Type] = field(default_factory=dict)
    _nonce: int = 0

    def receive(self, event: Event) -> list[Command]:
        """Take one event; the commands are to be carried out in order."""
        match event:
            case Published(snapshot):
                self._snapshot = snapshot
                return list(self._push())
            case Subscribe():
                return [*self._subscribe(event), *self._push()]
            case Ack(type_url, nonce):
                return [*self._held(type_url, nonce), *self._break()]
            case Nack(type_url, nonce, reason):
                return list(self._rejected(type_url, nonce, reason))
            case _:
                assert_never(event)

    @property
    def outstanding(self) -> int:
        """Responses that were neither acknowledged nor refused yet."""
        return sum(len(state.pending) for state in self._types.values())

    def _subscribe(self, event: Subscribe) -> Iterator[Command]:
        first = event.type_url not in self._types
        state = self._types.setdefault(event.type_url, _Type())
        # A first request without names subscribes to everything (the protocol's older form of `*`).
        if EVERYTHING in event.names or (first and not event.names):
            state.wildcard = True
        state.names |= set(event.names) - {EVERYTHING}
        for name, version in event.initial.items():
            state.client[name] = version
            yield Held(event.type_url, name, version)
        for name in event.leave:
            state.names.discard(name)
            state.refused.pop(name, None)
            if state.client.pop(name, None) is not None:
                yield Held(event.type_url, name, None)
        if self._snapshot is not None:
            yield from self._answer_absent(event, state)

    def _answer_absent(self, event: Subscribe, state: _Type) -> Iterator[Command]:
        """A name that does not exist is answered at once, or the proxy waits for it until its fetch time-out."""
        assert self._snapshot is not None
        known = self._snapshot.of(event.type_url)
        absent = tuple(name for name in event.names if name != EVERYTHING and name not in known)
        if absent:
            yield self._send(event.type_url, state, (), absent)

    def _push(self) -> Iterator[Command]:
        if self._snapshot is None:
            return
        for type_url in (*MAKE, *(t for t in self._types if t not in MAKE)):
            if (state := self._types.get(type_url)) is not None:
                yield from self._make(type_url, state)
        yield from self._break()

    def _make(self, type_url: str, state: _Type) -> Iterator[Command]:
        assert self._snapshot is not None
        changed = [
            resource
            for name, resource in self._snapshot.of(type_url).items()
            if state.client.get(name) != resource.version
            and state.refused.get(name) != resource.version
            and state.wants(name)
        ]
        if not state.answered and (changed or state.wildcard):
            state.answered = True  # an empty wildcard subscription is answered too: Envoy would wait 15 s
            yield self._send(type_url, state, tuple(changed), ())
            return
        for resource in changed:
            yield self._send(type_url, state, (resource,), ())

    def _break(self) -> Iterator[Command]:
        """Take away what is gone, once everything sent has been answered."""
        if self._snapshot is None or self.outstanding:
            return
        for type_url in BREAK:
            if (state := self._types.get(type_url)) is None:
                continue
            gone = tuple(name for name in state.client if name not in self._snapshot.of(type_url))
            if gone:
                yield self._send(type_url, state, (), gone)
                return  # the next type goes when this one is acknowledged

    def _send(self, type_url: str, state: _Type, resources: tuple[Resource, ...], removed: tuple[str, ...]) -> Send:
        self._nonce += 1
        nonce = str(self._nonce)
        for resource in resources:
            state.client[resource.name] = resource.version
        for name in removed:
            state.client.pop(name, None)
        state.pending[nonce] = (*((r.name, r.version) for r in resources), *((name, None) for name in removed))
        return Send(type_url, resources, removed, nonce)

    def _held(self, type_url: str, nonce: str) -> Iterator[Command]:
        state = self._types.get(type_url)
        for name, version in state.pending.pop(nonce, ()) if state else ():
            if version is not None and state:
                state.refused.pop(name, None)
            yield Held(type_url, name, version)

    def _rejected(self, type_url: str, nonce: str, reason: str) -> Iterator[Command]:
        state = self._types.get(type_url)
        for name, version in state.pending.pop(nonce, ()) if state else ():
            if version is None or state is None:
                continue
            # What the proxy has now is not known, so the next other version is sent even if it is one it held before.
            state.refused[name] = version
            if state.client.get(name) == version:
                del state.client[name]
            yield Rejected(type_url, name, version, reason)
