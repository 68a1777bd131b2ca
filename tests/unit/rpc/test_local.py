"""One line of JSON in, one line of JSON out, for the same user alone."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from septum.rpc import local
from septum.rpc.local import NotRunningError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def double(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"twice": 2 * int(request["value"])}


async def ask(directory: Path, op: str, **arguments: Any) -> dict[str, Any]:
    return await asyncio.to_thread(local.call, directory, "it.sock", op, 10, **arguments)


async def test_an_answer_also_where_paths_are_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with local.serve(deep, "it.sock", {"double": double}):
        assert await ask(deep, "double", value=21) == {"twice": 42}
        assert stat.S_IMODE((deep / "it.sock").stat().st_mode) == 0o600
    assert not (deep / "it.sock").exists()


@pytest.mark.parametrize(("op", "arguments"), [("halve", {}), ("double", {}), ("double", {"value": "x"})])
async def test_what_is_no_request_is_told(tmp_path: Path, op: str, arguments: dict[str, Any]) -> None:
    async with local.serve(tmp_path, "it.sock", {"double": double}):
        assert await ask(tmp_path, op, **arguments) == {"error": "not a request"}


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match=r"nobody answers on .*/it\.sock: No such file"):
        await ask(tmp_path, "double")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "it.sock"))
    with pytest.raises(NotRunningError, match="Connection refused"):
        await ask(tmp_path, "double")
    with pytest.raises(NotRunningError, match="nothing runs in"):
        await ask(tmp_path / "no", "double")
    async with local.serve(tmp_path, "it.sock", {"double": double}):  # what was left there is in nobody's way
        assert await ask(tmp_path, "double", value=1) == {"twice": 2}


async def test_what_was_not_answered_when_it_ends_is_left(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never(_: Mapping[str, Any]) -> Mapping[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    async with asyncio.timeout(10):
        async with local.serve(tmp_path, "it.sock", {"never": never}):
            asking = asyncio.create_task(ask(tmp_path, "never"))
            await begun.wait()
        with pytest.raises(NotRunningError, match="closed without an answer"):
            await asking
