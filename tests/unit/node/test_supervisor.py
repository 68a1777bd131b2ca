"""The two processes together: their order, and what ends with what."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from septum.node.child import Spec
from septum.node.supervisor import control_spec, envoy_spec, supervise

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

    await supervise(spec(tmp_path, "control"), spec(tmp_path, "envoy"), lambda *e: told.append(e), stopping, up)
    assert [fields["process"] for event, fields in told if event == "started"] == ["control", "envoy"]
    assert (tmp_path / "ends").read_text().split() == ["envoy", "control"]


async def test_what_waits_for_the_start_is_left_when_it_is_time_to_stop(tmp_path: Path) -> None:
    stopping, begun = asyncio.Event(), asyncio.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(20):
        running = asyncio.create_task(
            supervise(sleeps(tmp_path, "control"), sleeps(tmp_path, "envoy"), lambda *_: None, stopping, never)
        )
        await begun.wait()
        stopping.set()
        await running


def sleeps(directory: Path, name: str) -> Spec:
    return Spec(name, [sys.executable, "-c", "import signal; signal.pause()"], directory, {}, directory / f"{name}.out")


def test_envoy_outlives_its_supervisor_and_the_control_plane_does_not() -> None:
    state = Path("/mesh/.septum")
    envoy, control = envoy_spec(state, Path("/envoy"), "n1", 2), control_spec(state, ["python"], {"A": "b"})
    assert (envoy.keeps_running, control.keeps_running) == (True, False)
    assert envoy.environment["SEPTUM_NODE"] == "n1"
    assert {envoy.directory, control.directory} == {state}


def test_envoy_gets_nothing_of_the_environment_but_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    assert set(envoy_spec(Path("/s"), Path("/envoy"), "n1", 2).environment) == {"SEPTUM_NODE", "PATH"}
