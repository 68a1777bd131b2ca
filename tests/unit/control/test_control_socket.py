"""The control socket: who may ask, and what comes of every kind of answer."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from septum.control import api
from septum.control.state import StateError
from septum.rpc import local

pytestmark = pytest.mark.anyio


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory, deeper than a socket's path may be long; the control plane runs in it."""
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return deep


async def double(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"doubled": request["text"] * 2}


async def call(state: Path, op: str, **arguments: Any) -> dict[str, Any]:
    return await asyncio.to_thread(api.call, state, op, 10.0, **arguments)


async def test_a_request_and_its_answer(state: Path) -> None:
    async with api.serve(state, {"double": double}):
        assert await call(state, "double", text="ü\n") == {"doubled": "ü\nü\n"}
        many = await asyncio.gather(*(call(state, "double", text=str(n)) for n in range(20)))
        assert many == [{"doubled": f"{n}{n}"} for n in range(20)]


async def test_a_request_may_be_as_large_as_a_policy(state: Path) -> None:
    text = "x" * (8 << 20)
    async with api.serve(state, {"double": double}):
        assert len((await call(state, "double", text=text))["doubled"]) == 16 << 20


async def test_the_socket_is_for_the_owner_alone(state: Path) -> None:
    before = os.umask(0)
    os.umask(before)
    async with api.serve(state, {}):
        assert stat.S_IMODE((state / "control.sock").stat().st_mode) == 0o600
    assert os.umask(before) == before


@pytest.mark.parametrize("user", [1, 65534])
async def test_another_user_is_turned_away(state: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    monkeypatch.setattr(local, "_peer_user", lambda _: user)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    async with api.serve(state, {"double": double}):
        assert await call(state, "double", text="x") == {"error": "this socket is another user's"}


async def test_the_peer_is_who_the_kernel_says(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    ask = local._peer_user

    def note(writer: asyncio.StreamWriter) -> int:
        seen.append(ask(writer))
        return seen[-1]

    monkeypatch.setattr(local, "_peer_user", note)
    async with api.serve(state, {"double": double}):
        await call(state, "double", text="x")
    assert seen == [os.geteuid()]


def _send(state: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect("control.sock")
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "data",
    [b"\n", b"nonsense\n", b"\xff\n", b"[]\n", b"7\n", b"null\n", b"{}\n", b'{"op": "other"}\n', b'{"op": []}\n', b""],
)
async def test_what_is_no_request_is_said_and_the_next_one_is_answered(state: Path, data: bytes) -> None:
    async with api.serve(state, {"double": double}):
        assert json.loads(await asyncio.to_thread(_send, state, data)) == {"error": "not a request"}
        assert await call(state, "double", text="x") == {"doubled": "xx"}


async def test_a_state_that_cannot_be_written_is_an_answer(state: Path) -> None:
    async def fails(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise StateError("state.db: disk full")

    async with api.serve(state, {"apply": fails}):
        assert await call(state, "apply") == {"error": "nothing changed: state.db: disk full"}


async def test_a_caller_that_goes_away_is_no_error(state: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Mapping[str, Any]) -> Mapping[str, Any]:
        begun.set()
        await go_on.wait()
        return {"text": "x" * (1 << 20)}

    async with api.serve(state, {"slow": slow, "double": double}):
        _, writer = await asyncio.open_unix_connection("control.sock")
        writer.write(b'{"op": "slow"}\n')
        await begun.wait()
        writer.transport.abort()
        go_on.set()
        assert await call(state, "double", text="x") == {"doubled": "xx"}


def nothing(_: Path) -> None:
    """No socket is there."""


def a_file(state: Path) -> None:
    (state / "control.sock").touch()


def nobody_listens(state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("control.sock")


@pytest.mark.parametrize("make", [nothing, a_file, nobody_listens])
async def test_no_control_plane_is_said(state: Path, make: Callable[[Path], None]) -> None:
    make(state)
    with pytest.raises(api.NotRunningError, match=f"no control plane answers in {state.parent}"):
        await call(state, "status")


async def test_no_state_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(api.NotRunningError, match=f"nothing runs in {tmp_path}"):
        await call(tmp_path / ".septum", "status")


async def test_an_answer_that_does_not_come_is_said(state: Path) -> None:
    async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(closes, "control.sock"):
        with pytest.raises(api.NotRunningError):
            await call(state, "status")


async def test_an_answer_that_takes_too_long_is_said(state: Path) -> None:
    stopped = asyncio.Event()

    async def never(_: Mapping[str, Any]) -> Mapping[str, Any]:
        await stopped.wait()
        return {}

    async with api.serve(state, {"never": never}):
        with pytest.raises(api.NotRunningError, match="timed out"):
            await asyncio.to_thread(api.call, state, "never", 0.05)
        stopped.set()
