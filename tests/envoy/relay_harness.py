"""An agent's relay between a control plane and a real Envoy, all in this process or with the agent in another."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from xds_harness import NODE, Told, cluster, listener, route, scope

from fakes.waiting import WITHIN
from septum.model.snapshot import MANIFEST, Resource, Snapshot, whole
from septum.node.relaying import Relaying
from septum.xds.fleet import Fleet, Outlet, Stream
from septum.xds.protocol import Send
from septum.xds.server import serve
from septum.xds.status import Outcome
from septum.xds.types import Key


def whole_snapshot(*entries: tuple[Key, Resource], workloads: tuple[str, ...] = ()) -> Snapshot:
    """A snapshot with its manifest; the version is a digest of it."""
    resources: dict[str, dict[str, Resource]] = {}
    for (type_url, name), entry in entries:
        resources.setdefault(type_url, {})[name] = entry
    digest = whole({type_url: names.values() for type_url, names in resources.items()})
    body = json.dumps({"node": NODE, "workloads": workloads, "trust_domain": "t.test", "whole": digest}).encode()
    return Snapshot(digest, resources | {MANIFEST: {"manifest": Resource("manifest", digest, body)}})


def base(port: int, answer: str = "one") -> list[tuple[Key, Resource]]:
    return [cluster("a"), listener("in", port), route("ra", answer), scope("a", "ra")]


def channel_to(path: Path) -> Callable[[], Any]:
    return lambda: grpc.aio.insecure_channel(f"unix:{path}", options=[("grpc.max_receive_message_length", -1)])


@dataclass
class _Tap:
    outlet: Outlet
    sends: list[Send]

    def send(self, response: Send) -> None:
        self.sends.append(response)
        self.outlet.send(response)

    def end(self) -> None:
        self.outlet.end()


class _TappedFleet(Fleet):
    def __init__(self, told: Told) -> None:
        super().__init__(time.monotonic, told)
        self.sends: list[Send] = []

    def open(self, node: str, outlet: Outlet) -> Stream:
        return super().open(node, _Tap(outlet, self.sends))


@dataclass
class Control:
    """A control plane of one node, and what it sends."""

    directory: Path
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.fleet = _TappedFleet(self.told)
        self.fleet.expect(NODE)

    async def publish(self, *entries: tuple[Key, Resource], within: float = WITHIN) -> Outcome:
        snapshot = whole_snapshot(*entries)
        self.fleet.publish(NODE, snapshot)
        return (await self.fleet.settled([NODE], snapshot.version, within))[NODE]

    def taken_sends(self) -> list[tuple[str, list[str], tuple[str, ...]]]:
        """The resources that were sent since the last call, without answers that have none."""
        sends = [(send.type_url, [r.name for r in send.resources], send.removed) for send in self.fleet.sends]
        self.fleet.sends.clear()
        return [send for send in sends if send[1] or send[2]]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        async with serve(f"{self.directory}/control.sock", self.fleet):
            yield


@asynccontextmanager
async def relaying(directory: Path, **options: Any) -> AsyncIterator[Relaying]:
    """An agent's relay while the block runs; it ends as an agent that is told to."""
    channel = channel_to(directory / "control.sock")
    relay = Relaying(NODE, f"{directory}/xds.sock", directory / "snapshot", channel, **options)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
