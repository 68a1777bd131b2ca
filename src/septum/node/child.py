"""One supervised process: started, watched, started again with growing pauses, replaced, ended cleanly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from septum.node import adopted, lineage, preflight, process, succession
from septum.node.admin import Line
from septum.node.process import Process, Spec
from septum.node.succession import HandedOver, Refused

# A process that ran this long (seconds) starts over with the shortest pause when it ends.
STEADY = 10.0
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RESTARTS_WITHIN = 30.0

Tell = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Restarted:
    """A process was ended and another one started: `seconds` lie between."""

    old_pid: int
    new_pid: int
    seconds: float


@dataclass
class Child:
    """Keeps one process running until it is told to stop; the process may be replaced meanwhile."""

    spec: Spec
    tell: Tell
    starts: int = 0
    leaving: Process | None = None  # what was handed over from, until it has ended
    _process: Process | None = None
    _line: Line | None = None  # to the admin of `_process`, when a failed hand-over took its socket
    _again: bool = False  # its next end is wanted, and it starts at once
    _next: asyncio.Future[int] | None = None  # the pid of the next one that starts
    _replacing: bool = False
    _seeing_off: asyncio.Future[int | None] | None = None
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while `_process` becomes another one
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        """Of the process that is there now."""
        return self._process.pid if self._process else None

    @property
    def processes(self) -> tuple[Process, ...]:
        """The process that is there now, and the one that it took over from while that has calls to finish."""
        return tuple(one for one in (self._process, self.leaving) if one is not None and not one.end.done())

    async def run(self) -> None:
        """Run until `stop`."""
        failures = 0
        while not self._stopping.is_set():
            loop = asyncio.get_running_loop()
            began = loop.time()
            code, said = await self._attempt()
            if self._stopping.is_set():
                return
            if self._again:
                self._again, failures = False, 0
                continue
            failures = 0 if loop.time() - began > STEADY else failures + 1
            pause = PAUSES[min(failures, len(PAUSES)) - 1] if failures else PAUSES[0]
            told = {"process": self.spec.name, "status": code, "again_in_seconds": pause}
            self.tell("ended", told | ({"said": said} if said else {}))
            await self._sleep(pause)

    async def started(self) -> int:
        """The pid, once there is one."""
        await self._started.wait()
        assert self._process is not None
        return self._process.pid

    async def stop(self, patience: float = 8.0) -> None:
        """End the process: SIGTERM, and SIGKILL after `patience` seconds."""
        self._stopping.set()
        async with self._changing:
            ending = self.processes
        if self.leaving is not None and self.leaving.epoch is not None:
            lineage.put_sink(self.spec.directory, self.leaving.epoch)  # the other one tells it to end as well
        await asyncio.gather(*(self._end(one, patience) for one in ending))
        if self.spec.keeps_running and ending:
            lineage.end(self.spec.directory, ending[0].epoch.base if ending[0].epoch else None)

    async def hand_over(self, spec: Spec, patience: float = 60.0, within: float = 30.0) -> HandedOver | Refused:
        """Let another Envoy take over the listeners of this one; it serves no later than `within` seconds on.

        The old one finishes its calls, for at most `patience` seconds. When the new one does not come up, the old one
        goes on as if nothing had been.
        """
        if self._replacing or self.leaving is not None:
            return Refused("another Envoy is just being replaced; wait until that has ended")
        self._replacing = True
        try:
            began = time.monotonic()
            async with self._changing:
                taken = await self._take_over(spec, patience, within)
            if isinstance(taken, Refused):
                return taken
            old, seconds = taken, time.monotonic() - began
            new_pid = await self.started()
            self.tell(
                "handed over", {"process": spec.name, "pid": new_pid, "from": old.pid, "seconds": round(seconds, 3)}
            )
            left = await self._see_off(old, patience)
            return HandedOver(old.pid, new_pid, seconds, time.monotonic() - began - seconds, left)
        finally:
            self._replacing = False

    async def restart(self, spec: Spec) -> Restarted | Refused:
        """End the process and start another one: what is open is cut, and nobody listens in between."""
        old = self._process
        if self._replacing or old is None:
            return Refused("there is none at this moment" if old is None else "another one is just being replaced")
        self._replacing = True
        try:
            reason = await _refusal(spec, old)
            if reason:
                return Refused(reason)
            began = time.monotonic()
            self.spec, self._again, self._next = spec, True, asyncio.get_running_loop().create_future()
            await self._end(old, 8.0)
            await asyncio.wait({self._next}, timeout=_RESTARTS_WITHIN)
            if not self._next.done():
                return Refused(f"no other one has come up after {old.pid} was ended")
            return Restarted(old.pid, self._next.result(), time.monotonic() - began)
        finally:
            self._replacing, self._next = False, None

    async def _attempt(self) -> tuple[int | None, str]:
        """One run: its exit status, and its last words when it gave up by itself or could not be started."""
        written = self.spec.output.stat().st_size if self.spec.output.exists() else 0
        try:
            async with self._changing:
                if self._stopping.is_set():
                    return None, ""
                await self._begin()
        except OSError as error:
            return None, str(error)
        code = await self._until_ended()
        return code, process.last_line(self.spec.output, written) if code is not None and code > 0 else ""

    async def _until_ended(self) -> int | None:
        """The exit status of the process that is there by then: it may have been handed over."""
        while True:
            one = self._process
            assert one is not None
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({one.end, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            async with self._changing:
                if one is self._process and one.end.done():
                    self._process, self._started = None, asyncio.Event()
                    return one.end.result()

    async def _begin(self) -> None:
        spec, run = self.spec, process.new_run()
        if not spec.keeps_running:
            self._become(await process.start(spec, run), "started")
            return
        await self._settle_coming()
        noted = adopted.read(spec.directory, spec.name)
        if noted and adopted.runs(noted):
            self._become(process.take_over(noted), "taken over")
            self._take_over_leaving()
            return
        if self.leaving is not None:  # its listeners are gone, and who has them now is gone too
            await self._end(self.leaving, 8.0)
        lineage.end(spec.directory, noted.base if noted else None)
        self._become(await process.start_kept(spec, run, lineage.begin()), "started")

    async def _take_over(self, spec: Spec, patience: float, within: float) -> Process | Refused:
        """The process that was handed over from; it is `leaving` now."""
        old = self._process
        if old is None or self._stopping.is_set():
            return Refused("no Envoy runs at this moment")
        line = await succession.line(old, spec.directory, self._line)
        taken = await succession.take_over(old, line, spec, patience, within, self._stopping)
        self._line = line
        if isinstance(taken, Refused):
            return taken
        self.leaving, self.spec = old, spec
        process.remember(spec, old, ".leaving", until=time.time() + patience)
        self._become(taken, None)
        adopted.forget(spec.directory, f"{spec.name}.coming")
        return old

    async def _see_off(self, old: Process, patience: float) -> int | None:
        line, self._line = self._line, None
        left = await succession.see_off(old, line, self.spec, patience)
        ended = await old.stop(8.0)
        self.leaving = None
        adopted.forget(self.spec.directory, f"{self.spec.name}.leaving")
        self.tell("left", {"process": self.spec.name, "pid": old.pid, "connections": left, "killed": not ended})
        return left

    async def _settle_coming(self) -> None:
        """End what another supervisor was just about to hand over to when it was killed, or remember that it had."""
        directory, name = self.spec.directory, self.spec.name
        noted, coming = adopted.read(directory, name), adopted.read(directory, f"{name}.coming")
        adopted.forget(directory, f"{name}.coming")
        if noted is None or coming is None or coming.pid == noted.pid or not adopted.runs(coming):
            return
        old, new = process.take_over(noted), process.take_over(coming)
        if old.epoch is None or new.epoch is None:
            return
        if await succession.serves(directory, new.epoch):
            process.remember(self.spec, old, ".leaving", until=time.time())
            process.remember(self.spec, new)
            return
        await new.kill()  # asked to end, it would ask the old one to end as well
        if not await succession.still_serves(directory, old.epoch):
            await old.stop(8.0)

    def _take_over_leaving(self) -> None:
        """See off what another supervisor's Envoy had been handed over from, when that one had no time to."""
        noted = adopted.read(self.spec.directory, f"{self.spec.name}.leaving")
        if noted is not None and adopted.runs(noted):
            self.leaving = process.take_over(noted)
            patience = max(0.0, (noted.until or 0.0) - time.time())
            self._seeing_off = asyncio.ensure_future(self._see_off(self.leaving, patience))

    def _become(self, one: Process, what: str | None) -> None:
        self._process = one
        if one.epoch is not None:
            process.remember(self.spec, one)
        if self._next is not None and not self._next.done():
            self._next.set_result(one.pid)
        self.starts += 1
        self._started.set()
        self._changed.set()
        if what:
            self.tell(what, {"process": self.spec.name, "pid": one.pid, "start": self.starts})

    async def _end(self, one: Process, patience: float) -> None:
        if not await one.stop(patience):
            self.tell("killed", {"process": self.spec.name, "pid": one.pid, "after_seconds": patience})

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


async def _refusal(spec: Spec, old: Process) -> str:
    """Why there is nothing to start instead of a process; empty when there is."""
    if not spec.keeps_running:
        return ""
    command = [*spec.command, *lineage.begin().arguments(old.run, 0)]
    return await preflight.accepts(command, spec.directory, spec.environment)
