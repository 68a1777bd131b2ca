"""An Envoy that a fleet can serve, or an agent: it subscribes as that does, and takes or refuses what it is told to."""

from __future__ import annotations

import asyncio
from collections import deque

from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration

from septum.xds.fleet import Fleet, Stream
from septum.xds.order import TYPES
from septum.xds.protocol import Ack, Event, Nack, Send, Subscribe
from septum.xds.types import ALL, CLUSTER, LISTENER, ROUTE, SCOPE


class FakeNode:
    """Answers each response in the next turn of the loop, unless it is `silent`.

    `refuses` maps a resource's name to the reason. `holds` is what it took: (type, name) → version. As an `agent` it
    asks for everything of every type, also for what no Envoy asks for.
    """

    def __init__(self, fleet: Fleet, node: str, *, agent: bool = False) -> None:
        self.refuses: dict[str, str] = {}
        self.silent = False
        self.holds: dict[tuple[str, str], str] = {}
        self.received: list[tuple[str, str]] = []
        self._fleet, self._agent = fleet, agent
        self._routes: dict[str, str] = {}
        self._waiting: deque[Send] = deque()
        self.stream: Stream = fleet.open(node, self)
        for type_url in TYPES if agent else (CLUSTER, LISTENER, SCOPE):
            self._tell(Subscribe(type_url, (ALL,) if agent else ()))

    def send(self, response: Send) -> None:
        """Take a response from the fleet."""
        self._waiting.append(response)
        asyncio.get_running_loop().call_soon(self.answer)

    def end(self) -> None:
        """The fleet ended the stream."""

    def leave(self) -> None:
        """End the stream, as a node does that goes away."""
        self._fleet.close(self.stream)

    def answer(self) -> None:
        """Answer what waits, unless it is silent."""
        while self._waiting and not self.silent:
            self._answer(self._waiting.popleft())

    def _answer(self, response: Send) -> None:
        refused = [self.refuses[r.name] for r in response.resources if r.name in self.refuses]
        self.received += [(response.type_url, resource.name) for resource in response.resources]
        for resource in response.resources:
            if resource.name not in self.refuses:  # the good part of a refused response is applied all the same
                self.holds[response.type_url, resource.name] = resource.version
        for name in response.removed:
            self.holds.pop((response.type_url, name), None)
        kind, nonce = response.type_url, response.nonce
        self._tell(Nack(kind, nonce, refused[0]) if refused else Ack(kind, nonce))
        if kind == SCOPE and not self._agent:
            self._follow_scopes(response)

    def _follow_scopes(self, response: Send) -> None:
        before = set(self._routes.values())
        for resource in response.resources:
            scope = ScopedRouteConfiguration.FromString(resource.body)
            self._routes[resource.name] = scope.route_configuration_name
        for name in response.removed:
            self._routes.pop(name, None)
        now = set(self._routes.values())
        if now != before:
            self._tell(Subscribe(ROUTE, tuple(sorted(now - before)), tuple(sorted(before - now))))

    def _tell(self, event: Event) -> None:
        self._fleet.receive(self.stream, event)
