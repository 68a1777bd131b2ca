"""The agent's stream to the control plane: delta ADS as a client, opened again whenever it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

import grpc

from septum.xds import client_wire
from septum.xds.protocol import Ack, Defer, Nack, Send, Subscribe
from septum.xds.wire import WireError

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
# Seconds until it is tried again, each up to a quarter less: who comes back is found within a second.
PAUSES = (0.1, 0.2, 0.4, 0.8)
# Seconds that one attempt may take; a way that was closed is found open again by the next one.
_PATIENCE = 2.0

_WAY = "is the way to it open, and does `septum control` run there?"
_SILENT = f"the control plane does not answer: {_WAY}"
# What gRPC's account of a failure has when the two sides did not come to trust each other.
_TLS = ("handshake", "ssl", "verification check")

Message = Subscribe | Ack | Nack | Defer


class Client(Protocol):
    """Who asks the control plane. No call blocks."""

    def open(self) -> None:
        """A stream begins; what to ask it is said before this returns."""

    def arrive(self, send: Send) -> None:
        """A response came."""

    def close(self) -> None:
        """The stream ended; what is said from now on is for the next one."""


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """How the agent stands with the control plane; times are of the agent's clock.

    `since` is None while there is no stream on which anything came. `seen` is when something came last, on whatever
    stream. `error` says what is wrong and what to do; it is empty once something came.
    """

    since: float | None = None
    seen: float | None = None
    error: str = ""


class Upstream:
    """Keeps one stream open, for one client. `channel` opens a gRPC channel; each attempt has one of its own.

    So a renewed certificate is used from the next attempt on, and gRPC's own pauses do not count.
    """

    def __init__(self, node: str, channel: Callable[[], Any], clock: Callable[[], float]) -> None:
        self.status = UpstreamStatus()
        self._node = node
        self._channel = channel
        self._clock = clock
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()

    def say(self, message: Message) -> None:
        """Put a request on the stream, after those before it; without a stream it is forgotten."""
        self._outbox.put_nowait(message)

    async def run(self, client: Client) -> NoReturn:
        """Talk to the control plane until cancelled."""
        failures = 0
        while True:
            before = self.status.seen
            error = await self._talk(client)
            failures = 0 if self.status.seen != before else failures + 1
            self.status = replace(self.status, since=None, error=error)
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            await asyncio.sleep(pause * random.uniform(0.75, 1))  # noqa: S311 - so that a fleet does not come all at once

    async def _talk(self, client: Client) -> str:
        """One stream, from its first request to its end, and why it ended."""
        channel = self._channel()
        try:
            return await self._stream(channel, client)
        finally:
            await channel.close(None)

    async def _stream(self, channel: Any, client: Client) -> str:
        call = channel.stream_stream(_METHOD)(wait_for_ready=False)
        try:
            async with asyncio.timeout(_PATIENCE):
                await call.wait_for_connection()
        except TimeoutError:
            return _SILENT
        except grpc.aio.AioRpcError as error:
            return explain(error)
        return await self._converse(call, client)

    async def _converse(self, call: Any, client: Client) -> str:
        self._outbox = asyncio.Queue()
        self.status = replace(self.status, error="the control plane has nothing for this node yet")
        client.open()
        writer = asyncio.create_task(self._write(call, self._outbox))
        try:
            async for data in call:
                self._note()
                client.arrive(client_wire.read(data))
        except grpc.aio.AioRpcError as error:
            return explain(error)
        except WireError as error:
            return f"the control plane sent what is no answer: {error}"
        finally:
            writer.cancel()
            call.cancel()
            client.close()
            if writer.done():
                writer.result()
        return "the control plane ended the stream"

    def _note(self) -> None:
        now = self._clock()
        self.status = UpstreamStatus(now if self.status.since is None else self.status.since, now)

    async def _write(self, call: Any, outbox: asyncio.Queue[Message]) -> None:
        node: str | None = self._node
        try:
            while True:
                await call.write(client_wire.write(await outbox.get(), node))
                node = None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader hears why the call ended


def explain(error: Any) -> str:
    """Why a call of the control plane failed, and what to do about it."""
    status, details = error.code(), error.details() or "no reason was given"
    match status:
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return (
                f"the control plane refuses this node: {details}; `septum nodes` there says whether it was removed, "
                "and a new join token takes it in again"
            )
        case grpc.StatusCode.ABORTED:
            return f"the control plane ended the stream: {details}; when this repeats, two agents use one node's name"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"what answers there is no Septum control plane: {details}"
        case grpc.StatusCode.UNAVAILABLE if "endpoint closing" in details.lower():  # gRPC's own patience was at its end
            return _SILENT
        case grpc.StatusCode.UNAVAILABLE if any(sign in details.lower() for sign in _TLS):
            return (
                f"no TLS with the control plane: {_reason(details)}; its certificate has to be from this mesh's "
                "authority, and so has this node's, and neither may have ended (are both clocks right?)"
            )
        case grpc.StatusCode.UNAVAILABLE if "socket closed" in details.lower():  # as TLS 1.3 refuses a client, too
            return (
                "the control plane closed the connection: it has just ended, or it does not take this node's "
                "certificate, which has to be from this mesh's authority and may not have ended"
            )
        case grpc.StatusCode.UNAVAILABLE:
            return f"the control plane cannot be reached: {_reason(details)}; {_WAY}"
        case _:
            return f"the control plane ended the stream: {details}"


def _reason(details: str) -> str:
    """The last part of gRPC's account, which is the reason of what it says before."""
    return details.rpartition("last error: ")[2] or details
