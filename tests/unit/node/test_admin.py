"""What is asked of Envoy's admin, and what comes of a bad answer."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import pytest

from septum.audit.account import Counted
from septum.node import admin, adopted
from septum.node.admin import AdminError
from septum.node.writer import EnvoyWriter

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(state: Path, answer: bytes | None, once: bool = True) -> AsyncIterator[list[bytes]]:
    """An admin that gives one answer (None: it stays silent) and notes what it was asked; or the same one again."""
    asked: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                if answer is None:
                    await done.wait()
                else:
                    writer.write(answer)
                if once:
                    break
        writer.close()

    directory = os.open(state, os.O_RDONLY)
    async with await asyncio.start_unix_server(serve, f"/proc/self/fd/{directory}/admin.sock"):
        yield asked
        done.set()
    os.close(directory)


def ok(body: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = f"{len(body):x}\r\n{body}\r\n" if body else ""
    return f"{head}{chunk}0\r\n\r\n".encode()


async def test_the_body_of_an_answer(tmp_path: Path) -> None:
    async with answering(tmp_path, ok("a\r\n\r\nb")) as asked:
        assert await admin.request(tmp_path, "GET", "/stats") == "a\r\n\r\nb"
    (request,) = asked
    assert request.startswith(b"GET /stats HTTP/1.1\r\nHost: admin\r\n")


async def test_a_state_directory_may_lie_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with answering(deep, ok("x")):
        assert await admin.request(deep, "GET", "/") == "x"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff",
        ok("cut")[:-8],
    ],
)
async def test_an_answer_that_is_none(tmp_path: Path, answer: bytes) -> None:
    async with answering(tmp_path, answer):
        with pytest.raises(AdminError, match="does not answer"):
            await admin.request(tmp_path, "GET", "/")


async def test_no_answer_at_all(tmp_path: Path) -> None:
    async with answering(tmp_path, None):
        with pytest.raises(AdminError, match="does not answer"):
            await admin.request(tmp_path, "GET", "/", timeout=0.05)


async def test_another_status(tmp_path: Path) -> None:
    async with answering(tmp_path, b"HTTP/1.1 404 Not Found\r\ncontent-length: 13\r\n\r\nno such page\n"):
        with pytest.raises(AdminError, match="GET /x: 404 no such page"):
            await admin.request(tmp_path, "GET", "/x")


async def test_nobody_there(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "not-there"):
        with pytest.raises(AdminError):
            await admin.request(directory, "GET", "/")
    (tmp_path / "admin.sock").touch()
    assert await admin.counter(tmp_path, "x") is None


STATS = ("septum.decisions", "septum.decisions_more", "septxdecisions", "server.hot_restart_epoch", "server.live")


async def test_a_counter(tmp_path: Path) -> None:
    async with answering(tmp_path, ok("septum.decisions_more: 9\nsepteddecisions: 8\nseptum.decisions: 42\n")) as asked:
        assert await admin.counter(tmp_path, "septum.decisions") == 42
    (request,) = asked
    pattern = unquote(request.split(b" ")[1].decode()).partition("filter=")[2]
    assert [name for name in STATS if re.search(pattern, name)] == ["septum.decisions", "server.hot_restart_epoch"]


async def test_a_counter_that_never_counted_is_zero(tmp_path: Path) -> None:
    async with answering(tmp_path, ok("")):
        assert await admin.counter(tmp_path, "septum.decisions") == 0


async def test_what_envoy_counted_belongs_to_its_run(tmp_path: Path) -> None:
    writer = EnvoyWriter(tmp_path, "septum.decisions")
    async with answering(tmp_path, ok("septum.decisions: 5\n")):
        assert await writer.counted() is None, "it is not known which run answers"
        adopted.note(tmp_path, "envoy", os.getpid(), "run7")
        assert await writer.counted() == Counted("run7", 5)


async def test_a_count_that_another_run_may_have_given_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(["run1", "run2"])
    monkeypatch.setattr(adopted, "run_of", lambda *_: next(runs))
    async with answering(tmp_path, ok("septum.decisions: 5\n")):
        assert await EnvoyWriter(tmp_path, "septum.decisions").counted() is None


async def test_the_logs_are_opened_anew(tmp_path: Path) -> None:
    writer = EnvoyWriter(tmp_path, "septum.decisions")
    async with answering(tmp_path, ok("OK\n")) as asked:
        await writer.reopen()
    assert asked[0].startswith(b"POST /reopen_logs ")
    (tmp_path / "admin.sock").unlink(missing_ok=True)
    await writer.reopen()  # nobody there: Envoy opens the new file when it starts
    assert await writer.counted() is None


async def test_a_line_goes_on_when_another_envoy_took_over_the_socket(tmp_path: Path) -> None:
    async with answering(tmp_path, ok("server.hot_restart_epoch: 1\nseptum.decisions: 5\n"), once=False):
        line = await admin.line(tmp_path)
        (tmp_path / "admin.sock").unlink()
        async with answering(tmp_path, ok("server.hot_restart_epoch: 2\n"), once=False):
            assert await admin.read_counter(line, "septum.decisions") == admin.Counter(5, 1)
            assert await admin.counter_of_epoch(tmp_path, "septum.decisions") == admin.Counter(0, 2)
            line.close()
            with pytest.raises(AdminError, match="does not answer"):
                await line.request("GET", "/ready")


async def test_connections_are_those_of_clients(tmp_path: Path) -> None:
    names = ("127.0.0.1_80", "127.0.0.1_80.worker_0", "[__1]_80")
    body = "".join(f"listener.{name}.downstream_cx_active: 2\n" for name in names)
    async with answering(tmp_path, ok(body)) as asked:
        line = await admin.line(tmp_path)
        assert await admin.connections(line) == 4
        line.close()
    pattern = unquote(asked[0].split(b" ")[1].decode()).partition("filter=")[2]
    others = ("listener.admin", "listener.envoy_internal_inside/front", "http.outbound")
    assert [name for name in others if re.search(pattern, f"{name}.downstream_cx_active")] == []
    assert re.search(pattern, "listener.[__1]_80.downstream_cx_active")


async def test_the_one_that_is_leaving_opens_its_logs_anew_too(tmp_path: Path) -> None:
    script = "import signal; signal.signal(signal.SIGUSR1, lambda *_: exit(7)); print(flush=True); signal.pause()"
    leaving = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert leaving.stdout
    await leaving.stdout.readline()
    adopted.note(tmp_path, "envoy.leaving", leaving.pid, "run1")
    async with answering(tmp_path, ok("OK\n")) as asked:
        await admin.reopen_logs(tmp_path)
    assert (len(asked), await leaving.wait()) == (1, 7)


async def test_without_an_admin_the_logs_are_opened_anew_by_a_signal_to_one_that_handles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import signal; signal.signal(signal.SIGUSR1, lambda *_: exit(7)); print(flush=True); signal.pause()"
    envoy = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert envoy.stdout
    await envoy.stdout.readline()
    adopted.note(tmp_path, "envoy", envoy.pid, "run1")
    with pytest.raises(AdminError):
        await admin.reopen_logs(tmp_path)
    assert envoy.returncode is None, "one that has just begun would die of the signal"
    monkeypatch.setattr(admin, "_SETTLED", 0.0)
    await admin.reopen_logs(tmp_path)
    assert await envoy.wait() == 7


async def test_who_was_checked_passes_or_fails_and_who_was_not_is_not_told(tmp_path: Path) -> None:
    stats = (
        "cluster.big-store.health_check.attempt: 7\ncluster.big-store.health_check.healthy: 1\n"
        "cluster.orders.health_check.attempt: 7\ncluster.orders.health_check.healthy: 0\n"
        "cluster.new.health_check.attempt: 0\ncluster.new.health_check.healthy: 0\nserver.total_connections: 3\n"
    )
    async with answering(tmp_path, ok(stats)) as asked:
        vitals = await admin.vitals(tmp_path)
    assert vitals == admin.Vitals(3, {"big-store": True, "orders": False})
    pattern = unquote(asked[0].split(b" ")[1].decode()).partition("filter=")[2]
    others = ("cluster.x.upstream_cx_total", "server.total_connections_x", "cluster.x.health_check.failure")
    assert [name for name in others if re.search(pattern, name)] == []
    (tmp_path / "admin.sock").unlink(missing_ok=True)
    assert await admin.vitals(tmp_path) is None
