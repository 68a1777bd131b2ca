"""Envoy's admin, over its Unix socket (mode 0600; there is no TCP admin)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


class AdminError(Exception):
    """Envoy's admin did not answer as it should."""


async def request(directory: Path, method: str, path: str, timeout: float = 5.0) -> str:
    """The body of one request to the `admin.sock` of a state directory. Raises AdminError."""
    try:
        async with asyncio.timeout(timeout):
            status, body = await _exchange(directory, method, path)
    except (OSError, TimeoutError, ValueError) as error:
        raise AdminError(f"Envoy's admin does not answer: {error}") from error
    if status != 200:
        raise AdminError(f"{method} {path}: {status} {body.strip()}")
    return body


async def _exchange(directory: Path, method: str, path: str) -> tuple[int, str]:
    # Through the descriptor, because a socket's own path is limited to 107 bytes (unix(7)).
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/admin.sock")
    finally:
        os.close(descriptor)
    try:
        writer.write(f"{method} {path} HTTP/1.0\r\nhost: admin\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        match head.split(maxsplit=2):
            case [_, status, *_]:
                return int(status), body.decode()
            case _:
                raise ValueError("it closed the connection without an answer")
    finally:
        writer.close()


async def reopen_logs(directory: Path) -> None:
    """Let Envoy open its log files anew, after one was renamed."""
    await request(directory, "POST", "/reopen_logs")


async def counter(directory: Path, name: str) -> int | None:
    """The value of a counter since this Envoy started, or None when Envoy does not answer."""
    try:
        body = await request(directory, "GET", f"/stats?usedonly&filter=^{name.replace('.', '[.]')}$")
    except AdminError:
        return None
    values = [line.partition(": ")[2] for line in body.splitlines() if line.startswith(f"{name}: ")]
    return int(values[0]) if values else 0
