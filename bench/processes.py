"""Processes of a run: started, waited for, and ended by pid whatever happens."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.network import Address
from septum.node.binary import command, find_envoy


class BenchError(Exception):
    """A benchmark could not be carried out; the text says why."""


@contextmanager
def running(arguments: Sequence[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process while the block runs; its output goes to `output` in the directory."""
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(arguments, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        _end(process)


@contextmanager
def envoy(directory: Path, listening: Address) -> Iterator[int]:
    """An Envoy with one worker on the `envoy.pb` of a directory while the block runs: its pid, once it listens."""
    with running(command(find_envoy(), concurrency=1), directory) as process:
        wait_until_open(listening, process, directory)
        yield process.pid


def wait_until_open(address: Address, process: subprocess.Popen[bytes], directory: Path, patience: float = 60) -> None:
    """Wait until somebody listens. Raises BenchError when the process ends before that, or patience does."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(address) == 0:
                return
        time.sleep(0.02)
    raise BenchError("a process does not listen where it should:\n" + output(directory))


def output(directory: Path) -> str:
    """The end of what the process in a directory has said."""
    files = [file for file in (directory / "output", directory / "envoy.log") if file.exists()]
    return "\n".join(file.read_text(errors="replace")[-2000:] for file in files)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def child(pid: int, module: str) -> int:
    """The pid of the process that a supervisor runs a module of ours in, or (`envoy`) a program of that name."""
    for found in psutil.Process(pid).children(recursive=True):
        if module in found.cmdline() or module == found.name():
            return found.pid
    raise BenchError(f"process {pid} has no child that is {module}")


def _end(process: subprocess.Popen[bytes], patience: float = 15) -> None:
    """SIGTERM, and SIGKILL for what is still there later: Envoy goes on by itself when its supervisor is killed."""
    children: list[psutil.Process] = []
    if process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
