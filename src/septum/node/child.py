"""One supervised process: started, watched, started again with growing pauses, ended cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from septum.node import adopted

# A process that ran this long (seconds) starts over with the shortest pause when it ends.
STEADY = 10.0
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Tell = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run, where, and where its output goes. `keeps_running`: it outlives a supervisor that is killed."""

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    output: Path
    keeps_running: bool = False


@dataclass
class Child:
    """Keeps one process running until it is told to stop."""

    spec: Spec
    tell: Tell
    pid: int | None = None
    starts: int = 0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run until `stop`."""
        failures = 0
        while not self._stopping.is_set():
            loop = asyncio.get_running_loop()
            began = loop.time()
            code, said = await self._attempt()
            if self._stopping.is_set():
                return
            failures = 0 if loop.time() - began > STEADY else failures + 1
            pause = PAUSES[min(failures, len(PAUSES)) - 1] if failures else PAUSES[0]
            told = {"process": self.spec.name, "status": code, "again_in_seconds": pause}
            self.tell("ended", told | ({"said": said} if said else {}))
            await self._sleep(pause)

    async def started(self) -> int:
        """The pid, once there is one."""
        await self._started.wait()
        assert self.pid is not None
        return self.pid

    async def stop(self, patience: float = 8.0) -> None:
        """End the process: SIGTERM, and SIGKILL after `patience` seconds."""
        self._stopping.set()
        pid = self.pid
        if pid is None:
            return
        _signal(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self._ended.wait()
        except TimeoutError:
            self.tell("killed", {"process": self.spec.name, "pid": pid, "after_seconds": patience})
            _signal(pid, signal.SIGKILL)

    async def _attempt(self) -> tuple[int | None, str]:
        """One run: its exit status, and its last words when it gave up by itself or could not be started."""
        written = self.spec.output.stat().st_size if self.spec.output.exists() else 0
        try:
            code = await self._once()
        except OSError as error:
            return None, str(error)
        return code, _last_line(self.spec.output, written) if code is not None and code > 0 else ""

    async def _once(self) -> int | None:
        running = adopted.find(self.spec.directory, self.spec.name) if self.spec.keeps_running else None
        if running is not None:
            self._note(running, "taken over")
            await adopted.ended(running)
            status = None
        else:
            status = await self._start()
        self.pid = None
        self._started = asyncio.Event()
        self._ended.set()
        return status

    async def _start(self) -> int | None:
        run = uuid.uuid4().hex[:16]
        with self.spec.output.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                cwd=self.spec.directory,
                env={**self.spec.environment, "SEPTUM_RUN": run},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in order
            )
        self._note(process.pid, "started")
        if self.spec.keeps_running:
            adopted.note(self.spec.directory, self.spec.name, process.pid, run)
        if self._stopping.is_set():  # `stop` came while it was being started, and found nobody to end
            _signal(process.pid, signal.SIGTERM)
        return await process.wait()

    def _note(self, pid: int, what: str) -> None:
        self.pid = pid
        self.starts += 1
        self._ended.clear()
        self._started.set()
        self.tell(what, {"process": self.spec.name, "pid": pid, "start": self.starts})

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


def _last_line(file: Path, start: int) -> str:
    """The last line that a file got after its first `start` bytes, of a length that can be shown."""
    try:
        with file.open("rb") as output:
            output.seek(start)
            lines = output.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
