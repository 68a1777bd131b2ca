"""The control plane's process, built from settings: the only place that knows all its parts.

`python -m septum.app.control MESH_DIR`, in the state directory; `septum up` and `septum control` start it. `--node` is
the node of this machine: its agent reaches the control plane over a socket, without certificates.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import socket
import sys
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
import watchfiles

from septum.app.process import begin, end_with_parent, locked, stopping
from septum.audit.parcel import Kept
from septum.audit.receive import Receiver
from septum.audit.schema import FILE
from septum.control import api
from septum.control.applied import Outcome
from septum.control.archive import Archive
from septum.control.carrier import Carrier
from septum.control.certificates import Certificates
from septum.control.confirm import Trial
from septum.control.files import read_mesh_dir
from septum.control.fronts import Fronts
from septum.control.grants import Grants
from septum.control.guard import Probes
from septum.control.history import History
from septum.control.membership import Membership
from septum.control.nodes import Nodes
from septum.control.plane import Plane
from septum.control.port import Port
from septum.control.registry import Registry
from septum.control.service import Service, log_applied
from septum.control.shadow import Shadows
from septum.control.signing import BadSignature, Signer
from septum.control.state import State, StateError, UnreadableVersion
from septum.control.watched import Watched
from septum.identity.authority import AuthorityError
from septum.node.ports import pick_outbound
from septum.rpc.server import serve as serve_agents
from septum.telemetry.control import control_metrics, control_unready
from septum.telemetry.server import Telemetry, TelemetryError, address
from septum.telemetry.server import serve as serve_telemetry
from septum.xds.fleet import Fleet
from septum.xds.status import Happening, NodeRefused, TurnedAway

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told. `node` is the node of this machine, or empty; `listen` and `metrics` are addresses."""

    mesh: Path
    state: Path
    node: str
    listen: str
    names: tuple[str, ...]
    metrics: str
    watch: bool


