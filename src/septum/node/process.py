"""A running process: started as a child or kept beside, or found again; its end can be waited for by many."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from septum.node import adopted
from septum.node.lineage import Epoch

# Envoy asks the kernel to be ended with its parent (hot_restart_impl.cc), and must outlive its supervisor. So this is
# its parent: it tells the pid, passes no signal on, and ends as Envoy ended.
_KEEPER = """
"$@" >&2 &
echo $!
exec >&-
trap : HUP INT TERM
cd /
while :; do wait $!; status=$?; kill -0 $! 2>/dev/null || exit $status; done
"""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run, where, and where its output goes.

    `keeps_running`: it is an Envoy. It outlives a supervisor that is killed, and can be handed over; `counter` is what
    is remembered of a run that was.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    output: Path
    keeps_running: bool = False
    counter: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """One process; `epoch` is its place among those that hand over to one another.

    `end` is done with its end. Its value is the exit status: negative for a signal, None when it was not a child.
    """

    pid: int
    run: str
    since: float  # seconds since 1970
    epoch: Epoch | None
    end: asyncio.Task[int] | asyncio.Task[None] = field(repr=False)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.end.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, patience: float) -> bool:
        """End it: SIGTERM, and SIGKILL after `patience` seconds. False when it was killed."""
        self.signal(signal.SIGTERM)
        await asyncio.wait({self.end}, timeout=patience)
        if self.end.done():
            return True
        await self.kill()
        return False

    async def kill(self) -> None:
        """End it by force."""
        self.signal(signal.SIGKILL)
        await asyncio.wait({self.end})


async def start(spec: Spec, run: str) -> Process:
    """Start a child. Raises OSError."""
    with spec.output.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *spec.command,
            cwd=spec.directory,
            env={**spec.environment, "SEPTUM_RUN": run},
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in order
        )
    return Process(child.pid, run, time.time(), None, asyncio.create_task(child.wait()))


async def start_kept(spec: Spec, run: str, epoch: Epoch, patience: float = 0, keeps: Sequence[int] = ()) -> Process:
    """Start an Envoy at its place in a lineage; it outlives this process. Raises OSError.

    The one before it has `patience` seconds to end. It keeps these descriptors open.
    """
    with spec.output.open("ab") as output:
        keeper = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _KEEPER, "sh", *spec.command, *epoch.arguments(run, patience),
            cwd=spec.directory,
            env={**spec.environment, "SEPTUM_RUN": run},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=output,
            start_new_session=True,
            pass_fds=keeps,
        )  # fmt: skip
    assert keeper.stdout
    pid = int(await keeper.stdout.readline())
    return Process(pid, run, time.time(), epoch, asyncio.create_task(_kept_end(keeper)))


def take_over(noted: adopted.Note) -> Process:
    """One that was started by another supervisor."""
    epoch = Epoch(noted.base, noted.epoch) if noted.base is not None and noted.epoch is not None else None
    return Process(noted.pid, noted.run, noted.started, epoch, asyncio.create_task(_end_of(noted.pid)))


def remember(spec: Spec, one: Process, role: str = "", until: float | None = None) -> None:
    """Note a process for the next supervisor, and for who asks Envoy; `role` is `.coming` or `.leaving`."""
    base, epoch = (one.epoch.base, one.epoch.number) if one.epoch else (None, None)
    adopted.note(spec.directory, f"{spec.name}{role}", one.pid, one.run, base, epoch, until)


async def _kept_end(keeper: asyncio.subprocess.Process) -> int:
    status = await keeper.wait()
    return 128 - status if status > 128 else status  # as a shell tells a signal


async def _end_of(pid: int) -> None:
    await adopted.ended(pid)


def new_run() -> str:
    """A name for one run of a process."""
    return uuid.uuid4().hex[:16]


def last_line(file: Path, start: int) -> str:
    """The last line that a file got after its first `start` bytes, of a length that can be shown."""
    try:
        with file.open("rb") as output:
            output.seek(start)
            lines = output.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
