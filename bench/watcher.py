"""A client in a process of its own that asks the same thing again and again, and notes when the answer changes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe

from bench.load import Connection
from bench.network import Address
from bench.processes import BenchError

# Seconds between a response and the next request, so that the client leaves something of two cores to the others.
PAUSE = 0.001


class Watcher:
    """The client as the benchmark sees it."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def expect(self, status: int) -> None:
        """Have it wait for a status, and return once it has asked without getting it."""
        self._pipe.send(status)
        if self._answer() != 0:
            raise BenchError(f"the verdict was {status} before anything was changed")

    def seen(self) -> int:
        """When the first response of that status was read, in nanoseconds of `time.perf_counter_ns`."""
        return self._answer()

    def _answer(self) -> int:
        if not self._pipe.poll(30):
            raise BenchError("no request was decided by the new rule within 30 seconds")
        answer: int = self._pipe.recv()
        return answer


@contextmanager
def watching(address: Address, request: bytes) -> Iterator[Watcher]:
    """A watcher on a kept-alive connection while the block runs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_watch, args=(theirs, address, request), daemon=True)
    process.start()
    try:
        yield Watcher(ours)
    finally:
        process.kill()
        process.join()


def _watch(pipe: Pipe, address: Address, request: bytes) -> None:
    client = _Client(address, request)
    while True:
        expected: int = pipe.recv()
        pipe.send(time.perf_counter_ns() if client.ask() == expected else 0)
        while client.ask() != expected:
            time.sleep(PAUSE)
        pipe.send(time.perf_counter_ns())


class _Client:
    """Asks on one connection, and on a new one when that was closed: a change that takes away ends what is open."""

    def __init__(self, address: Address, request: bytes) -> None:
        self._address, self._request = address, request
        self._connection = Connection(address)

    def ask(self) -> int:
        """The status of an answer; 0 when nobody answered on a new connection either."""
        for _ in range(2):
            try:
                return self._connection.ask(self._request)
            except (BenchError, OSError):
                self._connection.close()
                self._connection = Connection(self._address)
        return 0
