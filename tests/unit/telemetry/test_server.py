"""The pages over a real socket: scraped by an independent client, also while the process's event loop is stuck."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from septum.telemetry.metric import gauge
from septum.telemetry.server import Telemetry, TelemetryError, address, serve

pytestmark = pytest.mark.anyio
WITHIN = 15.0
LOOPBACK = ("127.0.0.1", 0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


def get(at: tuple[str, int], path: str, method: str = "GET", **headers: str) -> Got:
    connection = http.client.HTTPConnection(*at, timeout=WITHIN)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Got(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


async def fetch(at: tuple[str, int], path: str, method: str = "GET", **headers: str) -> Got:
    return await asyncio.to_thread(get, at, path, method, **headers)


def raw(at: tuple[str, int], data: bytes) -> bytes:
    with socket.create_connection(at, timeout=WITHIN) as connection:
        connection.sendall(data)
        return connection.makefile("rb").read()


class Process:
    """What is told, to be changed by the tests; on which thread it was asked."""

    def __init__(self) -> None:
        self.value, self.reasons, self.threads = 1.0, [], set()

    def collect(self):
        self.threads.add(threading.get_ident())
        return (gauge("septum_value", "A value.", self.value),)

    def ready(self):
        self.threads.add(threading.get_ident())
        return self.reasons


@asynccontextmanager
async def serving(process: Process, patience: float = WITHIN) -> AsyncIterator[tuple[str, int]]:
    async with serve(LOOPBACK, Telemetry(process.collect, process.ready, patience)) as at:
        yield at


def value(got: Got, name: str) -> float:
    families = text_string_to_metric_families(got.body.decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


async def test_a_scrape_has_the_values_of_its_moment():
    process = Process()
    async with serving(process) as at:
        first = await fetch(at, "/metrics")
        process.value = 2.5
        second = await fetch(at, "/metrics?x=y")
    assert (first.status, value(first, "septum_value"), value(second, "septum_value")) == (200, 1.0, 2.5)
    assert 0 <= value(first, "septum_event_loop_delay_seconds") < WITHIN
    assert first.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert process.threads == {threading.get_ident()}


async def test_openmetrics_is_given_to_who_asks():
    async with serving(Process()) as at:
        got = await fetch(at, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert got.headers["content-type"].startswith("application/openmetrics-text")
    assert got.body.endswith(b"# EOF\n")


async def test_health_and_readiness():
    process = Process()
    async with serving(process) as at:
        healthy = await fetch(at, "/healthz")
        ready = await fetch(at, "/readyz")
        process.reasons = ["Envoy does not answer"]
        unready = await fetch(at, "/readyz")
        assert (await fetch(at, "/healthz")).status == 200
    assert (healthy.status, json.loads(healthy.body)["alive"]) == (200, True)
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True, "reasons": []})
    assert (unready.status, json.loads(unready.body)) == (503, {"ready": False, "reasons": ["Envoy does not answer"]})


async def test_a_stuck_event_loop_shows_everywhere():
    process, free = Process(), threading.Event()
    async with serving(process, patience=0.1) as at:
        got: dict[str, Got] = {}

        def ask() -> None:
            for path in ("/healthz", "/readyz", "/metrics"):
                got[path] = get(at, path)
            free.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert free.wait(WITHIN)  # this blocks the loop
        thread.join()
        assert (await fetch(at, "/healthz")).status == 200
    for path, word in (("/healthz", "alive"), ("/readyz", "ready"), ("/metrics", "scraped")):
        assert got[path].status == 503
        said = json.loads(got[path].body)
        assert (said[word], said["reasons"]) == (False, ["the event loop did not turn within 0.1 s"])


async def test_head_has_the_headers_of_get_and_no_body():
    async with serving(Process()) as at:
        for path in ("/readyz", "/nothing"):
            head, got = await fetch(at, path, "HEAD"), await fetch(at, path)
            assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")
            assert got.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_get_and_head_are_answered(method):
    async with serving(Process()) as at:
        got = await fetch(at, "/metrics", method)
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


async def test_other_paths_say_what_there_is():
    async with serving(Process()) as at:
        got = await fetch(at, "/")
    assert (got.status, got.body) == (404, b"there are /metrics, /healthz, /readyz\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/2\r\n\r\n", b"400"),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"\xff\xfe /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000, b"431"),
    ],
)
async def test_what_is_no_request_is_told_so(sent, status):
    async with serving(Process()) as at:
        answer = await asyncio.to_thread(raw, at, sent)
        assert (await fetch(at, "/healthz")).status == 200
    assert answer.split()[1] == status


async def test_who_sends_nothing_and_who_goes_away_do_not_keep_others_from_an_answer():
    async with serving(Process()) as at:
        silent = [socket.create_connection(at) for _ in range(8)]
        silent[0].sendall(b"GET /met")
        silent[0].close()
        assert (await fetch(at, "/healthz")).status == 200
        for connection in silent[1:]:
            connection.close()


async def test_more_connections_than_anybody_needs_are_ended_and_those_that_follow_are_answered():
    async with serving(Process()) as at:
        many = [await asyncio.to_thread(socket.create_connection, at, WITHIN) for _ in range(40)]
        assert await asyncio.to_thread(_was_ended, many[-1])
        for connection in many:
            connection.close()
        async with asyncio.timeout(WITHIN):
            while not await _answers(at):
                pass


def _was_ended(connection: socket.socket) -> bool:
    """Whether the other side ends this connection unasked, within its time-out."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


async def _answers(at: tuple[str, int]) -> bool:
    try:
        return (await fetch(at, "/healthz")).status == 200
    except OSError:
        return False


async def test_it_ends_at_once_with_a_connection_open_and_a_scrape_under_way():
    async with serving(Process()) as at:
        silent, asking = [await asyncio.to_thread(socket.create_connection, at, WITHIN) for _ in range(2)]
        asking.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert await asyncio.to_thread(_was_ended, silent)
    silent.close()
    asking.close()
    assert not any(thread.name == "telemetry" for thread in threading.enumerate())
    with pytest.raises(ConnectionRefusedError):
        await fetch(at, "/healthz")


async def test_a_port_in_use_is_an_error_that_names_it():
    async with serving(Process()) as at:
        with pytest.raises(TelemetryError) as error:
            async with serve(at, Telemetry(list, list)):
                pass
    assert str(error.value) == (
        f"metrics cannot be served at 127.0.0.1:{at[1]}: Address already in use;"
        " name another address with --metrics, or leave it out"
    )


async def test_the_port_is_free_again_for_the_next():
    async with serving(Process()) as at:
        await fetch(at, "/healthz")
    async with serve(at, Telemetry(list, list)) as again:
        assert again == at
        assert (await fetch(at, "/healthz")).status == 200


async def test_a_collector_that_fails_fails_the_scrape_and_nothing_else():
    process = Process()
    async with serving(process) as at:
        process.value = None
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            await fetch(at, "/metrics")
        assert (await fetch(at, "/healthz")).status == 200


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_an_address_is_the_loopbacks_unless_another_is_named(text, read):
    assert address(text) == read


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "localhost:9464", "127.0.0.1:65536", "1.2.3.4:x", "127.1:9464", "٣:1"]
)
def test_what_is_no_address_is_told_so(text):
    with pytest.raises(TelemetryError):
        address(text)
