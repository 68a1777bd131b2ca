"""Envoy's admin, over its Unix socket (mode 0600; there is no TCP admin)."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path


class AdminError(Exception):
    """Envoy's admin did not answer as it should."""


async def request(directory: Path, method: str, path: str, timeout: float = 5.0) -> str:
    """The body of one request to the `admin.sock` of a state directory. Raises AdminError."""
    try:
        status, body = await asyncio.to_thread(_exchange, directory, method, path, timeout)
    except (OSError, HTTPException, ValueError) as error:
        raise AdminError(f"Envoy's admin does not answer: {error}") from error
    if status != 200:
        raise AdminError(f"{method} {path}: {status} {body.strip()}")
    return body


def _exchange(directory: Path, method: str, path: str, timeout: float) -> tuple[int, str]:
    # The admin takes nothing older than HTTP/1.1, and answers in chunks.
    with closing(HTTPConnection("admin", timeout=timeout)) as connection:
        connection.sock = _connect(directory, timeout)
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def _connect(directory: Path, timeout: float) -> socket.socket:
    # Through the descriptor, because a socket's own path is limited to 107 bytes (unix(7)).
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{descriptor}/admin.sock")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


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
