"""An Envoy that outlived its supervisor: found again, and watched without being a child."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_KEPT = 16  # ended runs whose counts are remembered


@dataclass(frozen=True, slots=True)
class Note:
    """A process that is remembered. Its start time tells it from a later one with the same pid.

    `base` and `epoch` are its place in its lineage, or None; `until` is when it is ended at the latest (seconds since
    1970), for one that is leaving.
    """

    pid: int
    started: float
    run: str
    base: int | None = None
    epoch: int | None = None
    until: float | None = None


def note(
    directory: Path,
    name: str,
    pid: int,
    run: str,
    base: int | None = None,
    epoch: int | None = None,
    until: float | None = None,
) -> None:
    """Remember a process and the name of its run. One that is gone already is not remembered."""
    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        return
    _write(directory / f"{name}.pid", asdict(Note(pid, started, run, base, epoch, until)))


def read(directory: Path, name: str) -> Note | None:
    """What is remembered of the process that was remembered last, whether it still runs or not."""
    try:
        noted = Note(**json.loads((directory / f"{name}.pid").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return noted if isinstance(noted.pid, int) else None


def run_of(directory: Path, name: str) -> str | None:
    """The name of the run of the process that was remembered last."""
    noted = read(directory, name)
    return noted.run if noted else None


def find(directory: Path, name: str) -> int | None:
    """The pid of the remembered process if it still runs."""
    noted = read(directory, name)
    return noted.pid if noted and runs(noted) else None


def runs(noted: Note) -> bool:
    """Whether a remembered process still runs."""
    try:
        process = psutil.Process(noted.pid)
        return process.create_time() == noted.started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def forget(directory: Path, name: str) -> None:
    """Remember no process of this name."""
    (directory / f"{name}.pid").unlink(missing_ok=True)


def note_count(directory: Path, name: str, run: str, count: int) -> None:
    """Remember what a run counted that another took over from: nobody can ask it once it has ended."""
    counts = {**counts_of(directory, name), run: count}
    _write(directory / f"{name}.counts", dict(list(counts.items())[-_KEPT:]))


def counts_of(directory: Path, name: str) -> Mapping[str, int]:
    """What the latest runs counted that another took over from, oldest first; final once they have ended."""
    try:
        counts = json.loads((directory / f"{name}.counts").read_text())
        return {str(run): int(count) for run, count in counts.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, value: object) -> None:
    """At once, so that nobody reads half of it."""
    made = file.with_name(f"{file.name}.new")
    made.write_text(json.dumps(value))
    made.replace(file)


async def ended(pid: int) -> None:
    """Wait until a process that is not ours has ended (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
