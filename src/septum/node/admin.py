"""Envoy's admin, over its Unix socket (mode 0600; there is no TCP admin)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

from septum.node import adopted

_EPOCH, _CONNECTIONS = "server.hot_restart_epoch", "server.total_connections"
_ATTEMPTS = ".health_check.attempt"
_SETTLED = 10.0  # seconds after which an Envoy surely handles signals


class AdminError(Exception):
    """Envoy's admin did not answer as it should."""


class Line:
    """One connection to an Envoy's admin, kept.

    It goes on when another Envoy has taken over `admin.sock`: the only way left to ask the one before.
    """

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    async def request(self, method: str, path: str) -> str:
        """The body of one request. Raises AdminError."""
        try:
            status, body = await asyncio.to_thread(self._exchange, method, path)
        except (OSError, HTTPException, ValueError) as error:
            raise AdminError(f"Envoy's admin does not answer: {error}") from error
        if status != 200:
            raise AdminError(f"{method} {path}: {status} {body.strip()}")
        return body

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _exchange(self, method: str, path: str) -> tuple[int, str]:
        self._connection.request(method, path)
        response = self._connection.getresponse()
        return response.status, response.read().decode()


async def line(directory: Path, timeout: float = 5.0) -> Line:
    """A connection to the `admin.sock` of a state directory. Raises AdminError."""
    # The admin takes nothing older than HTTP/1.1, and answers in chunks.
    connection = HTTPConnection("admin", timeout=timeout)
    connection.auto_open = 0  # another connection might be another Envoy's
    try:
        connection.sock = await asyncio.to_thread(_connect, directory, timeout)
    except OSError as error:
        raise AdminError(f"Envoy's admin does not answer: {error}") from error
    return Line(connection)


async def request(directory: Path, method: str, path: str, timeout: float = 5.0) -> str:
    """The body of one request to the `admin.sock` of a state directory. Raises AdminError."""
    with closing(await line(directory, timeout)) as one:
        return await one.request(method, path)


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
    """Let Envoy open its log files anew, after one was renamed; the one that it took over from writes them too."""
    leaving = adopted.find(directory, "envoy.leaving")
    if leaving is not None:
        with suppress(ProcessLookupError):
            os.kill(leaving, signal.SIGUSR1)  # its admin takes no new connection
    try:
        await request(directory, "POST", "/reopen_logs")
    except AdminError:
        noted = adopted.read(directory, "envoy")
        # Before it handles the signal, it would die of it; later on its admin may be gone, with a failed hand-over.
        if noted is None or time.time() - noted.started < _SETTLED or not adopted.runs(noted):
            raise
        os.kill(noted.pid, signal.SIGUSR1)


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter since this Envoy started, and the epoch of the Envoy that answered."""

    value: int
    epoch: int | None


async def counter(directory: Path, name: str) -> int | None:
    """The value of a counter since this Envoy started, or None when Envoy does not answer."""
    found = await counter_of_epoch(directory, name)
    return found.value if found else None


async def counter_of_epoch(directory: Path, name: str) -> Counter | None:
    """The counter, and whose it is: for moments a successor answers that has not taken over yet."""
    try:
        with closing(await line(directory)) as one:
            return await read_counter(one, name)
    except AdminError:
        return None


async def read_counter(one: Line, name: str) -> Counter:
    """The counter of the Envoy at the other end. Raises AdminError."""
    values = await stats(one, f"^({_literal(name)}|{_literal(_EPOCH)})$" if name else f"^{_literal(_EPOCH)}$")
    return Counter(values.get(name, 0), values.get(_EPOCH))


@dataclass(frozen=True, slots=True)
class Vitals:
    """How an Envoy is: its connections, and whether each workload that it has checked passed the last time."""

    connections: int
    health: Mapping[str, bool]


async def vitals(directory: Path) -> Vitals | None:
    """How the Envoy of a state directory is, or None when it does not answer."""
    try:
        with closing(await line(directory)) as one:
            found = await stats(one, f"^({_literal(_CONNECTIONS)}|cluster[.].*[.]health_check[.](attempt|healthy))$")
    except AdminError:
        return None
    checked = (name.removesuffix(_ATTEMPTS) for name, value in found.items() if name.endswith(_ATTEMPTS) and value)
    health = {name.removeprefix("cluster."): found.get(f"{name}.health_check.healthy", 0) > 0 for name in checked}
    return Vitals(found.get(_CONNECTIONS, 0), health)


async def connections(one: Line) -> int:
    """How many connections of clients that Envoy has. Raises AdminError."""
    # Not those of its own admin, nor those that it made to itself, which it keeps for later calls.
    found = await stats(one, "^listener[.](?:[0-9]|\\[).*[.]downstream_cx_active$")
    return sum(value for name, value in found.items() if ".worker_" not in name)


async def listeners_changed(one: Line) -> bool:
    """Whether a listener was changed or removed since that Envoy started. Raises AdminError."""
    found = await stats(one, "^listener_manager[.]listener_(in_place_updated|modified|removed)$")
    return any(found.values())


async def stats(one: Line, pattern: str) -> dict[str, int]:
    """The counters and gauges whose names match, of those that were ever used. Raises AdminError."""
    body = await one.request("GET", f"/stats?usedonly&filter={quote(pattern)}")
    lines = (text.rpartition(": ") for text in body.splitlines())
    return {name: int(value) for name, _, value in lines if value.isdigit()}


def _literal(name: str) -> str:
    return name.replace(".", "[.]")
