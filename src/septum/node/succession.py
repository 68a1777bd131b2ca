"""One Envoy takes over from another: it is given the sockets, and the old one only finishes what it has begun."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from septum.node import admin, adopted, lineage, preflight, process
from septum.node.admin import AdminError, Line
from septum.node.binary import DRAIN
from septum.node.lineage import Epoch
from septum.node.process import Process, Spec

_LOOK = 0.02  # seconds between looks at whether the new one has taken over
# Seconds without a connection after which an Envoy that was taken over from has none any more: it is told to stop
# listening at the same time as its successor begins, and may still accept one.
_QUIET = 1.0
# Seconds after which an Envoy whose admin does not answer has lost that in a hand-over that failed.
_SETTLED = 10.0
# Seconds that the supervisor is earlier than the new Envoy to end the old one.
_EARLIER = 15.0


@dataclass(frozen=True, slots=True)
class HandedOver:
    """`seconds` until the new one served, `drained` more until the old one ended, which had `left` connections then.

    `left` is None when it could not be asked.
    """

    old_pid: int
    new_pid: int
    seconds: float
    drained: float
    left: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing has changed, and why."""

    reason: str


async def line(old: Process, directory: Path, kept: Line | None) -> Line | None:
    """A line to the admin of an Envoy; the one that is kept is used when its socket is gone, or another Envoy's."""
    try:
        made = await admin.line(directory)
        answered = await admin.read_counter(made, "")
    except AdminError:
        return kept
    if old.epoch is None or answered.epoch != old.epoch.number:
        made.close()
        return kept
    if kept is not None:
        kept.close()
    return made


async def take_over(
    old: Process, asked: Line | None, spec: Spec, patience: float, within: float, stopping: asyncio.Event
) -> Process | Refused:
    """The new Envoy, once it has taken over the listeners. When it is refused, the old one goes on unchanged."""
    refusal = await _refusal(old, asked, spec)
    if refusal or old.epoch is None:
        return Refused(refusal)
    written = spec.output.stat().st_size if spec.output.exists() else 0
    epoch = old.epoch.next()
    try:
        with lineage.make_sink(spec.directory) as sink:
            new = await process.start_kept(spec, process.new_run(), epoch, patience + _EARLIER, [sink.fileno()])
    except OSError as error:
        return Refused(f"the new Envoy cannot be started: {error}")
    process.remember(spec, new, ".coming")
    failure = await _failure(old, new, epoch, spec.directory, within, stopping)
    if failure:
        await new.kill()  # asked to end, it would ask the old one to end as well
        epoch.forget_failed()
        said = process.last_line(spec.output, written)
        return Refused(f"the new Envoy {failure}{f': {said}' if said else ''}")
    return new


async def see_off(old: Process, asked: Line | None, spec: Spec, patience: float) -> int | None:
    """Wait until an Envoy has no connections any more, or `patience` is over. Returns how many it had at last.

    It takes no change of listeners any more, so what such a change would close lives on in it. When its successor was
    given one, it has no longer than live calls have otherwise. What it has counted is remembered. Afterwards it can be
    ended.
    """
    loop = asyncio.get_running_loop()
    deadline, since, left, changed = loop.time() + patience, None, None, False
    while not old.end.done():
        left = await _ask(old, asked, spec)
        if not changed and await _listeners_changed(spec.directory):
            changed, deadline = True, min(deadline, loop.time() + DRAIN)
        now = loop.time()
        since = (since if since is not None else now) if left == 0 else None
        if now >= deadline or (since is not None and now - since >= _QUIET):
            break
        await asyncio.wait({old.end}, timeout=min(0.25, deadline - now))
    if asked is not None:
        asked.close()
    if old.epoch is not None:
        lineage.put_sink(spec.directory, old.epoch)
    return left


async def _refusal(old: Process, asked: Line | None, spec: Spec) -> str:
    """Why this Envoy cannot be taken over from now; empty when it can."""
    if old.epoch is None:
        return "the running Envoy was started without a lineage and cannot hand over; only a restart replaces it"
    try:
        if asked is not None:
            await asked.request("GET", "/ready")
        elif time.time() - old.since < _SETTLED:
            return "the running Envoy is still starting"
    except AdminError as error:
        return f"the running Envoy is not ready itself: {error}"
    command = [*spec.command, *old.epoch.next().arguments(old.run, 0)]
    reason = await preflight.check(command, spec.directory, spec.environment, old.pid)
    if reason:
        return reason
    if not old.epoch.forget_failed() or not old.epoch.socket(spec.directory).exists():
        return "what the running Envoy shares for a hand-over is gone or not as expected; only a restart replaces it"
    return ""


async def _failure(
    old: Process, new: Process, epoch: Epoch, directory: Path, within: float, stopping: asyncio.Event
) -> str:
    """Why the new Envoy did not take over; empty when it has."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while loop.time() < deadline:
        await asyncio.wait({old.end, new.end}, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
        if new.end.done():
            return f"ended with status {new.end.result()}"
        if old.end.done():
            return f"found the running one gone, with status {old.end.result()}"
        if stopping.is_set():
            return "was not waited for, since everything is being stopped"
        if not epoch.initializing() and await serves(directory, epoch):
            return ""
    return f"did not serve within {within:g} seconds"


async def serves(directory: Path, epoch: Epoch) -> bool:
    """Whether it is the Envoy of this epoch that answers and has its listeners."""
    try:
        with closing(await admin.line(directory)) as one:
            answered = await admin.read_counter(one, "")
            await one.request("GET", "/ready")
    except AdminError:
        return False
    return answered.epoch == epoch.number


async def _listeners_changed(directory: Path) -> bool:
    try:
        with closing(await admin.line(directory)) as one:
            return await admin.listeners_changed(one)
    except AdminError:
        return False


async def still_serves(directory: Path, old: Epoch) -> bool:
    """Whether an Envoy has its listeners whose successor was killed at some moment."""
    began = old.initializing()
    old.forget_failed()
    return began or await serves(directory, old)


async def _ask(old: Process, asked: Line | None, spec: Spec) -> int | None:
    """How many connections it has; what it has counted is remembered."""
    if asked is None:
        return None
    try:
        left = await admin.connections(asked)
        counted = await admin.read_counter(asked, spec.counter)
    except AdminError:
        return None
    adopted.note_count(spec.directory, spec.name, old.run, counted.value)
    return left
