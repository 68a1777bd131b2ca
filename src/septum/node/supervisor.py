"""`septum up` as a process tree: the control plane and Envoy, kept running and taken down in order.

The supervisor holds no policy and no traffic, so that Envoy goes on enforcing when either of the others dies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from septum.node.binary import command
from septum.node.child import Child, Spec, Tell


def envoy_spec(state: Path, binary: Path, node: str, concurrency: int) -> Spec:
    """How a node's Envoy is run. It stays when its supervisor is killed: enforcement must not end with it."""
    environment = {"SEPTUM_NODE": node, "PATH": os.environ.get("PATH", "")}
    return Spec("envoy", command(binary, concurrency), state, environment, state / "envoy.out", keeps_running=True)


def control_spec(state: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Spec:
    """How the control plane is run."""
    return Spec("control", arguments, state, environment, state / "septum.log")


async def supervise(
    control: Spec, envoy: Spec, tell: Tell, stopping: asyncio.Event, up: Callable[[], Awaitable[None]]
) -> None:
    """Run both until `stopping` is set. `up` is awaited once both have been started.

    The control plane starts first, so that Envoy finds it and opens its listeners without a pause.
    """
    children = [Child(control, tell), Child(envoy, tell)]
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(child.run())
            await child.started()
        group.create_task(_until_stopped(up(), stopping))
        await stopping.wait()
        for child in reversed(children):  # Envoy first: its last records find somebody to read them
            await child.stop()


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
