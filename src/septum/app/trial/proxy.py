"""One Envoy of our own for the time of a trial, with the control plane for it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from septum.audit.line import Line, read_line
from septum.envoy.bootstrap import Start, bootstrap
from septum.envoy.compile import Compiler, Front
from septum.model.mesh import Address
from septum.model.policy import Policy
from septum.node.binary import command, find_envoy
from septum.xds.fleet import Fleet
from septum.xds.server import serve
from septum.xds.status import AllHeld, Missing, Refused

_NODE = "trial"
_WORKERS = 2
_DECISIONS = "decisions.jsonl"
# Seconds in which an Envoy starts and holds what it is sent, and in which it writes down what it decided.
_HELD_WITHIN, _WRITTEN_WITHIN = 30.0, 10.0
_POLL = 0.01
# `sun_path` holds 108 bytes (unix(7)); the directory's own name and the socket's take the rest.
_LONGEST = 70

# Ends Envoy when whoever started it is gone, in whatever way: its standard input is then at its end.
_KEEPER = """
exec 3<&0
"$@" </dev/null 3<&- &
envoy=$!
{ read -r _ <&3; kill $envoy; } &
reader=$!
exec 3<&-
wait $envoy; status=$?
kill $reader 2>/dev/null
exit $status
"""


class TrialError(Exception):
    """The trial cannot be held; the text says why."""


class PortTakenError(TrialError):
    """Something else has taken a port that was free a moment ago."""


class Proxy:
    """A running Envoy, which enforces what it is given."""

    def __init__(self, directory: Path, fleet: Fleet, process: asyncio.subprocess.Process) -> None:
        self._directory, self._fleet, self._process = directory, fleet, process
        self._compiler = Compiler()
        self._read = 0
        self._lines: dict[str, Line] = {}

    async def hold(self, policy: Policy, fronted: Collection[str]) -> None:
        """Make Envoy enforce a policy for these workloads. Raises TrialError."""
        snapshot = self._compiler.compile(policy, Front(_NODE, tuple(fronted), {}, _DECISIONS)).for_envoy()
        self._fleet.publish(_NODE, snapshot)
        held = asyncio.create_task(self._fleet.settled([_NODE], snapshot.version, _HELD_WITHIN))
        ended = asyncio.create_task(self._process.wait())
        await asyncio.wait({held, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not held.done():
            held.cancel()
            raise TrialError(f"Envoy ended with status {self._process.returncode}: {self._last_words()}")
        match held.result()[_NODE]:
            case AllHeld():
                return
            case Refused(refusals):
                why = "; ".join(map(str, refusals))
                raise (PortTakenError if "bind" in why else TrialError)(f"Envoy refused the compiled policy: {why}")
            case Missing(why):
                raise TrialError(f"Envoy did not take the compiled policy: {why}; {self._last_words()}")

    async def decisions(self, wanted: Iterable[str]) -> dict[str, Line]:
        """What Envoy wrote of the requests with these ids. One that it does not write in time is missing."""
        ids = set(wanted)
        deadline = time.monotonic() + _WRITTEN_WITHIN
        while not ids <= self._lines.keys() and time.monotonic() < deadline:
            self._take_lines()
            await asyncio.sleep(_POLL)
        return {id: self._lines[id] for id in ids & self._lines.keys()}

    def _take_lines(self) -> None:
        file = self._directory / _DECISIONS
        if not file.exists():
            return
        with file.open("rb") as written:
            written.seek(self._read)
            data = written.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for raw in whole.splitlines():
            line = read_line(raw)
            if isinstance(line, Line) and line.id:
                self._lines[line.id] = line

    def _last_words(self) -> str:
        log = self._directory / "envoy.log"
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        for raw in reversed(lines):
            try:
                return str(json.loads(raw)["message"])
            except (ValueError, KeyError, TypeError):
                continue
        return "it says nothing in its log"


@asynccontextmanager
async def running() -> AsyncIterator[Proxy]:
    """Start an Envoy; afterwards it is gone, and so is its directory. Raises TrialError and MissingEnvoyError."""
    binary = find_envoy()
    with tempfile.TemporaryDirectory(prefix="septum-", dir=_short_place()) as place:
        directory = Path(place)
        fleet = Fleet(time.monotonic, lambda _: None)
        fleet.expect(_NODE)
        start = Start(_NODE, "trial", "xds.sock", "admin.sock")
        (directory / "envoy.pb").write_bytes(bootstrap(start).SerializeToString())
        async with (
            serve(str(directory / "xds.sock"), fleet),
            _keeper(command(binary, _WORKERS), directory) as process,
        ):
            yield Proxy(directory, fleet, process)


def _short_place() -> str | None:
    """Where the directory is made: where the system says, or /tmp when a socket's path would be too long there."""
    return None if len(tempfile.gettempdir()) <= _LONGEST else "/tmp"  # noqa: S108 - mkdtemp makes it unguessable


@asynccontextmanager
async def _keeper(line: list[str], directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Envoy's keeper, as long as the block runs."""
    # Shielded: asyncio waits without end for a process whose start is cancelled before its pipes are connected.
    starting = asyncio.create_task(_start(line, directory))
    try:
        yield await asyncio.shield(starting)
    finally:
        await _end(await starting)


async def _start(line: list[str], directory: Path) -> asyncio.subprocess.Process:
    with (directory / "envoy.out").open("ab") as output:
        return await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _KEEPER, "sh", *line,
            cwd=directory,
            env={**os.environ, "SEPTUM_NODE": _NODE},
            stdin=PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us, who end it in order
        )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    """End Envoy as its keeper does when we are gone."""
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


def free_ports(count: int) -> list[Address]:
    """Loopback addresses with as many ports that nobody uses now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [Address("127.0.0.1", one.getsockname()[1]) for one in sockets]
