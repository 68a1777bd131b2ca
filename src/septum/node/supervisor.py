"""A node as a process tree: what runs beside Envoy, and Envoy, kept running and taken down in order.

The supervisor holds no policy and no traffic, so that Envoy goes on enforcing when any of the others dies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from septum.node import preflight
from septum.node.binary import command
from septum.node.child import Child, Tell
from septum.node.process import Spec
from septum.node.succession import Refused
from septum.rpc import local

SOCKET = "node.sock"
# septum.envoy.access_log.DECISIONS, which would bring 40 MB of protobuf along.
DECISIONS = "septum.decisions"


def envoy_spec(state: Path, binary: Path, node: str, concurrency: int) -> Spec:
    """How a node's Envoy is run. It stays when its supervisor is killed: enforcement must not end with it."""
    environment = {"SEPTUM_NODE": node, "PATH": os.environ.get("PATH", "")}
    line, output = command(binary, concurrency, alone=False), state / "envoy.out"
    return Spec("envoy", line, state, environment, output, keeps_running=True, counter=DECISIONS)


def control_spec(state: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Spec:
    """How the control plane is run."""
    return Spec("control", arguments, state, environment, state / "septum.log")


def agent_spec(state: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Spec:
    """How the agent is run."""
    return Spec("agent", arguments, state, environment, state / "agent.log")


async def supervise(
    specs: Sequence[Spec], tell: Tell, stopping: asyncio.Event, up: Callable[[], Awaitable[None]]
) -> None:
    """Run these processes until `stopping` is set. `up` is awaited once all have been started.

    They start in this order, each once the one before it is there, and end in the reverse one: an Envoy that comes
    last finds who configures it, and its last records somebody to read them. Commands for them are taken on `node.sock`
    in the directory of the last one.
    """
    children = [Child(spec, tell) for spec in specs]
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(child.run())
            await child.started()
        group.create_task(_until_stopped(up(), stopping))
        async with local.serve(specs[-1].directory, SOCKET, _Commands(children).handlers()):
            await stopping.wait()
            for child in reversed(children):
                await child.stop()


class _Commands:
    """What is asked of a supervisor: answers as JSON values; `refused` says why nothing has changed."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children

    def handlers(self) -> Mapping[str, local.Handler]:
        return {"ps": self.ps, "upgrade": self.upgrade, "restart": self.restart}

    async def ps(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every process: `state` is `running`, `leaving` (another took over from it) or `down`."""
        return {"pid": os.getpid(), "processes": [entry for child in self._children for entry in await _entries(child)]}

    async def upgrade(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """`envoy`: the binary, or the one that runs; `patience` in seconds for what is open; `within` for the start."""
        child = self._envoy()
        if child is None:
            return {"refused": "no Envoy is run here"}
        spec = _with(child.spec, request.get("envoy"))
        before = await _version(child.pid)
        done = await child.hand_over(spec, float(request.get("patience", 60.0)), float(request.get("within", 30.0)))
        if isinstance(done, Refused):
            return {"refused": done.reason}
        return {**asdict(done), "old_version": before, "new_version": await _version(done.new_pid)}

    async def restart(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """`envoy`: the binary, or the one that runs; `process`: the name of another one to restart instead."""
        name = request.get("process", "envoy")
        child = next((child for child in self._children if child.spec.name == name), None)
        if child is None:
            return {
                "refused": f"no process is called {name}; there are {', '.join(c.spec.name for c in self._children)}"
            }
        done = await child.restart(_with(child.spec, request.get("envoy")))
        return {"refused": done.reason} if isinstance(done, Refused) else asdict(done)

    def _envoy(self) -> Child | None:
        return next((child for child in self._children if child.spec.keeps_running), None)


def _with(spec: Spec, binary: str | None) -> Spec:
    return replace(spec, command=(binary, *spec.command[1:])) if binary else spec


async def _entries(child: Child) -> list[dict[str, Any]]:
    running = [
        {
            "process": child.spec.name,
            "state": "leaving" if one is child.leaving else "running",
            "pid": one.pid,
            "run": one.run,
            "starts": child.starts,
            "since": one.since,
            "version": await _version(one.pid) if child.spec.keeps_running else "",
        }
        for one in child.processes
    ]
    down = {"process": child.spec.name, "state": "down", "pid": None, "run": "", "starts": child.starts, "since": None}
    return running or [{**down, "version": ""}]


async def _version(pid: int | None) -> str:
    # Through /proc, so that the binary that runs is asked also after another one took its name.
    return await preflight.version(f"/proc/{pid}/exe") if pid else ""


async def _until_stopped(work: Awaitable[None], stopping: asyncio.Event) -> None:
    """Do the work, or leave it when it is time to stop."""
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        stop.cancel()
