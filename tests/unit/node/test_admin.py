"""What is asked of Envoy's admin, and what comes of a bad answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from septum.audit.account import Counted
from septum.node import admin, adopted
from septum.node.admin import AdminError
from septum.node.writer import EnvoyWriter

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(state: Path, answer: bytes | None) -> AsyncIterator[list[bytes]]:
    """An admin that gives one answer (None: it stays silent) and notes what it was asked."""
    asked: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
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


async def test_a_counter(tmp_path: Path) -> None:
    async with answering(tmp_path, ok("septum.decisions_more: 9\nsepteddecisions: 8\nseptum.decisions: 42\n")) as asked:
        assert await admin.counter(tmp_path, "septum.decisions") == 42
    assert b"filter=^septum[.]decisions$ " in asked[0]


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
