"""Delta ADS: a thin edge between gRPC and the fleet, on a Unix socket of its own or beside other services."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc

from septum.xds import wire
from septum.xds.fleet import Fleet, Stream, UnknownNode
from septum.xds.protocol import Send

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# Whose stream it is, by its first request and its call; None turns it away.
Identify = Callable[[Any, Any], str | None]

OPTIONS = (
    # A gateway's first answer carries every route of a mesh.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A peer that vanished without a word is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class ServeError(Exception):
    """The socket cannot be served."""


@asynccontextmanager
async def serve(path: str, fleet: Fleet, mode: int = 0o600) -> AsyncIterator[None]:
    """Serve the fleet on a Unix socket, which by default only its owner may use. Raises ServeError.

    `path` may be relative to the working directory. Leaving ends every stream at once; Envoy goes on with what it
    holds, and comes back.
    """
    server = grpc.aio.server(options=OPTIONS)
    calls: set[asyncio.Task[None]] = set()
    server.add_generic_rpc_handlers((handlers(fleet, calls),))
    try:
        _refuse_if_served(path)
        server.add_insecure_port(f"unix:{path}")
        Path(path).chmod(mode)
    except (RuntimeError, OSError) as error:
        raise ServeError(f"cannot serve xDS on {path}: {error}") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)
        # gRPC cancels its calls and does not wait for them; the fleet hears of every end before this returns.
        if calls:
            await asyncio.wait(calls)


def _refuse_if_served(path: str) -> None:
    """A live socket would be taken over by gRPC without a word, and the process that had it would go on unheard."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise OSError("another process serves it")


def by_its_word(first: Any, _: Any) -> str:
    """The node that a request says it is from: for sockets that only the node's own processes reach."""
    return str(first.node.id)


def handlers(fleet: Fleet, calls: set[asyncio.Task[None]], identify: Identify = by_its_word) -> Any:
    """The discovery service, for a gRPC server. Its open calls are kept in `calls`."""

    async def delta(requests: AsyncIterator[bytes], context: Any) -> None:
        call = asyncio.create_task(_Call(fleet, requests, context, identify).run())
        calls.add(call)
        call.add_done_callback(calls.discard)
        await call

    methods = {"DeltaAggregatedResources": delta, "StreamAggregatedResources": _state_of_the_world}
    # Without serialisers messages are bytes, so that nothing is encoded twice.
    return grpc.method_handlers_generic_handler(
        _SERVICE, {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()}
    )


async def _state_of_the_world(_requests: AsyncIterator[bytes], context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "only delta xDS is served: set api_type to DELTA_GRPC")


class _Ended(Exception):
    """The fleet ended the stream."""


class _Call:
    """One call of DeltaAggregatedResources, and the outlet of its stream."""

    def __init__(self, fleet: Fleet, requests: AsyncIterator[bytes], context: Any, identify: Identify) -> None:
        self._fleet = fleet
        self._identify = identify
        self._requests = requests
        self._context = context
        self._outbox: asyncio.Queue[Send | None] = asyncio.Queue()

    def send(self, response: Send) -> None:
        self._outbox.put_nowait(response)

    def end(self) -> None:
        self._outbox.put_nowait(None)

    async def run(self) -> None:
        """Serve the stream until either side ends it."""
        ended = None
        try:
            async for data in self._requests:
                await self._serve(wire.read(data))
                return
        except* _Ended:
            ended = (grpc.StatusCode.ABORTED, "another stream took this one's place, or the node is not known any more")
        except* wire.WireError as errors:
            ended = (grpc.StatusCode.INVALID_ARGUMENT, str(errors.exceptions[0]))
        if ended:
            await self._context.abort(*ended)

    async def _serve(self, first: Any) -> None:
        node = self._identify(first, self._context)
        try:
            stream = self._fleet.open(node or "", self)
        except UnknownNode:
            why = (
                f"no node is called {first.node.id!r}" if node else f"this is not the certificate of {first.node.id!r}"
            )
            await self._context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
            return
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write())
                await self._read(stream, first)
                writer.cancel()
        finally:
            self._fleet.close(stream)

    async def _read(self, stream: Stream, first: Any) -> None:
        self._take(stream, first)
        async for data in self._requests:
            self._take(stream, wire.read(data))

    def _take(self, stream: Stream, request: Any) -> None:
        for event in wire.events(request):
            self._fleet.receive(stream, event)

    async def _write(self) -> NoReturn:
        while response := await self._outbox.get():
            await self._context.write(wire.write(response))
        raise _Ended
