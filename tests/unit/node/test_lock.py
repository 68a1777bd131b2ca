"""One holder of a mesh, whatever ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from septum.node.lock import AlreadyRunningError, hold

HOLDS = """
import pathlib, signal, sys
from septum.node.lock import hold
with hold(pathlib.Path(sys.argv[1])):
    print(flush=True)
    signal.pause()
"""


def test_a_second_holder_is_refused_and_told_the_first(tmp_path: Path) -> None:
    with hold(tmp_path / "lock"):
        with pytest.raises(AlreadyRunningError) as refused, hold(tmp_path / "lock"):
            pass
        assert refused.value.pid == str(os.getpid())
        assert str(refused.value) == f"this mesh is already up (pid {os.getpid()})"


def test_it_can_be_held_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with hold(tmp_path / "lock"):
            pass


def test_it_ends_with_a_process_that_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDS, lock], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(AlreadyRunningError) as refused, hold(lock):
            pass
        assert refused.value.pid == str(other.pid)
        other.kill()
        other.wait()
        with hold(lock):
            assert lock.read_text() == f"{os.getpid()}\n"


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    script = "import signal; print(flush=True); signal.pause()"
    with hold(tmp_path / "lock"):
        child = subprocess.Popen([sys.executable, "-c", script], close_fds=False, stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    with child, hold(tmp_path / "lock"):
        child.kill()


def test_it_is_for_the_owner_alone(tmp_path: Path) -> None:
    with hold(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
