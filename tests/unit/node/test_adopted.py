"""A process that is not a child: remembered, found again, waited for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from septum.node import adopted


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_it_is_found_while_it_runs(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    adopted.note(tmp_path, "envoy", process.pid, "run1")
    assert adopted.find(tmp_path, "envoy") == process.pid
    assert adopted.run_of(tmp_path, "envoy") == "run1"
    assert adopted.find(tmp_path, "other") is None


def test_one_that_ended_is_not_found_also_while_nobody_waited_for_it(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    adopted.note(tmp_path, "envoy", process.pid, "run1")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert adopted.find(tmp_path, "envoy") is None
    process.wait()
    assert adopted.find(tmp_path, "envoy") is None


def test_another_process_with_the_same_pid_is_not_it(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    adopted.note(tmp_path, "envoy", process.pid, "run1")
    noted = json.loads((tmp_path / "envoy.pid").read_text())
    (tmp_path / "envoy.pid").write_text(json.dumps(noted | {"started": noted["started"] - 1}))
    assert adopted.find(tmp_path, "envoy") is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"7", b'{"pid": "x", "started": 1}', b"\xff"])
def test_a_damaged_note_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "envoy.pid").write_bytes(content)
    assert adopted.find(tmp_path, "envoy") is None
    assert adopted.run_of(tmp_path, "envoy") is None


def test_a_process_that_is_gone_already_is_not_noted(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    adopted.note(tmp_path, "envoy", process.pid, "run1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_its_end_is_waited_for(process: subprocess.Popen[bytes]) -> None:
    waiting = asyncio.create_task(adopted.ended(process.pid))
    await asyncio.sleep(0)
    assert not waiting.done()
    process.send_signal(signal.SIGKILL)
    async with asyncio.timeout(20):
        await waiting
    process.wait()
    await adopted.ended(process.pid)


def test_its_place_in_a_lineage_is_remembered(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    adopted.note(tmp_path, "envoy", process.pid, "run1", 7, 2, 99.5)
    noted = adopted.read(tmp_path, "envoy")
    assert noted
    assert (noted.pid, noted.run, noted.base, noted.epoch, noted.until) == (process.pid, "run1", 7, 2, 99.5)
    adopted.forget(tmp_path, "envoy")
    adopted.forget(tmp_path, "envoy")
    assert adopted.read(tmp_path, "envoy") is None


def test_a_note_of_an_earlier_version_is_read(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    adopted.note(tmp_path, "envoy", process.pid, "run1")
    noted = json.loads((tmp_path / "envoy.pid").read_text())
    (tmp_path / "envoy.pid").write_text(json.dumps({key: noted[key] for key in ("pid", "started", "run")}))
    assert adopted.find(tmp_path, "envoy") == process.pid


def test_the_counts_of_the_latest_runs_are_remembered(tmp_path: Path) -> None:
    assert adopted.counts_of(tmp_path, "envoy") == {}
    for number in range(20):
        adopted.note_count(tmp_path, "envoy", f"run{number}", number)
        adopted.note_count(tmp_path, "envoy", f"run{number}", 2 * number)
    assert adopted.counts_of(tmp_path, "envoy") == {f"run{number}": 2 * number for number in range(4, 20)}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b'{"run": "x"}', b"\xff"])
def test_damaged_counts_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "envoy.counts").write_bytes(content)
    assert adopted.counts_of(tmp_path, "envoy") == {}
