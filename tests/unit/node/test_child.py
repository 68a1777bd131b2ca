"""One supervised process, as a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from septum.node import adopted, child
from septum.node.child import Child, Restarted
from septum.node.process import Spec
from septum.node.succession import Refused

pytestmark = pytest.mark.anyio


class Told:
    """What was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self._changed = asyncio.Event()

    def __call__(self, event: str, fields: Mapping[str, object]) -> None:
        self.events.append((event, fields))
        self._changed.set()

    def of(self, event: str) -> list[Mapping[str, Any]]:
        return [fields for name, fields in self.events if name == event]

    async def until(self, event: str, count: int = 1) -> list[Mapping[str, Any]]:
        async with asyncio.timeout(20):
            while len(self.of(event)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(event)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "PAUSES", (0.01, 0.02, 0.03))


def spec(directory: Path, script: str, **differs: Any) -> Spec:
    command = [sys.executable, "-c", script]
    return Spec(**{"name": "it", "command": command, "directory": directory, "environment": {"A": "b"},
                   "output": directory / "it.out"} | differs)  # fmt: skip


SLEEPS = "import signal; signal.pause()"
# Says through a pipe when it is deaf to SIGTERM.
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w').close(); signal.pause()"


async def test_it_runs_until_it_is_stopped(tmp_path: Path, told: Told) -> None:
    one = Child(spec(tmp_path, SLEEPS), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        pid = await one.started()
        process = psutil.Process(pid)
        assert (process.cwd(), process.environ()["A"], os.getsid(pid)) == (str(tmp_path), "b", pid)
        await one.stop()
    assert not psutil.pid_exists(pid)
    assert [event for event, _ in told.events] == ["started"]


async def test_it_is_started_again_after_growing_pauses(tmp_path: Path, told: Told) -> None:
    one = Child(spec(tmp_path, "raise SystemExit(3)"), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        ended = await told.until("ended", 5)
        await one.stop()
    assert [e["again_in_seconds"] for e in ended[:5]] == [0.01, 0.02, 0.03, 0.03, 0.03]
    assert {e["status"] for e in ended} == {3}
    assert [e["start"] for e in told.of("started")[:3]] == [1, 2, 3]


async def test_a_long_run_starts_over_with_the_shortest_pause(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STEADY", 0.0)
    one = Child(spec(tmp_path, ""), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        ended = await told.until("ended", 3)
        await one.stop()
    assert {e["again_in_seconds"] for e in ended} == {0.01}


async def test_its_last_words_are_told_when_it_gives_up(tmp_path: Path, told: Told) -> None:
    (tmp_path / "it.out").write_text("of another time\n")
    one = Child(spec(tmp_path, "print('so it is\\n'); raise SystemExit(1)"), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        (ended, *_) = await told.until("ended")
        await one.stop()
    assert ended["said"] == "so it is"


async def test_nothing_is_said_for_one_that_was_killed_or_was_silent(tmp_path: Path, told: Told) -> None:
    script = "import os, sys; sys.stdout.write('x\\n'); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    for code in (script, "raise SystemExit(1)"):
        one, seen = Child(spec(tmp_path, code), told), len(told.of("ended"))
        async with asyncio.TaskGroup() as group:
            group.create_task(one.run())
            ended = await told.until("ended", seen + 1)
            await one.stop()
        assert "said" not in ended[seen]


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, told: Told) -> None:
    one = Child(spec(tmp_path, "", command=[str(tmp_path / "not-there")]), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        ended = await told.until("ended", 2)
        await one.stop()
    assert (ended[0]["status"], "No such file or directory" in ended[0]["said"]) == (None, True)


async def test_one_that_does_not_end_is_killed(tmp_path: Path, told: Told) -> None:
    os.mkfifo(tmp_path / "deaf")
    one = Child(spec(tmp_path, DEAF), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        pid = await one.started()
        await asyncio.to_thread((tmp_path / "deaf").read_bytes)
        await one.stop(patience=0.1)
    assert not psutil.pid_exists(pid)
    assert told.of("killed") == [{"process": "it", "pid": pid, "after_seconds": 0.1}]


async def test_one_that_is_stopped_before_it_was_started_never_is(tmp_path: Path, told: Told) -> None:
    one = Child(spec(tmp_path, SLEEPS), told)
    await one.stop()
    await one.run()
    assert told.events == []


async def test_one_that_is_stopped_while_it_is_being_started_ends(tmp_path: Path, told: Told) -> None:
    one = Child(spec(tmp_path, SLEEPS), told)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(one.run())
        await asyncio.sleep(0)  # the start has begun, and there is no pid yet
        assert one.pid is None
        await one.stop()
        await running
    assert one.pid is None


async def test_a_pause_is_cut_short_when_it_is_stopped(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "PAUSES", (600.0,))
    one = Child(spec(tmp_path, ""), told)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(one.run())
        await told.until("ended")
        await one.stop()


async def test_each_run_has_a_name_of_its_own(tmp_path: Path, told: Told) -> None:
    script = "import os; print(os.environ['SEPTUM_RUN'])"
    one = Child(spec(tmp_path, script, keeps_running=True), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        await told.until("ended", 2)
        await one.stop()
    runs = (tmp_path / "it.out").read_text().split()
    assert len(set(runs)) == len(runs) >= 2


async def test_one_that_outlived_its_supervisor_is_taken_over(tmp_path: Path, told: Told) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEPS)
    adopted.note(tmp_path, "it", process.pid, "run1")
    one = Child(spec(tmp_path, SLEEPS, keeps_running=True), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        assert await one.started() == process.pid
        assert told.events == [("taken over", {"process": "it", "pid": process.pid, "start": 1})]
        os.kill(process.pid, signal.SIGKILL)
        await told.until("started")
        await one.stop()
    await process.wait()
    assert told.of("ended")[0]["status"] is None


async def test_one_that_was_taken_over_is_stopped_too(tmp_path: Path, told: Told) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEPS)
    adopted.note(tmp_path, "it", process.pid, "run1")
    one = Child(spec(tmp_path, SLEEPS, keeps_running=True), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        await one.started()
        await one.stop()
    assert await process.wait() == -signal.SIGTERM


async def test_a_wanted_restart_is_told_as_a_start_and_waits_for_nothing(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "PAUSES", (600.0,))
    one = Child(spec(tmp_path, SLEEPS), told)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(one.run())
        before = await one.started()
        os.mkfifo(tmp_path / "another")
        done = await one.restart(spec(tmp_path, f"open('another', 'w').close(); {SLEEPS}"))
        assert isinstance(done, Restarted)
        assert (done.old_pid, done.new_pid) == (before, one.pid)
        await asyncio.to_thread((tmp_path / "another").read_bytes)
        await one.stop()
    assert [event for event, _ in told.events] == ["started", "started"]


async def test_one_that_does_not_run_is_neither_restarted_nor_handed_over(tmp_path: Path, told: Told) -> None:
    one = Child(spec(tmp_path, SLEEPS), told)
    assert await one.restart(one.spec) == Refused("there is none at this moment")
    assert await one.hand_over(one.spec) == Refused("no Envoy runs at this moment")


async def test_one_without_a_lineage_is_not_handed_over(tmp_path: Path, told: Told) -> None:
    """It was started by a version that knew of none."""
    old = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEPS)
    adopted.note(tmp_path, "it", old.pid, "run1")
    one = Child(spec(tmp_path, SLEEPS, keeps_running=True), told)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        await one.started()
        refused = await one.hand_over(one.spec)
        assert isinstance(refused, Refused)
        assert "only a restart replaces it" in refused.reason
        assert one.pid == old.pid
        await one.stop()
    await old.wait()
