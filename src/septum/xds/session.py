"""One node's delta stream as a state machine: events in, commands out. No I/O and no clock.

The rules, from the xDS protocol and from what Envoy does with it:

- What Envoy does not have travels together, what it has travels alone. A refused batch is sent again one by one, so
  that a refusal always names its resource; the good part of it, which Envoy keeps, is never an unreported change.
- Additions and changes go in one order and are not waited for, since Envoy takes the responses of a stream in turn.
- Removals go when everything that is wanted is held, in the reverse order. There is one exception: a refused resource
  that may claim what a resource awaiting removal has (an address, say) is sent once more together with the removals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from septum.model.snapshot import Resource, Snapshot
from septum.xds.book import Book
from septum.xds.order import NOTHING, Difference, difference, make_before_break
from septum.xds.protocol import (
    Absent,
    Ack,
    Command,
    Defer,
    Event,
    Held,
    Nack,
    Published,
    Rejected,
    Send,
    Stale,
    Subscribe,
)
from septum.xds.types import ALL, EXCLUSIVE, WILDCARD, Key, Refusal


@dataclass(slots=True)
class _Interest:
    """What Envoy wants of one type, and what of that has no answer yet."""

    resumed: bool
    names: set[str] = field(default_factory=set)
    unanswered: tuple[str, ...] = ()

    def covers(self, name: str) -> bool:
        return ALL in self.names or name in self.names


@dataclass(frozen=True, slots=True)
class _Response:
    """A response that Envoy has not answered: name → version, or None for a removal."""

    type_url: str
    versions: Mapping[str, str | None]


class Session:
    """What one stream was asked for and has to send. `book` may be read by anyone and is written here only.

    `doubtful` are the resources that the node's stream before this one left in doubt.
    """

    def __init__(
        self, differ: Callable[[Snapshot, Snapshot], Difference] = difference, doubtful: Iterable[Key] = ()
    ) -> None:
        self.book = Book()
        self._differ = differ
        self._doubtful = tuple(doubtful)
        self._interests: dict[str, _Interest] = {}
        self._outstanding: dict[str, _Response] = {}
        # The last response that names it, until that is answered.
        self._on_the_way: dict[Key, str] = {}
        self._responses = 0

    @property
    def in_flight(self) -> int:
        """How many resources, removals included, were sent and not answered."""
        return sum(len(response.versions) for response in self._outstanding.values())

    @property
    def quiet(self) -> bool:
        """Whether every response was answered."""
        return not self._outstanding

    def awaits(self, key: Key) -> bool:
        """Whether a resource or its removal was sent and not answered."""
        return key in self._on_the_way

    def asked_for(self, type_url: str) -> bool:
        """Whether Envoy has said what it wants, and what it has, of a type."""
        return type_url in self._interests

    @property
    def doubtful(self) -> list[Key]:
        """What Envoy may have without saying so on its next stream.

        Of a response that it refuses it keeps the good part, and lists none of it among its initial versions. What it
        asks for by name is answered by name, so only wildcard types are in doubt.
        """
        on_the_way = [(r.type_url, name) for r in self._outstanding.values() for name in r.versions]
        refused = [key for key, version in self.book.sent.items() if version is None]
        return [key for key in dict.fromkeys((*on_the_way, *refused, *self._doubtful)) if key[0] in WILDCARD]

    def receive(self, event: Event) -> list[Command]:
        """Take what happened. The commands are in order; sends go to the stream in this order."""
        match event:
            case Published(snapshot):
                commands = self._published(snapshot)
            case Subscribe():
                commands = self._subscribe(event)
            case Ack(type_url, nonce):
                commands = self._ack(type_url, nonce)
            case Nack(type_url, nonce, reason):
                commands = self._nack(type_url, nonce, reason)
            case Defer(type_url, nonce):
                commands = self._nack(type_url, nonce, None)
            case _:
                assert_never(event)
        return commands + self._afterwards()

    def _published(self, snapshot: Snapshot) -> list[Command]:
        old = self.book.desired
        due = self.book.aim(snapshot, self._differ(old or NOTHING, snapshot))
        if old is None:
            return [command for type_url in make_before_break(self._interests) for command in self._answer(type_url)]
        names: dict[str, list[str]] = {}
        for type_url, name in due:
            names.setdefault(type_url, []).append(name)
        return [command for type_url in make_before_break(names) for command in self._offer(type_url, names[type_url])]

    def _subscribe(self, event: Subscribe) -> list[Command]:
        type_url, names = event.type_url, event.names
        if type_url not in self._interests:
            self._interests[type_url] = _Interest(resumed=bool(event.initial_versions))
            # An empty first request asks for everything, from before there was `*`.
            names = names or ((ALL,) if type_url in WILDCARD else ())
        interest = self._interests[type_url]
        self._unsubscribe(type_url, interest, event.unsubscribe)
        interest.names.update(names)
        interest.unanswered += names
        for name in names:
            self.book.forget((type_url, name))
        if ALL in names:
            self._recall_doubts(type_url)
        for name, version in event.initial_versions.items():
            if interest.covers(name):
                self.book.keep((type_url, name), version)
        return [] if self.book.desired is None else self._answer(type_url)

    def _recall_doubts(self, type_url: str) -> None:
        for key in self._doubtful:
            if key[0] == type_url:
                self.book.doubt(key, None)
        self._doubtful = tuple(key for key in self._doubtful if key[0] != type_url)

    def _unsubscribe(self, type_url: str, interest: _Interest, names: Iterable[str]) -> None:
        interest.names.difference_update(names)
        interest.unanswered = tuple(name for name in interest.unanswered if name not in names)
        dropped = (
            [key for key in self.book.sent if key[0] == type_url] if ALL in names else [(type_url, n) for n in names]
        )
        for key in dropped:
            if not interest.covers(key[1]):
                self.book.forget(key)

    def _answer(self, type_url: str) -> list[Command]:
        """Answer what was asked for and not answered. Envoy waits for an answer even if there is nothing to give."""
        interest, available = self._interests[type_url], self._available(type_url)
        asked, interest.unanswered = interest.unanswered, ()
        names = available if ALL in asked else [name for name in asked if name in available]
        absent = tuple(
            name for name in asked if name not in available and name != ALL and (type_url, name) not in self.book.sent
        )
        commands = self._offer(type_url, names, absent)
        if not commands and ALL in asked and not interest.resumed:
            commands = [self._send(type_url, ())]
        return [*commands, Absent(type_url, absent)] if absent else commands

    def _offer(self, type_url: str, names: Iterable[str], absent: tuple[str, ...] = ()) -> list[Command]:
        """Send those of the names that Envoy wants and was not sent at this version."""
        interest, available, sent = self._interests.get(type_url), self._available(type_url), self.book.sent
        wanted = [available[name] for name in names if interest and interest.covers(name) and name in available]
        new = [resource for resource in wanted if (type_url, resource.name) not in sent]
        changed = [r for r in wanted if (type_url, r.name) in sent and sent[type_url, r.name] != r.version]
        batch: list[Command] = [self._send(type_url, new, absent)] if new or absent else []
        return batch + [self._send(type_url, [resource]) for resource in changed]

    def _ack(self, type_url: str, nonce: str) -> list[Command]:
        response = self._outstanding.pop(nonce, None)
        if response is None:
            return [Stale(type_url, nonce)]
        for name, version in response.versions.items():
            key = (type_url, name)
            self.book.acknowledge(key, version, last=self._arrived(key, nonce))
        return [Held(type_url, response.versions)] if response.versions else []

    def _arrived(self, key: Key, nonce: str) -> bool:
        """Take note of an answer; whether it is to the last that was sent under the name."""
        last = self._on_the_way.get(key) == nonce
        if last:
            del self._on_the_way[key]
        return last

    def _nack(self, type_url: str, nonce: str, reason: str | None) -> list[Command]:
        """A response was refused, or deferred if there is no reason."""
        response = self._outstanding.pop(nonce, None)
        if response is None:
            return [Stale(type_url, nonce)]
        for name, version in response.versions.items():
            self._arrived((type_url, name), nonce)
            self.book.doubt((type_url, name), version)
        again = self._once_more(response)
        return again if again or reason is None else self._refuse(response, reason)

    def _once_more(self, response: _Response) -> list[Command]:
        """Send what was refused in the way that finds out more, or clears a clash; nothing if there is no such way."""
        type_url, versions = response.type_url, response.versions
        again = (
            [r for name, r in self._available(type_url).items() if versions.get(name) == r.version] if versions else []
        )
        if sum(version is not None for version in versions.values()) > 1:
            return [self._send(type_url, [resource]) for resource in again]
        going = tuple(sorted(name for kind, name in self.book.surplus if kind == type_url))
        if again and going and type_url in EXCLUSIVE and None not in versions.values():
            return [self._send(type_url, again, going)]
        return []

    def _refuse(self, response: _Response, reason: str) -> list[Command]:
        versions = response.versions
        # What is removed beside a resource is not what was refused.
        refused = {name: version for name, version in versions.items() if version is not None} or versions
        refusals = [Refusal(response.type_url, name, version, reason) for name, version in refused.items()]
        for refusal in refusals:
            self.book.refuse(refusal)
        # A response without a resource has nothing to name, and its refusal is told all the same.
        return [Rejected(refusal) for refusal in refusals or [Refusal(response.type_url, "", None, reason)]]

    def _afterwards(self) -> list[Command]:
        """Remove what is too much once nothing is on its way, and see whether the snapshot is held."""
        if self._outstanding:
            return []
        names: dict[str, list[str]] = {}
        for type_url, name in self.book.removable():
            names.setdefault(type_url, []).append(name)
        if not names:
            self.book.settle()
        return [self._send(type_url, (), sorted(names[type_url])) for type_url in reversed(make_before_break(names))]

    def _available(self, type_url: str) -> Mapping[str, Resource]:
        return self.book.desired.of(type_url) if self.book.desired else {}

    def _send(self, type_url: str, resources: Iterable[Resource], removed: Iterable[str] = ()) -> Send:
        self._responses += 1
        send = Send(type_url, tuple(resources), tuple(removed), str(self._responses))
        versions = {resource.name: resource.version for resource in send.resources} | dict.fromkeys(send.removed)
        for name, version in versions.items():
            self.book.send((type_url, name), version)
            self._on_the_way[type_url, name] = send.nonce
        self._outstanding[send.nonce] = _Response(type_url, versions)
        return send
