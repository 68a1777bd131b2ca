"""What stands for every workload of a trial: an HTTP, a gRPC and a TCP server that answer whatever reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from septum.model.mesh import Address, Protocol

# How an answer of a backend is told from one of the proxy: a header of HTTP, the body of gRPC, the first line of TCP.
HEADER = b"x-septum-answers"
GREETING = b"septum answers\r\n"

_HOST = "127.0.0.1"
# `HealthCheckResponse{status: SERVING}` of grpc.health.v1: proxies call no workload that is not healthy.
_SERVING = b"\x08\x01"
_HEALTH = "/grpc.health.v1.Health/Check"


@asynccontextmanager
async def backends() -> AsyncIterator[Mapping[Protocol, Address]]:
    """Run the three; where each listens."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(await asyncio.start_server(_http, _HOST, 0))
        tcp = await stack.enter_async_context(await asyncio.start_server(_tcp, _HOST, 0))
        calls = grpc.aio.server()
        calls.add_generic_rpc_handlers((_AnyMethod(),))
        port = calls.add_insecure_port(f"{_HOST}:0")
        await calls.start()
        stack.push_async_callback(calls.stop, None)
        yield {Protocol.HTTP: _of(http), Protocol.TCP: _of(tcp), Protocol.GRPC: Address(_HOST, port)}


def _of(server: asyncio.Server) -> Address:
    return Address(_HOST, server.sockets[0].getsockname()[1])


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1 with keep-alive, for requests without a body."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(_answer(head.lower()))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the proxy closed the connection
    finally:
        writer.close()


def _answer(head: bytes) -> bytes:
    if b"\r\nupgrade: websocket" in head:
        upgraded = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        return upgraded + HEADER + b": 1\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\n" + HEADER + b": 1\r\ncontent-length: 0\r\n\r\n"


async def _tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """TCP that speaks first, and goes when the other side does."""
    try:
        writer.write(GREETING)
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()


class _AnyMethod(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def answer(_request: bytes, _context: Any) -> bytes:
            return _SERVING if method == _HEALTH else method.encode()

        return grpc.unary_unary_rpc_method_handler(answer)
