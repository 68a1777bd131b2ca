"""Metrics and health over HTTP, on a thread of their own.

The process's event loop is asked for its values at each scrape, so nothing is shared between threads, and is not waited
for without end: when it does not turn, that is what is answered.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from septum.telemetry.exposition import Exposition
from septum.telemetry.metric import Metric, gauge
from septum.telemetry.pages import LONGEST_HEAD, Asked, Response, read, verdict

# Seconds for a request to arrive and for its response to be taken.
_EXCHANGE = 5.0
# Prometheus and a prober need two; whoever opens more only keeps them from being answered.
_MOST_CONNECTIONS = 32
# Seconds until connections are accepted again after that has failed.
_AGAIN = 0.1

T = TypeVar("T")


class TelemetryError(Exception):
    """The address cannot be served; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a process tells of itself. Both are called on its event loop, at each request, and must not block.

    `ready` gives the reasons why it is not ready, none when it is. `patience`: seconds in which the loop has to turn; a
    large policy is compiled on it in two.
    """

    collect: Callable[[], Iterable[Metric]]
    ready: Callable[[], Sequence[str]]
    patience: float = 5.0


def address(text: str) -> tuple[str, int]:
    """Read `PORT`, `:PORT` or `IP:PORT`; without an IP it is the loopback's. Raises TelemetryError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.inet_pton(family, host)
    except OSError:
        raise TelemetryError(f"{text!r}: the metrics' address is IP:PORT or PORT, such as 127.0.0.1:9464") from None
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise TelemetryError(f"{text!r}: a port is a number from 0 to 65535, and 0 means any that is free")
    return host, int(port)


@asynccontextmanager
async def serve(at: tuple[str, int], telemetry: Telemetry) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block ends; yields the address, with its port. Raises TelemetryError when it cannot be had."""
    listener = _listen(*at)
    server = _Server(listener, telemetry, asyncio.get_running_loop())
    thread = threading.Thread(target=server.run, name="telemetry", daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[:2]
    finally:
        server.stop()
        await asyncio.to_thread(thread.join)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setblocking(False)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        text = f"metrics cannot be served at {shown}: {error.strerror}"
        raise TelemetryError(f"{text}; name another address with --metrics, or leave it out") from error
    return listener


class _Stuck(Exception):
    """The process's event loop did not turn in time."""


class _Server:
    """The thread's side: an event loop that does nothing else."""

    def __init__(self, listener: socket.socket, telemetry: Telemetry, loop: asyncio.AbstractEventLoop) -> None:
        self._listener, self._telemetry, self._loop = listener, telemetry, loop
        self._own = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._exposition = Exposition()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._own) as runner, self._listener:
            runner.run(self._serve())

    def stop(self) -> None:
        with suppress(RuntimeError):  # its loop has ended by itself
            self._own.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        accepting = asyncio.create_task(self._accept())
        await self._stopping.wait()
        accepting.cancel()
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.wait([accepting, *self._exchanges])

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = await self._own.sock_accept(self._listener)
            except OSError:  # no descriptors are left, or the client has gone again
                await asyncio.sleep(_AGAIN)
                continue
            if len(self._exchanges) < _MOST_CONNECTIONS:
                self._begin(connection)
            else:
                connection.close()

    def _begin(self, connection: socket.socket) -> None:
        def ended(exchange: asyncio.Task[None]) -> None:
            self._exchanges.discard(exchange)
            # Not in the exchange itself, which does not run at all when it is cancelled before it begins.
            connection.close()

        exchange = asyncio.create_task(self._exchange(connection))
        self._exchanges.add(exchange)
        exchange.add_done_callback(ended)

    async def _exchange(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(_EXCHANGE):
                asked = read(await self._head(connection))
        except (TimeoutError, OSError):  # a client that is slow or gone has no answer to be given
            return
        response = asked if isinstance(asked, Response) else await self._answer(asked)
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_EXCHANGE):
                await self._own.sock_sendall(connection, response.write())
                connection.shutdown(socket.SHUT_WR)
                # Closing with something unread would reset the connection, and the response with it.
                while await self._own.sock_recv(connection, LONGEST_HEAD):
                    pass

    async def _head(self, connection: socket.socket) -> bytes:
        """What was sent up to the empty line; as much as is read of it when that does not come."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) <= LONGEST_HEAD:
            part = await self._own.sock_recv(connection, LONGEST_HEAD)
            if not part:
                raise ConnectionError("gone before it asked")
            head += part
        return head

    async def _answer(self, asked: Asked) -> Response:
        try:
            match asked.path:
                case "/healthz":
                    _, delay = await self._on_the_loop(lambda: None)
                    return verdict(asked, "alive", (), loop_delay_seconds=delay)
                case "/readyz":
                    reasons, _ = await self._on_the_loop(self._telemetry.ready)
                    return verdict(asked, "ready", reasons)
                case _:
                    return await self._metrics(asked)
        except _Stuck as stuck:
            return verdict(asked, {"/healthz": "alive", "/readyz": "ready"}.get(asked.path, "scraped"), [str(stuck)])

    async def _metrics(self, asked: Asked) -> Response:
        metrics, delay = await self._on_the_loop(lambda: tuple(self._telemetry.collect()))
        turned = gauge(
            "septum_event_loop_delay_seconds", "How long the event loop took to turn for this scrape.", delay
        )
        body, media_type = self._exposition.write((*metrics, turned), asked.accept)
        return Response(HTTPStatus.OK, body, media_type, asked.with_body)

    async def _on_the_loop(self, call: Callable[[], T]) -> tuple[T, float]:
        """What a call gives on the process's event loop, and the seconds until it was made. Raises _Stuck."""

        async def made() -> tuple[T, float]:
            return call(), self._own.time() - asked

        asked = self._own.time()
        future = asyncio.run_coroutine_threadsafe(made(), self._loop)
        try:
            async with asyncio.timeout(self._telemetry.patience):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _Stuck(f"the event loop did not turn within {self._telemetry.patience:g} s") from None
