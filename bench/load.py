"""Clients: kept-alive HTTP/1.1 over raw sockets, with requests written beforehand, bounded in count and time."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from bench.network import Address
from bench.processes import BenchError


def request(method: str, authority: str, path: str, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"host: {authority}", "content-length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One kept-alive connection."""

    def __init__(self, address: Address, patience: float = 10.0) -> None:
        self.socket = socket.create_connection(address, patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def ask(self, request: bytes) -> int:
        """Send a request and wait for the status of its response."""
        self.send(request)
        while (status := self.status()) is None:
            pass
        return status

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def status(self) -> int | None:
        """Read what has come; the status once the response is whole."""
        came = self.socket.recv(65536)
        if not came:
            raise BenchError("the proxy closed a kept-alive connection")
        self._read += came
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return None
        self._read = body[_length(head) :]
        return int(head[9:12])

    def close(self) -> None:
        self.socket.close()


def _length(head: bytes) -> int:
    _, found, after = head.lower().partition(b"content-length:")
    return int(after.partition(b"\r\n")[0]) if found else 0


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection to open, and the requests to send on it in turn."""

    address: Address
    requests: Sequence[bytes]


@dataclass(slots=True)
class Done:
    """What came of a load."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.statuses.total()


class ClosedLoop:
    """Connections that each send their next request when the response to the last one is there."""

    def __init__(self, wires: Iterable[Wire]) -> None:
        self._lanes = [(Connection(wire.address), cycle(wire.requests)) for wire in wires]

    def run(self, count: int, patience: float) -> Done:
        """About `count` requests, fewer when `patience` (seconds) ends before."""
        done, began = Done(), time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for connection, requests in self._lanes:
                selector.register(connection.socket, selectors.EVENT_READ, (connection, requests))
                connection.send(next(requests))
            self._drive(selector, done, count - len(self._lanes), began + patience)
        done.seconds = time.perf_counter() - began
        return done

    def close(self) -> None:
        for connection, _ in self._lanes:
            connection.close()

    def _drive(self, selector: selectors.BaseSelector, done: Done, left: int, deadline: float) -> None:
        open_lanes = len(self._lanes)
        while open_lanes:
            ready = selector.select(30)
            if not ready:
                raise BenchError("no response for 30 seconds")
            going_on = time.perf_counter() < deadline
            for key, _ in ready:
                connection, requests = key.data
                if (status := connection.status()) is None:
                    continue
                done.statuses[status] += 1
                if left > 0 and going_on:
                    left -= 1
                    connection.send(next(requests))
                else:
                    open_lanes -= 1


def at_rate(connection: Connection, requests: Sequence[bytes], rate: int, count: int) -> list[int]:
    """Latencies in nanoseconds of requests at a fixed rate.

    A request whose turn came while the one before was under way has waited since its turn.
    """
    latencies, began = [], time.perf_counter_ns()
    for number in range(count):
        due = began + number * 1_000_000_000 // rate
        early = due - time.perf_counter_ns()
        if early > 0:
            time.sleep(early / 1e9)
            due = time.perf_counter_ns()
        if connection.ask(requests[number % len(requests)]) != 200:
            raise BenchError("a request was not answered with 200")
        latencies.append(time.perf_counter_ns() - due)
    return latencies
