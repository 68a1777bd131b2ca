"""A process's own socket for commands on the same host: one line of JSON in, one line of JSON out.

A Unix socket of mode 0600 in a directory of mode 0700, and the peer's user is checked: who may write that directory
may use it, and nobody else.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

_LIMIT = 256 << 20


class NotRunningError(Exception):
    """Nobody answers on the socket."""


@asynccontextmanager
async def serve(directory: Path, name: str, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer requests on a socket of this name until the block ends. `handlers` are by the request's `op`.

    A handler is cancelled when the block ends before it has answered.
    """
    asked: set[asyncio.Task[Any]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        asked.add(task)
        try:
            await _answer(reader, writer, handlers)
        finally:
            asked.discard(task)
            writer.close()

    descriptor, old = os.open(directory, os.O_RDONLY | os.O_DIRECTORY), os.umask(0o177)
    try:
        # Through the descriptor, because a socket's own path is limited to 107 bytes (unix(7)).
        server = await asyncio.start_unix_server(answer, f"/proc/self/fd/{descriptor}/{name}", limit=_LIMIT)
    finally:
        os.umask(old)
        os.close(descriptor)
    async with server:
        try:
            yield
        finally:
            for task in asked:
                task.cancel()
            (directory / name).unlink(missing_ok=True)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]) -> None:
    try:
        if _peer_user(writer) in (0, os.geteuid()):
            request = json.loads(await reader.readline())
            response = await handlers[request["op"]](request)
        else:
            response = {"error": "this socket is another user's"}
        writer.write(json.dumps(response).encode() + b"\n")
        await writer.drain()
    except (KeyError, ValueError, TypeError):
        writer.write(b'{"error": "not a request"}\n')
    except ConnectionError:
        pass  # the command was interrupted; there is nobody left to tell


def _peer_user(writer: asyncio.StreamWriter) -> int:
    """The effective user of the process at the other end (SO_PEERCRED, unix(7))."""
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[1])


def call(directory: Path, name: str, op: str, timeout: float = 30.0, **arguments: Any) -> dict[str, Any]:
    """Ask who serves the socket of this name. Raises NotRunningError when nobody answers."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotRunningError(f"nothing runs in {directory.parent}") from error
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
            with suppress(BrokenPipeError):  # whom it turns away it answers unread
                connection.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as answer:
                line = answer.readline()
    except OSError as error:
        raise NotRunningError(f"nobody answers on {directory / name}: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if not line:
        raise NotRunningError(f"{directory / name} was closed without an answer")
    response: dict[str, Any] = json.loads(line)
    return response
