"""The relay of a node and its Envoys, tied together: what one wants done, the other does. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from septum.model.snapshot import Resource, Snapshot
from septum.node import relay
from septum.node.envoys import Envoys
from septum.node.manifest import Manifest
from septum.node.relay import Relay
from septum.xds import protocol
from septum.xds.protocol import Ack, Defer, Nack, Send, Subscribe
from septum.xds.session import Session
from septum.xds.status import Disconnected, Happening


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Outward:
    """What is called of the world beyond; no call blocks or raises.

    `say` puts a request on the stream to the control plane, after those before it. `keep` stores the last good
    snapshot. `described` is told what the control plane says the node should be, `tell` what happens to Envoy's stream.
    """

    say: Callable[[Subscribe | Ack | Nack | Defer], None]
    keep: Callable[[Snapshot], None]
    described: Callable[[Manifest], None] = _nothing
    tell: Callable[[Happening], None] = _nothing


class Exchange:
    """One node's. `fleet` is for the server that Envoy asks; everything else happens through the methods."""

    def __init__(self, node: str, clock: Callable[[], float], outward: Outward) -> None:
        self.fleet = Envoys(node, clock, self._told, self._watched)
        self.relay = Relay(node)
        self._node = node
        self._outward = outward
        self._events: deque[relay.Event] = deque()

    def restore(self, snapshot: Snapshot) -> None:
        """Begin with the snapshot that was good when the agent ended."""
        self._take(relay.Restored(snapshot))

    def open(self) -> None:
        """A stream to the control plane begins; what to ask it is said before this returns."""
        self._take(relay.Opened())

    def arrive(self, send: Send) -> None:
        """The control plane sent a response."""
        self._take(relay.Arrived(send))

    def close(self) -> None:
        """The stream to the control plane ended."""
        self._take(relay.Closed())

    def set_locals(self, secrets: Mapping[str, Resource]) -> None:
        """Take these as all of the node's own secrets."""
        self._take(relay.Locals(secrets))

    def _told(self, happening: Happening) -> None:
        self._outward.tell(happening)
        if happening == Disconnected(self._node):
            self._take(relay.EnvoyGone())

    def _watched(
        self, node: str, session: Session, cause: protocol.Event, commands: Sequence[protocol.Command]
    ) -> None:
        if node == self._node:
            self._take(relay.Envoy(session, cause, commands))

    def _take(self, event: relay.Event) -> None:
        """Carry out what follows from an event, and then what happens by that, in turn."""
        self._events.append(event)
        if len(self._events) > 1:
            return
        while self._events:
            for command in self.relay.receive(self._events[0]):
                self._carry_out(command)
            self._events.popleft()

    def _carry_out(self, command: relay.Command) -> None:
        match command:
            case relay.Publish(snapshot):
                self.fleet.want(snapshot)
            case relay.Say(message):
                self._outward.say(message)
            case relay.Keep(snapshot):
                self._outward.keep(snapshot)
            case relay.Described(manifest):
                self._outward.described(manifest)
            case _:
                assert_never(command)
