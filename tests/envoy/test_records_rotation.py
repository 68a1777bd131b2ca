"""A real Envoy writes its log while it is rotated again and again, and both its readers restart: nothing is lost.

In between the store is away while the log is rotated, and answers of the store get lost.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from envoy.config.bootstrap.v3.bootstrap_pb2 import Admin, Bootstrap
from envoy.config.core.v3.address_pb2 import Address, Pipe, SocketAddress
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from h1 import Connection
from ports import Port

from fakes.decision_log import Always, policy
from septum.audit import query
from septum.audit.account import Counted
from septum.audit.files import LogFiles
from septum.audit.parcel import Parcel, Position, Sample
from septum.audit.reading import Reading
from septum.audit.receive import Receiver
from septum.audit.ship import Pace, Shipper
from septum.audit.sink import SinkUnavailable
from septum.audit.store import Store
from septum.envoy import access_log
from septum.envoy.wire import pack
from septum.node.binary import command, find_envoy

ROTATIONS = 20
PACE = Pace(poll=0.005, account=0.3, retry_most=0.1, rotate_at=40_000)


def bootstrap(port: int) -> bytes:
    """A listener that answers by itself and logs like every listener of Septum."""
    route = Route(match=RouteMatch(prefix="/"), direct_response=DirectResponseAction(status=204))
    manager = HttpConnectionManager(
        stat_prefix="x",
        route_config=RouteConfiguration(virtual_hosts=[VirtualHost(name="x", domains=["*"], routes=[route])]),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))],
        access_log=access_log.loggers("decisions.jsonl"),
    )
    chain = FilterChain(filters=[Filter(name="http", typed_config=pack(manager))])
    address = Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port))
    static = Bootstrap.StaticResources(listeners=[Listener(name="x", address=address, filter_chains=[chain])])
    admin_at = Admin(address=Address(pipe=Pipe(path="admin.sock", mode=0o600)))
    return Bootstrap(admin=admin_at, static_resources=static).SerializeToString()


@contextmanager
def running_envoy(directory: Path, port: int) -> Iterator[None]:
    (directory / "envoy.pb").write_bytes(bootstrap(port))
    process = subprocess.Popen(command(find_envoy(), 2), cwd=directory, env={**os.environ, "SEPTUM_NODE": "n1"})
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


class Load:
    """Clients that ask for paths of their own, one after the other, until they are stopped."""

    def __init__(self, port: int, clients: int) -> None:
        self.sent = [0] * clients
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(port, number)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: int, client: int) -> None:
        connection = Connection(port)
        for number in count():
            if self._stop.is_set():
                break
            answer = connection.send(f"GET /{client}/{number} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
            assert answer.status == 204
            self.sent[client] = number + 1
        connection.close()


class Writer:
    """Envoy's side of the tail, over its admin socket."""

    def __init__(self, directory: Path) -> None:
        self._socket = str(directory / "admin.sock")

    async def reopen(self) -> None:
        await asyncio.to_thread(self._ask, "POST", "/reopen_logs")

    async def counts(self) -> Sequence[Counted]:
        body = await asyncio.to_thread(self._ask, "GET", "/stats?usedonly&filter=septum[.]decisions$")
        return [Counted("", int(body.rpartition(": ")[2]) if body.strip() else 0)]

    def _ask(self, method: str, path: str) -> str:
        connection = http.client.HTTPConnection("admin", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._socket)
        with closing(connection):
            connection.request(method, path)
            response = connection.getresponse()
            assert response.status == 200
            return response.read().decode()


async def follow(directory: Path, port: int) -> Load:
    """Load and rotate, with the reader restarted in between; returns when all that was decided is stored."""
    async with asyncio.timeout(100):
        await until(lambda: accepts(port))
        load = Load(port, 3)
        try:
            for generation in range(5, ROTATIONS + 1, 5):
                there = functools.partial(reached, generation)
                await ship(directory, there, lambda control: control.failed and aside(directory) >= 2)
        finally:
            load.end()
        await ship(directory, lambda control: control.stored >= sum(load.sent))
    return load


class Control:
    """The control plane, which may be away, and loses every fifth answer."""

    def __init__(self, directory: Path) -> None:
        self.receiver = Receiver(directory / "d.db", lambda: "shop.test", Always(policy()), grace=0.3)
        self.away, self.taken, self.failed, self.generation = False, 0, False, 0

    @property
    def stored(self) -> int:
        return self.receiver.kept()["n1"].ingested if self.receiver.kept() else 0

    async def position(self) -> Position:
        self._reach()
        return await self.receiver.position("n1")

    async def take(self, parcel: Parcel) -> Position:
        self._reach()
        position = await self.receiver.take("n1", parcel)
        self.taken, self.generation = self.taken + 1, position.generation
        if self.taken % 5 == 0:
            raise SinkUnavailable("the connection broke")
        return position

    async def account(self, sample: Sample) -> None:
        self._reach()
        await self.receiver.account("n1", sample)

    def _reach(self) -> None:
        if self.away:
            self.failed = True
            raise SinkUnavailable("nobody answers")


def aside(directory: Path) -> int:
    return len(list(directory.glob("decisions.*.jsonl")))


def reached(generation: int, control: Control) -> bool:
    return control.generation >= generation


async def ship(directory: Path, *stages: Callable[[Control], object]) -> None:
    """One life of an agent and of a control plane, which is away in the second stage."""
    control = Control(directory)
    shipper = Shipper(Reading(LogFiles(directory)), control, Writer(directory), PACE)
    task = asyncio.create_task(shipper.run())
    try:
        for number, done in enumerate(stages):
            control.away = number == 1
            await until(lambda done=done: task.done() or done(control))
    finally:
        task.cancel()
        await asyncio.wait([task])
        await shipper.close()
        await control.receiver.close()
    assert task.cancelled(), task.exception()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(0.005)


def test_every_decision_is_stored_once_through_rotations_and_restarts() -> None:
    # Not below tmp_path, whose length is close to what a socket's path may have.
    with tempfile.TemporaryDirectory(prefix="septum-") as name, Port() as port:
        directory = Path(name)
        with running_envoy(directory, port.number):
            load = asyncio.run(follow(directory, port.number))
            expected = asyncio.run(Writer(directory).counts())
        rows = query.Reader(directory / "d.db").newest(query.Filter(), 10_000_000)
        store = Store(directory / "d.db")
        generation, lost = store.position("n1").generation, store.lost("n1")
    asked = [(client, number) for client, sent in enumerate(load.sent) for number in range(sent)]
    stored = [tuple(int(part) for part in row.record.path[1:].split("/")) for row in rows]
    # The sort is stable: each connection's decisions are in the order in which they were made.
    assert sorted(stored, key=lambda pair: pair[0]) == asked
    assert expected == [Counted("", len(asked))]
    assert generation >= ROTATIONS
    assert lost == {}
