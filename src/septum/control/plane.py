"""The control plane of one mesh: files in, what the node should hold out, and what came of it.

A version becomes the enforced one when the node holds it. When the node refuses it, or it cannot be stored, the version
before stays the desired one, is sent again, and the author is told why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import structlog

from septum.control.state import State, StateError
from septum.envoy.compile import Compiler, Node
from septum.model.diagnostic import Diagnostic
from septum.model.mesh import Address, Mesh
from septum.model.policy import Policy
from septum.model.snapshot import Snapshot
from septum.policy.digest import slice_of
from septum.policy.load import Files, Loaded, Loader
from septum.xds.fleet import Fleet
from septum.xds.status import AllHeld, NodeStatus, Refused
from septum.xds.status import Outcome as Arrival
from septum.xds.types import Refusal

_log = structlog.get_logger("septum.control")
_NO_END = 1e8  # seconds


class Outcome(StrEnum):
    """What came of an apply. SENT means just that: some node does not hold it yet."""

    HELD = "held"
    SENT = "sent"
    UNCHANGED = "unchanged"
    INVALID = "invalid"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of an apply, with how long each step took (milliseconds)."""

    outcome: Outcome
    version: str = ""
    previous: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    resources_changed: tuple[tuple[str, str], ...] = ()
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    nodes: tuple[NodeStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class _Enforced:
    policy: Policy
    snapshot: Snapshot
    outbound: Mapping[str, Address]


class Plane:
    """Owns what is desired. One apply at a time; reading is free."""

    def __init__(
        self,
        node: str,
        decisions: str,
        state: State,
        fleet: Fleet,
        pick_outbound: Callable[[Mesh, Mapping[str, Address]], dict[str, Address]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._decisions, self._state, self._fleet = node, decisions, state, fleet
        self._pick_outbound, self._clock = pick_outbound, clock
        self._loader, self._compiler = Loader(), Compiler()
        self._current: _Enforced | None = None
        self._lock = asyncio.Lock()
        self._late: asyncio.Queue[tuple[_Enforced | None, _Enforced]] = asyncio.Queue()
        fleet.expect(node)

    @property
    def policy(self) -> Policy | None:
        """The policy that the node should hold."""
        return self._current.policy if self._current else None

    def outbound(self) -> dict[str, Address]:
        """Workload → where its outbound listener opens."""
        if self._current is None:
            return {}
        workloads = self._current.policy.mesh.workloads
        return {name: w.outbound or self._current.outbound[name] for name, w in workloads.items()}

    def restore(self) -> bool:
        """Take up the version that was enforced before; False when there is none. Raises ValueError for a bad one."""
        version = self._state.enforced()
        if version is None:
            return False
        loaded = self._loader.load(version.files)
        if loaded.policy is None:
            raise ValueError(
                f"the stored version {version.digest[:12]} is not valid any more: {loaded.errors[0].message}"
            )
        self._current = self._compiled(loaded.policy)
        self._fleet.publish(self._node, self._current.snapshot)
        return True

    async def apply(self, files: Files, author: str, patience: float = 5.0) -> Applied:
        """Check, compile, send, and wait until the node holds it or `patience` seconds have passed.

        Raises StateError when the version cannot be stored; then the one before is enforced.
        """
        async with self._lock:
            started = time.perf_counter()
            loaded = self._loader.load(files)
            read = time.perf_counter()
            if loaded.policy is None:
                return Applied(Outcome.INVALID, diagnostics=loaded.diagnostics)
            wanted = self._compiled(loaded.policy)
            compiled = time.perf_counter()
            times = {"check": (read - started) * 1e3, "compile": (compiled - read) * 1e3}
            return await self._change(loaded, wanted, files, author, patience, times)

    async def _change(
        self, loaded: Loaded, wanted: _Enforced, files: Files, author: str, patience: float, times: dict[str, float]
    ) -> Applied:
        before = self._current
        previous = before.policy.version if before else ""
        sent = time.perf_counter()
        self._fleet.publish(self._node, wanted.snapshot)
        arrival = await self._settled(wanted.snapshot, patience)
        times["held"] = (time.perf_counter() - sent) * 1e3
        changed = _changed(before.snapshot if before else None, wanted.snapshot)
        made = Applied(Outcome.HELD, wanted.policy.version, previous, loaded.diagnostics, (), changed, times)
        if isinstance(arrival, Refused):
            await self._revert(before, patience)
            return replace(made, outcome=Outcome.REJECTED, refusals=arrival.refusals)
        if wanted.policy.version != previous:
            try:
                self._store(wanted.policy, files, author)
            except StateError:
                await self._revert(before, patience)
                raise
        self._current = wanted
        if not isinstance(arrival, AllHeld):
            self._late.put_nowait((before, wanted))
            return replace(made, outcome=Outcome.SENT, nodes=tuple(self._fleet.status()))
        return made if changed else replace(made, outcome=Outcome.UNCHANGED)

    async def run(self) -> None:
        """Take back what the node refuses after `apply` has stopped waiting, for as long as the plane lives."""
        while True:
            before, wanted = await self._late.get()
            arrival = await self._settled(wanted.snapshot, _NO_END)
            if isinstance(arrival, Refused) and before is not None:
                await self._take_back(before, wanted, arrival)

    async def _take_back(self, before: _Enforced, wanted: _Enforced, refused: Refused) -> None:
        async with self._lock:
            if self._current is not wanted:
                return
            self._state.take_back(wanted.policy.version)
            self._current = before
            self._fleet.publish(self._node, before.snapshot)
        reasons = [refusal.reason for refusal in refused.refusals]
        _log.error("a version was refused after it was sent; the one before is enforced", reasons=reasons)

    def _store(self, policy: Policy, files: Files, author: str) -> None:
        slices = {name: slice_of(policy, name) for name in policy.mesh.workloads}
        contents = {path: content for path, content in files.items() if isinstance(content, bytes)}
        self._state.enforce(policy.version, contents, slices, author, self._clock())

    async def _revert(self, before: _Enforced | None, patience: float) -> None:
        """Send the version before again: Envoy may have applied the good part of what it refused."""
        if before is not None:
            self._fleet.publish(self._node, before.snapshot)
            await self._settled(before.snapshot, patience)

    async def _settled(self, snapshot: Snapshot, patience: float) -> Arrival:
        return (await self._fleet.settled([self._node], snapshot.version, patience))[self._node]

    async def ready(self, patience: float) -> NodeStatus:
        """Wait until the node holds what it should, refuses it, or `patience` seconds have passed."""
        if self._current is not None:
            await self._settled(self._current.snapshot, patience)
        return next(status for status in self._fleet.status() if status.node == self._node)

    def _compiled(self, policy: Policy) -> _Enforced:
        current = self._current
        same = current is not None and policy.mesh is current.policy.mesh
        outbound = current.outbound if current is not None and same else self._placed(policy.mesh)
        snapshot = self._compiler.compile(policy, Node(self._node, outbound, self._decisions))
        return _Enforced(policy, snapshot, outbound)

    def _placed(self, mesh: Mesh) -> Mapping[str, Address]:
        """An outbound address for every workload that has none of its own: the one it had, if it can be."""
        kept = {name: Address.parse(text) for name, text in self._state.outbound().items()}
        picked = self._pick_outbound(mesh, kept)
        for name, address in picked.items():
            if kept.get(name) != address:
                self._state.set_outbound(name, str(address))
        return picked


def _changed(before: Snapshot | None, after: Snapshot) -> tuple[tuple[str, str], ...]:
    """(type, name) of every resource that differs between two snapshots."""
    types = after.resources.keys() | (before.resources.keys() if before else set())
    changed = []
    for type_url in sorted(types):
        old, new = (before.of(type_url) if before else {}), after.of(type_url)
        changed += [(type_url, name) for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return tuple(changed)