def main(arguments: list[str]) -> int:
    """Run until SIGTERM. Exit status 1 when there is nothing valid to enforce, or something that cannot be used."""
    begin()
    end_with_parent()
    try:
        return asyncio.run(_run(_settings(arguments)))
    except (StateError, AuthorityError, TelemetryError, OSError) as error:
        log.error("the control plane cannot start", reason=str(error))
        return 1


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser()
    parser.add_argument("mesh", type=Path)
    for name in ("--node", "--listen", "--metrics"):
        parser.add_argument(name, default="")
    parser.add_argument("--name", action="append", default=[])
    parser.add_argument("--watch", action="store_true")
    given = parser.parse_args(arguments)
    return Settings(
        given.mesh, Path.cwd(), given.node, given.listen, tuple(given.name), given.metrics, given.watch
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts that others ask."""

    plane: Plane
    membership: Membership
    certificates: Certificates
    receiver: Receiver
    nodes: Nodes
    grants: Grants
    service: Service
    shadows: Shadows
    trial: Trial
    probes: Probes
    watched: Watched
    fleet: Fleet


async def _run(settings: Settings) -> int:
    end = stopping()
    async with AsyncExitStack() as stack:
        await locked(stack, settings.state / "control.lock")
        parts = _built(settings, stack)
        if not await _take_up(settings, parts.plane):
            return 1
        port = await _serve(settings, parts, stack)
        gc.collect()
        gc.freeze()  # what is here now stays; see Service.apply
        log.info("ready", node=settings.node, version=parts.plane.policy.version if parts.plane.policy else "")
        async with asyncio.TaskGroup() as group:
            work = [parts.plane.run(), parts.nodes.keep_quarantine(), parts.nodes.keep_trust(), parts.grants.keep()]
            work += [parts.trial.run(), parts.probes.run(lambda: parts.plane.policy)]
            work += [port.run()] if port else []
            work += [_watch(settings, parts.plane)] if settings.watch else []
            tasks = [group.create_task(one) for one in work]
            await end.wait()
            for task in tasks:
                task.cancel()
        log.info("stopping")
    return 0


def _built(settings: Settings, stack: AsyncExitStack) -> _Parts:
    state = State(settings.state / "state.db")
    stack.callback(state.close)
    registry, fleet = Registry(state), Fleet(time.monotonic, _happened)
    certificates = Certificates(settings.state / "ca", time.time)
    fronts = Fronts(settings.node, registry.members, certificates.trusted_in)
    signer, records = Signer(settings.state, state.next_number() - 1), settings.state / "records" / FILE

    def healthy() -> frozenset[str]:
        return membership.healthy()

    archive = Archive(state, signer, healthy, time.time)
    probes = Probes(records, time.time)
    plane = Plane(fronts, state, registry, fleet, pick_outbound, archive, probes)

    def joined(node: str) -> Awaitable[object]:
        return plane.refresh(f"node {node} joined", patience=0)

    membership = Membership(registry, certificates.authority, plane.mesh, plane.fronted, joined, time.time)
    receiver = Receiver(records, plane.trust_domain, History(state, plane))
    stack.push_async_callback(receiver.close)

    def stored() -> dict[str, dict[str, object]]:
        # Of a file that cannot be opened nothing is known but that.
        known = receiver.kept() or (dict.fromkeys(plane.nodes(), Kept()) if receiver.stalled else {})
        return {node: asdict(kept) | {"unstored": receiver.stalled} for node, kept in known.items()}

    nodes = Nodes(
        plane, registry, membership, certificates, fleet, stored, time.time, local=settings.node, listen=settings.listen
    )
    watched = Watched(plane, state, nodes, membership, certificates)
    trial = Trial(plane, state, records, membership.health, time.time)
    service = Service(plane, state, nodes, trial, watched.applied, log.info)
    grants, shadows = Grants(plane, time.time), Shadows(plane, service.apply, time.time)
    return _Parts(
        plane, membership, certificates, receiver, nodes, grants, service, shadows, trial, probes, watched, fleet
    )


async def _serve(settings: Settings, parts: _Parts, stack: AsyncExitStack) -> Port | None:
    """Open every door: for commands, for the agent of this machine, for other hosts, for metrics."""
    operations = {**parts.membership.operations(), **Carrier(parts.receiver).operations()}
    if settings.node:
        (settings.state / "agents.sock").unlink(missing_ok=True)
        here = serve_agents(parts.fleet, operations, socket="agents.sock", local=settings.node)
        await stack.enter_async_context(here)
    port = None
    if settings.listen:
        authority = parts.certificates.authority()
        if authority is None:
            raise StateError(f"the mesh lists no nodes, so none can join at {settings.listen}: add `nodes:`")
        port = Port(authority, names_of(settings.listen, settings.names), time.time)
        parts.watched.port_ends = port.ends
        recognise, credentials = parts.membership.recognise, port.credentials
        serving = serve_agents(
            parts.fleet, operations, address=settings.listen, credentials=credentials, recognise=recognise
        )
        await stack.enter_async_context(serving)
    handlers = {**parts.service.handlers(), **parts.grants.handlers(), **parts.shadows.handlers()}
    await stack.enter_async_context(api.serve(settings.state, handlers))
    if settings.metrics:
        telemetry = Telemetry(
            lambda: control_metrics(parts.watched.view()), lambda: control_unready(parts.watched.view())
        )
        await stack.enter_async_context(serve_telemetry(address(settings.metrics), telemetry))
    return port


def names_of(listen: str, also: tuple[str, ...]) -> tuple[str, ...]:
    """The host names and addresses for the port's certificate: where it listens, this host's name, and those given."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        anywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        anywhere = False
    return tuple(dict.fromkeys((*([] if anywhere else [host]), socket.gethostname().lower(), *also)))


async def _take_up(settings: Settings, plane: Plane) -> bool:
    """Enforce what was enforced before, or the files of the directory the first time."""
    try:
        if plane.restore():
            return True
    except (BadSignature, UnreadableVersion) as error:
        # Neither it nor the files of the directory, which nobody asked to be applied: somebody has to look.
        log.error("nothing is enforced anew, the nodes keep what they hold; `septum apply` decides", reason=str(error))
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
    inside = Path(path).parts
    return ".septum" not in inside and (path.endswith((".yaml", ".yml")) or "files" in inside)


def _happened(happening: Happening) -> None:
    """One structured line for everything that happens to a node; refusals are never silent."""
    level = log.error if isinstance(happening, NodeRefused | TurnedAway) else log.info
    level(type(happening).__name__, **asdict(happening))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
