"""Processes as they are started, kept and ended: real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from septum.node import adopted, process
from septum.node.lineage import Epoch
from septum.node.process import Spec

pytestmark = pytest.mark.anyio
# As Envoy in its hot restart does (prctl(2), PR_SET_PDEATHSIG): it asks to be ended with its parent.
SAYS = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
with open("it.on", "w") as pipe:
    print(sys.argv[1:3], os.environ["SEPTUM_RUN"], file=pipe)
"""
WAITS = f"{SAYS}import signal; signal.pause()"


def spec(directory: Path, script: str) -> Spec:
    if not (directory / "it.on").exists():
        os.mkfifo(directory / "it.on")
    return Spec("it", [sys.executable, "-c", script], directory, {"PATH": os.defpath}, directory / "it.out", True)


async def said(directory: Path) -> str:
    """What it says through a pipe, once it does."""
    async with asyncio.timeout(20):
        return await asyncio.to_thread((directory / "it.on").read_text)


async def test_one_that_is_kept_has_a_place_and_a_run(tmp_path: Path) -> None:
    one = await process.start_kept(spec(tmp_path, WAITS), "run1", Epoch(7, 2))
    assert await said(tmp_path) == "['--base-id', '7'] run1\n"
    assert (psutil.Process(one.pid).cwd(), one.epoch) == (str(tmp_path), Epoch(7, 2))
    assert await one.stop(8)
    assert one.end.result() == -signal.SIGTERM
    one.signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("script", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("", 0)]
)
async def test_its_status_is_told_as_it_ended(tmp_path: Path, script: str, status: int) -> None:
    one = await process.start_kept(spec(tmp_path, script), "run1", Epoch(7, 2))
    async with asyncio.timeout(20):
        assert await one.end == status


async def test_a_binary_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = Spec("it", [str(tmp_path / "missing")], tmp_path, {}, tmp_path / "it.out", True)
    one = await process.start_kept(missing, "run1", Epoch(7, 2))
    async with asyncio.timeout(20):
        assert await one.end == 127
    assert "not found" in process.last_line(tmp_path / "it.out", 0)


async def test_it_outlives_who_started_it(tmp_path: Path) -> None:
    spec(tmp_path, WAITS)
    starter = f"""
import asyncio, os, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from septum.node import process
from septum.node.lineage import Epoch
from septum.node.process import Spec
async def main():
    state = Path({str(tmp_path)!r})
    it = Spec("it", [sys.executable, "-c", {WAITS!r}], state, {{}}, state / "it.out", True)
    print((await process.start_kept(it, "run1", Epoch(7, 2))).pid, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    asked = await asyncio.create_subprocess_exec(sys.executable, "-c", starter, stdout=asyncio.subprocess.PIPE)
    out, _ = await asked.communicate()
    pid = int(out)
    assert await said(tmp_path)
    assert asked.returncode == -signal.SIGKILL
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    adopted.note(tmp_path, "it", pid, "run1", 7, 2)
    noted = adopted.read(tmp_path, "it")
    assert noted
    one = process.take_over(noted)
    assert (one.pid, one.run, one.epoch) == (pid, "run1", Epoch(7, 2))
    assert await one.stop(8)
    assert one.end.result() is None


async def test_it_keeps_a_descriptor_open_that_it_was_given(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    one = await process.start_kept(spec(tmp_path, WAITS), "run1", Epoch(7, 2), keeps=[there.fileno()])
    there.close()
    await said(tmp_path)
    here.setblocking(False)
    with pytest.raises(BlockingIOError):
        here.recv(1)
    await one.stop(8)
    here.setblocking(True)
    assert here.recv(1) == b""
    here.close()


async def test_one_that_is_deaf_is_killed(tmp_path: Path) -> None:
    one = await process.start_kept(
        spec(tmp_path, f"import signal; signal.signal(15, signal.SIG_IGN)\n{WAITS}"), "run1", Epoch(7, 2)
    )
    await said(tmp_path)
    assert not await one.stop(0.1)
    assert one.end.result() == -signal.SIGKILL
