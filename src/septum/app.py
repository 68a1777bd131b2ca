"""The control plane's process, built from settings: the only place that knows all its parts.

`python -m septum.app MESH_DIR NODE [--watch]`, in the state directory; `septum up` starts it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
import watchfiles

from septum.control import api
from septum.control.files import read_mesh_dir
from septum.control.history import History
from septum.control.plane import Outcome, Plane
from septum.control.service import Service, log_applied
from septum.control.state import State, StateError
from septum.envoy.access_log import DECISIONS
from septum.node.lock import AlreadyRunningError, hold
from septum.node.ports import pick_outbound
from septum.node.records import Records
from septum.node.writer import EnvoyWriter
from septum.xds.fleet import Fleet
from septum.xds.server import serve as serve_xds
from septum.xds.status import Happening, NodeRefused, TurnedAway

DECISIONS_FILE = "records/decisions.jsonl"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told: where the mesh's files are, the node's name, and whether files are watched."""

    mesh: Path
    state: Path
    node: str
    watch: bool


def main(arguments: list[str]) -> int:
    """Run until SIGTERM. Exit status 1 when there is nothing valid to enforce, or no state to keep it in."""
    mesh, node, *rest = arguments
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    # Records are read in a thread of their own. At Python's 5 ms a change would wait for it that long, again and again.
    sys.setswitchinterval(0.0005)
    # SIGTERM when the supervisor dies (prctl(2), PR_SET_PDEATHSIG): the next one starts a control plane of its own.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    try:
        return asyncio.run(_run(Settings(Path(mesh), Path.cwd(), node, "--watch" in rest)))
    except StateError as error:
        log.error("the state cannot be used", reason=str(error))
        return 1


async def _run(settings: Settings) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        await _take_lock(stack, settings.state / "control.lock")
        state = State(settings.state / "state.db")
        stack.callback(state.close)
        fleet = Fleet(time.monotonic, _happened)
        plane = Plane(settings.node, DECISIONS_FILE, state, fleet, pick_outbound)
        if not await _take_up(settings, plane):
            return 1
        directory = settings.state / "records"
        writer = EnvoyWriter(settings.state, DECISIONS)
        records = Records(directory, lambda: _trust_domain(plane), History(state, plane), writer)
        stack.push_async_callback(records.finish)
        await _serve(settings, Service(plane, state, fleet, records.status, log.info), fleet, stack)
        gc.collect()
        gc.freeze()  # what is here now stays; see Service.apply
        log.info("ready", node=settings.node, version=plane.policy.version if plane.policy else "")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(records.run()), group.create_task(plane.run())]
            if settings.watch:
                tasks.append(group.create_task(_watch(settings, plane)))
            await stopping.wait()
            for task in tasks:
                task.cancel()
        log.info("stopping")
    return 0


async def _take_lock(stack: AsyncExitStack, path: Path) -> None:
    """Hold the lock of a control plane; one that is just ending is waited for."""
    async with asyncio.timeout(5):
        while True:
            try:
                stack.enter_context(hold(path))
            except AlreadyRunningError:
                await asyncio.sleep(0.05)
            else:
                return


async def _serve(settings: Settings, service: Service, fleet: Fleet, stack: AsyncExitStack) -> None:
    for socket in ("xds.sock", "control.sock"):
        (settings.state / socket).unlink(missing_ok=True)
    await stack.enter_async_context(serve_xds("xds.sock", fleet))
    await stack.enter_async_context(api.serve("control.sock", service.handlers()))


def _trust_domain(plane: Plane) -> str:
    return plane.policy.mesh.trust_domain if plane.policy else ""


async def _take_up(settings: Settings, plane: Plane) -> bool:
    """Enforce what was enforced before, or the files of the directory the first time."""
    try:
        if plane.restore():
            return True
    except ValueError as error:
        log.error("the stored version is not used", reason=str(error))
    applied = await plane.apply(read_mesh_dir(settings.mesh), "septum up", patience=0)
    log_applied(log.info, applied, "septum up")
    for diagnostic in applied.diagnostics:
        log.error(diagnostic.message, code=diagnostic.code, at=str(diagnostic.span))
    return applied.outcome is not Outcome.INVALID


async def _watch(settings: Settings, plane: Plane) -> None:
    """Apply whenever the files change (`--watch`)."""
    async for _ in watchfiles.awatch(settings.mesh, watch_filter=_is_ours, step=20, debounce=100):
        applied = await plane.apply(read_mesh_dir(settings.mesh), "septum up --watch")
        log_applied(log.info, applied, "septum up --watch")
        for diagnostic in applied.diagnostics:
            log.error(diagnostic.message, code=diagnostic.code, at=str(diagnostic.span))


def _is_ours(_: watchfiles.Change, path: str) -> bool:
    return path.endswith((".yaml", ".yml")) and ".septum" not in Path(path).parts


def _happened(happening: Happening) -> None:
    """One structured line for everything that happens to a node; refusals are never silent."""
    level = log.error if isinstance(happening, NodeRefused | TurnedAway) else log.info
    level(type(happening).__name__, **asdict(happening))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
