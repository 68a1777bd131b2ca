"""The agent's part in configuration: Envoy on the one side, the control plane on the other, the disk for bad days."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog

from septum.model.snapshot import Resource
from septum.node.exchange import Exchange, Outward
from septum.node.keep import Keeper
from septum.node.manifest import Manifest, ManifestError
from septum.node.upstream import Upstream, UpstreamStatus
from septum.xds.server import serve
from septum.xds.status import Happening, NodeStatus

_log = structlog.get_logger("septum.relay")
# Seconds that Envoy is given to hold what was kept before the control plane is asked: what is held is not sent again.
_HEAD_START = 1.0


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """How a node's configuration stands.

    `upstream` is the stream to the control plane. `envoy` is what Envoy holds, and whether it is there. `unanswered`
    are the responses of the control plane that await Envoy's answer. `whole` is whether what was received is all that
    is wanted. `cold` is whether the agent began with the snapshot on disk. `kept` is the version of the one that is
    there now; `keep_error` says why there is none, or why it is not the newest.
    """

    upstream: UpstreamStatus
    envoy: NodeStatus
    unanswered: int
    whole: bool
    cold: bool
    kept: str
    keep_error: str


def _ignore(_: object) -> None:
    pass


class Relaying:
    """The relay of one node, running: `run` serves Envoy on `socket`, and asks the control plane over `channel`.

    `channel` opens a gRPC channel with what the node proves itself with now. `described` is called with each manifest
    that differs from the one before, and `tell` with what happens to Envoy's stream; neither may block or raise.
    """

    def __init__(
        self,
        node: str,
        socket: str,
        kept: Path,
        channel: Callable[[], Any],
        *,
        described: Callable[[Manifest], None] = _ignore,
        tell: Callable[[Happening], None] = _ignore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._socket = node, socket
        self._keeper = Keeper(kept, node)
        self._upstream = Upstream(node, channel, clock)
        self._exchange = Exchange(node, clock, Outward(self._upstream.say, self._keeper.keep, described, tell))
        self._cold = False

    @property
    def manifest(self) -> Manifest | None:
        """What the control plane said last of the node as a whole, or what was kept of it."""
        return self._exchange.relay.manifest

    def set_locals(self, secrets: Mapping[str, Resource]) -> None:
        """Take these as all of the node's own secrets, by name; they go before the control plane's of the same name.

        The version of each is a digest of the whole secret. They are never written to disk.
        """
        self._exchange.set_locals(secrets)

    def status(self) -> RelayStatus:
        """How it stands now."""
        (envoy,) = (status for status in self._exchange.fleet.status() if status.node == self._node)
        relay, keeper = self._exchange.relay, self._keeper
        return RelayStatus(
            upstream=self._upstream.status,
            envoy=envoy,
            unanswered=relay.unanswered,
            whole=relay.whole,
            cold=self._cold,
            kept=keeper.version,
            keep_error=keeper.error,
        )

    async def run(self) -> None:
        """Relay until cancelled; Envoy goes on with what it holds. Raises ServeError when the socket cannot be had."""
        self._restore()
        try:
            async with serve(self._socket, self._exchange.fleet), asyncio.TaskGroup() as group:
                group.create_task(self._keeper.run())
                group.create_task(self._ask())
        finally:
            self._keeper.finish()

    def _restore(self) -> None:
        kept = self._keeper.load()
        try:
            if kept is not None:
                self._exchange.restore(kept)
                self._cold = True
        except ManifestError as error:
            self._keeper.refuse(str(error))
        if self._keeper.error:
            _log.warning("no snapshot to start from", reason=self._keeper.error)

    async def _ask(self) -> NoReturn:
        if self._cold:
            await self._exchange.fleet.settled([self._node], self._exchange.relay.published, _HEAD_START)
        await self._upstream.run(self._exchange)
