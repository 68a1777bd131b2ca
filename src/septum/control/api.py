"""The socket on which commands reach the control plane: one line of JSON in, one line of JSON out.

A Unix socket of mode 0600 in a directory of mode 0700, and the peer's user is checked: who may write the policy files
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

from septum.control.state import StateError

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

_LIMIT = 256 << 20


class NotRunningError(Exception):
    """No control plane answers for this mesh."""


@asynccontextmanager
async def serve(path: str, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer requests until the block ends. `handlers` are by the request's `op`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer_user(writer) in (0, os.geteuid()):
                request = json.loads(await reader.readline())
                response = await handlers[request["op"]](request)
            else:
                response = {"error": "another user's control plane"}
            writer.write(json.dumps(response).encode() + b"\n")
            await writer.drain()
        except (KeyError, ValueError, TypeError):
            writer.write(b'{"error": "not a request"}\n')
        except StateError as error:
            writer.write(json.dumps({"error": f"nothing changed: {error}"}).encode() + b"\n")
        except ConnectionError:
            pass  # the command was interrupted; there is nobody left to tell
        finally:
            writer.close()

    old = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, path, limit=_LIMIT)
    finally:
        os.umask(old)
    async with server:
        yield


def _peer_user(writer: asyncio.StreamWriter) -> int:
    """The effective user of the process at the other end (SO_PEERCRED, unix(7))."""
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[1])


def call(state: Path, op: str, timeout: float = 30.0, **arguments: Any) -> dict[str, Any]:
    """Ask the control plane whose state directory this is. Raises NotRunningError when none answers."""
    try:
        directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotRunningError(f"nothing runs in {state.parent}") from error
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            # Through the descriptor, because a socket's own path is limited to 107 bytes (unix(7)).
            connection.connect(f"/proc/self/fd/{directory}/control.sock")
            with suppress(BrokenPipeError):  # whom it turns away it answers unread
                connection.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as answer:
                line = answer.readline()
    except OSError as error:
        raise NotRunningError(f"no control plane answers in {state.parent}: {error.strerror or error}") from error
    finally:
        os.close(directory)
    if not line:
        raise NotRunningError("the control plane closed the connection without an answer")
    response: dict[str, Any] = json.loads(line)
    return response
