"""The processes together: their order, what ends with what, and what the supervisor is asked."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from septum.envoy import access_log
from septum.node import supervisor
from septum.node.process import Spec
from septum.node.supervisor import SOCKET, control_spec, envoy_spec, supervise
from septum.rpc import local

pytestmark = pytest.mark.anyio

# Says through a pipe that it is there, and notes its end, so that the order of the ends can be read.
NOTES = """
import signal, sys
def end(*_):
    with open("ends", "a") as file:
        file.write(sys.argv[1] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".on", "w").close()
signal.pause()
"""


def spec(directory: Path, name: str) -> Spec:
    command = [sys.executable, "-c", NOTES, name]
    return Spec(name, command, directory, {}, directory / f"{name}.out")


async def test_the_control_plane_starts_first_and_ends_last(tmp_path: Path) -> None:
    told: list[tuple[str, Mapping[str, object]]] = []
    stopping = asyncio.Event()
    on = [tmp_path / f"{name}.on" for name in ("control", "envoy")]
    for pipe in on:
        os.mkfifo(pipe)

    async def up() -> None:
        await asyncio.gather(*(asyncio.to_thread(pipe.read_bytes) for pipe in on))
        stopping.set()

    await supervise([spec(tmp_path, "control"), spec(tmp_path, "envoy")], lambda *e: told.append(e), stopping, up)
    assert [fields["process"] for event, fields in told if event == "started"] == ["control", "envoy"]
    assert (tmp_path / "ends").read_text().split() == ["envoy", "control"]


async def test_what_waits_for_the_start_is_left_when_it_is_time_to_stop(tmp_path: Path) -> None:
    stopping, begun = asyncio.Event(), asyncio.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(20):
        running = asyncio.create_task(
            supervise([sleeps(tmp_path, "control"), sleeps(tmp_path, "envoy")], lambda *_: None, stopping, never)
        )
        await begun.wait()
        stopping.set()
        await running


def sleeps(directory: Path, name: str) -> Spec:
    return Spec(name, [sys.executable, "-c", "import signal; signal.pause()"], directory, {}, directory / f"{name}.out")


@asynccontextmanager
async def supervised(*specs: Spec) -> AsyncIterator[None]:
    stopping, up = asyncio.Event(), asyncio.Event()

    async def is_up() -> None:
        up.set()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(supervise(specs, lambda *_: None, stopping, is_up))
        await up.wait()
        try:
            yield
        finally:
            stopping.set()


async def asked(directory: Path, op: str, **arguments: Any) -> Any:
    async with asyncio.timeout(20):
        while True:  # it serves once everything has been started
            try:
                return await asyncio.to_thread(local.call, directory, SOCKET, op, **arguments)
            except local.NotRunningError:
                await asyncio.sleep(0.01)


async def test_three_processes_are_listed_and_each_can_be_restarted(tmp_path: Path) -> None:
    async with supervised(*(sleeps(tmp_path, name) for name in ("control", "agent", "envoy"))):
        before = await asked(tmp_path, "ps")
        assert before["pid"] == os.getpid()
        assert [one["process"] for one in before["processes"]] == ["control", "agent", "envoy"]
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
        done = await asked(tmp_path, "restart", process="agent")
        after = [one["pid"] for one in (await asked(tmp_path, "ps"))["processes"]]
        assert done["old_pid"] == before["processes"][1]["pid"]
        assert after == [before["processes"][0]["pid"], done["new_pid"], before["processes"][2]["pid"]]
    assert not (tmp_path / SOCKET).exists()


async def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    async with supervised(sleeps(tmp_path, "control")):
        assert await asked(tmp_path, "upgrade") == {"refused": "no Envoy is run here"}
        refused = (await asked(tmp_path, "restart", process="agnet"))["refused"]
        assert refused == "no process is called agnet; there are control"
        assert await asked(tmp_path, "dance") == {"error": "not a request"}


def test_what_is_counted_is_what_envoy_counts() -> None:
    assert access_log.DECISIONS == supervisor.DECISIONS == envoy_spec(Path("/s"), Path("/envoy"), "n1", 2).counter


def test_envoy_outlives_its_supervisor_and_the_control_plane_does_not() -> None:
    state = Path("/mesh/.septum")
    envoy, control = envoy_spec(state, Path("/envoy"), "n1", 2), control_spec(state, ["python"], {"A": "b"})
    assert (envoy.keeps_running, control.keeps_running) == (True, False)
    assert envoy.environment["SEPTUM_NODE"] == "n1"
    assert {envoy.directory, control.directory} == {state}


def test_envoy_gets_nothing_of_the_environment_but_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    assert set(envoy_spec(Path("/s"), Path("/envoy"), "n1", 2).environment) == {"SEPTUM_NODE", "PATH"}
