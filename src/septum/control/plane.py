"""The control plane of one mesh: files in, what each node should hold out, and what came of it.

A version becomes the enforced one when every node holds it that is there. When one refuses it, or it cannot be stored,
the version before stays the desired one everywhere, is sent again, and the author is told who refused what, and why.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import structlog

from septum.control.arrivals import Arrival, Arrived, arrivals
from septum.control.fronts import Fronts
from septum.control.registry import Pair, Registry, cut_statements
from septum.control.state import State, StateError, Version
from septum.model.diagnostic import Diagnostic
from septum.model.mesh import Address, Mesh
from septum.model.policy import Policy
from septum.model.snapshot import Snapshot
from septum.policy.digest import slice_of
from septum.policy.load import Files, Loader
from septum.policy.quarantine import quarantined
from septum.policy.revoked import revoked
from septum.xds.fleet import Fleet
from septum.xds.types import Refusal

_log = structlog.get_logger("septum.control")
_NO_END = 1e8  # seconds
_LABELS = 16


class Outcome(StrEnum):
    """What came of an apply. SENT means just that: some node does not hold it yet."""

    HELD = "held"
    SENT = "sent"
    UNCHANGED = "unchanged"
    INVALID = "invalid"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of an apply, with how long each step took (milliseconds) and what each node made of it.

    `nodes` are all nodes of the mesh; `resources_changed` are (node, type, name) of what was sent.
    """

    outcome: Outcome
    version: str = ""
    previous: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    nodes: tuple[Arrival, ...] = ()
    resources_changed: tuple[tuple[str, str, str], ...] = ()
    milliseconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every resource that some node refused."""
        return tuple(refusal for arrival in self.nodes for refusal in arrival.refusals)


@dataclass(frozen=True, slots=True)
class _Enforced:
    """A version as nodes get it. `files` are what it was made of, `base` the policy before quarantine."""

    files: Mapping[str, bytes]
    base: Policy
    policy: Policy
    snapshots: Mapping[str, Snapshot]
    outbound: Mapping[str, Address]
    cuts: Mapping[Pair, str]

    @property
    def versions(self) -> dict[str, str]:
        """Node → the version of its snapshot."""
        return {node: snapshot.version for node, snapshot in self.snapshots.items()}


@dataclass(frozen=True, slots=True)
class _Late:
    """A version that some nodes did not hold when `apply` stopped waiting, and the one before it."""

    before: _Enforced | None
    wanted: _Enforced
    nodes: tuple[str, ...]


PickOutbound = Callable[[Mesh, Mapping[str, Address]], dict[str, Address]]


class Plane:
    """Owns what is desired. One change at a time; reading is free."""

    def __init__(
        self,
        fronts: Fronts,
        state: State,
        registry: Registry,
        fleet: Fleet,
        pick_outbound: PickOutbound,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fronts, self._state, self._registry, self._fleet = fronts, state, registry, fleet
        self._pick_outbound, self._clock = pick_outbound, clock
        self._loader = Loader()
        self._current: _Enforced | None = None
        self._lock = asyncio.Lock()
        self._late: asyncio.Queue[_Late] = asyncio.Queue()
        self._labels: dict[str, OrderedDict[str, str]] = {}

    @property
    def policy(self) -> Policy | None:
        """The policy that the nodes should hold."""
        return self._current.policy if self._current else None

    def nodes(self) -> tuple[str, ...]:
        """The nodes that should hold it, those that never joined among them."""
        return tuple(self._current.snapshots) if self._current else ()

    def mesh(self) -> Mesh | None:
        """The mesh that is enforced."""
        return self._current.policy.mesh if self._current else None

    def trust_domain(self) -> str:
        """The trust domain of the mesh, or nothing without one."""
        return self._current.policy.mesh.trust_domain if self._current else ""

    def fronted(self, node: str) -> frozenset[str]:
        """The workloads that a node fronts now."""
        return self._fronts.fronted(self._current.policy.mesh, node) if self._current else frozenset()

    def version_of(self, node: str, snapshot: str | None) -> str | None:
        """The newest policy version of which a node's snapshot is this one, as far as that is remembered."""
        labels = self._labels.get(node)
        return labels.get(snapshot) if labels and snapshot else None

    def outbound(self) -> dict[str, Address]:
        """Workload → where its outbound listener opens, on its own node."""
        if self._current is None:
            return {}
        workloads = self._current.policy.mesh.workloads
        return {name: w.outbound or self._current.outbound[name] for name, w in workloads.items()}

    def restore(self) -> bool:
        """Take up the version that was enforced before; False when there is none. Raises ValueError for a bad one."""
        version = self._state.enforced()
        if version is None:
            return False
        base = self._loader.load(version.files).policy
        if base is None:
            first = self._loader.load(version.files).errors[0].message
            raise ValueError(f"the stored version {version.digest[:12]} is not valid any more: {first}")
        policy = quarantined(base, version.quarantined)
        self._current = self._compiled(version.files, base, policy, self._registry.cuts())
        self._publish(self._current)
        return True

    async def apply(self, files: Files, author: str, patience: float = 5.0) -> Applied:
        """Check, compile, send, and wait until every node holds it or `patience` seconds have passed.

        Raises StateError when the version cannot be stored; then the one before is enforced.
        """
        async with self._lock:
            started = time.perf_counter()
            loaded = self._loader.load(files)
            read = time.perf_counter()
            if loaded.policy is None:
                return Applied(Outcome.INVALID, diagnostics=loaded.diagnostics)
            contents = {path: content for path, content in files.items() if isinstance(content, bytes)}
            wanted = self._wanted(contents, loaded.policy)
            times = {"check": (read - started) * 1e3, "compile": (time.perf_counter() - read) * 1e3}
            return await self._change(wanted, author, patience, times, loaded.diagnostics)

    async def refresh(self, author: str, patience: float = 5.0, cut: frozenset[Pair] = frozenset()) -> Applied:
        """Enforce the same files again, after what stands beside them changed: quarantine, nodes, what is trusted.

        Live calls of the pairs in `cut` end. Raises StateError as `apply` does.
        """
        async with self._lock:
            if self._current is None:
                return Applied(Outcome.INVALID)
            started = time.perf_counter()
            wanted = self._wanted(self._current.files, self._current.base, cut)
            times = {"check": 0.0, "compile": (time.perf_counter() - started) * 1e3}
            if _same(self._current, wanted):
                # Nothing is published, and who watches the nodes that are away goes on: so joins of many cost little.
                return await self._standing(wanted, patience, times)
            return await self._change(wanted, author, patience, times, ())

    def _wanted(self, files: Mapping[str, bytes], base: Policy, cut: frozenset[Pair] = frozenset()) -> _Enforced:
        """A version, with the live calls cut that it takes away."""
        policy = quarantined(base, self._registry.quarantined(self._clock()))
        cuts: Mapping[Pair, str] = {}
        if self._current is not None:
            gone = revoked(self._current.policy, policy) | cut
            kept = self._current.cuts
            if policy.mesh is not self._current.policy.mesh:
                kept = _of(policy.mesh, kept)
                gone = frozenset(_of(policy.mesh, dict.fromkeys(gone, "")))
            # A number that never comes back: the same policy may be revoked, given and revoked again.
            token = f"{int(self._clock() * 1000):x}"
            cuts = {**kept, **dict.fromkeys(gone, token)} if gone else kept
        return self._compiled(files, base, policy, cuts)

    async def _change(
        self,
        wanted: _Enforced,
        author: str,
        patience: float,
        times: dict[str, float],
        diagnostics: tuple[Diagnostic, ...],
    ) -> Applied:
        before = self._current
        previous = before.policy.version if before else ""
        started = time.perf_counter()
        arrived = tuple(_blamed(arrival, before) for arrival in await self._arrived(wanted, patience))
        times["held"] = (time.perf_counter() - started) * 1e3
        changed = _changed(before, wanted)
        made = Applied(Outcome.HELD, wanted.policy.version, previous, diagnostics, arrived, changed, times)
        if any(arrival.arrived is Arrived.REFUSED for arrival in arrived):
            await self._revert(before, patience)
            return replace(made, outcome=Outcome.REJECTED)
        if wanted.policy.version != previous or (before and wanted.cuts is not before.cuts):
            try:
                self._store(wanted, before, author)
            except StateError:
                await self._revert(before, patience)
                raise
        self._current = wanted
        missing = tuple(arrival.node for arrival in arrived if arrival.arrived is Arrived.MISSING)
        if missing:
            self._late.put_nowait(_Late(before, wanted, missing))
            return replace(made, outcome=Outcome.SENT)
        return made if changed or wanted.policy.version != previous else replace(made, outcome=Outcome.UNCHANGED)

    async def _standing(self, wanted: _Enforced, patience: float, times: Mapping[str, float]) -> Applied:
        """What has become of a version by now."""
        version, since = wanted.policy.version, self._fleet.now()
        arrived = arrivals(await self._fleet.arrivals(wanted.versions, patience), since)
        away = any(arrival.arrived is not Arrived.HELD for arrival in arrived)
        outcome = Outcome.SENT if away else Outcome.UNCHANGED
        return Applied(outcome, version, version, nodes=arrived, milliseconds=times)

    async def run(self) -> None:
        """Take back what a node refuses after `apply` has stopped waiting, for as long as the plane lives."""
        async with asyncio.TaskGroup() as group:
            watching: asyncio.Task[None] | None = None
            while True:
                late = await self._late.get()
                if watching:
                    watching.cancel()  # a newer version is desired: what becomes of the older one says nothing
                watching = group.create_task(self._watch(late))

    async def _watch(self, late: _Late) -> None:
        """Wait for the nodes that were away: each may refuse at any time, and none need come back at all."""
        waits = {asyncio.create_task(self._fate(node, late.wanted)) for node in late.nodes}
        try:
            while waits:
                done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                fates = [_blamed(task.result(), late.before) for task in done]
                refused = [fate for fate in fates if fate.arrived is Arrived.REFUSED]
                if refused and late.before is not None:
                    await self._take_back(late.before, late.wanted, refused)
                    return
        finally:
            for task in waits:
                task.cancel()

    async def _fate(self, node: str, wanted: _Enforced) -> Arrival:
        (fate,) = arrivals(await self._fleet.arrivals({node: wanted.snapshots[node].version}, _NO_END), 0.0)
        return fate

    async def _take_back(self, before: _Enforced, wanted: _Enforced, refused: list[Arrival]) -> None:
        async with self._lock:
            if self._current is not wanted:
                return
            if wanted.policy.version != before.policy.version:
                self._state.take_back(wanted.policy.version)
            self._current = before
            self._publish(before)
        reasons = {arrival.node: arrival.why for arrival in refused}
        _log.error("a version was refused after it was sent; the one before is enforced", reasons=reasons)

    def _store(self, wanted: _Enforced, before: _Enforced | None, author: str) -> None:
        policy = wanted.policy
        slices = {name: slice_of(policy, name) for name in policy.mesh.targets}
        version = Version(0, policy.version, self._clock(), author, wanted.files, slices, policy.quarantined)
        old = before.cuts if before else {}
        new = {pair: token for pair, token in wanted.cuts.items() if old.get(pair) != token}
        self._state.enforce(version, cut_statements(new, wanted.cuts) if new else ())

    async def _arrived(self, wanted: _Enforced, patience: float) -> tuple[Arrival, ...]:
        sent = self._fleet.now()
        self._publish(wanted)
        return arrivals(await self._fleet.arrivals(wanted.versions, patience), sent)

    def _publish(self, wanted: _Enforced) -> None:
        for node in self._fleet.nodes():
            if node not in wanted.snapshots:
                self._fleet.forget(node)
        for node, snapshot in wanted.snapshots.items():
            self._label(node, snapshot.version, wanted.policy.version)
            self._fleet.publish(node, snapshot)

    def _label(self, node: str, snapshot: str, version: str) -> None:
        """Remember which version a snapshot is of. One that a change leaves as it is, is of both versions."""
        labels = self._labels.setdefault(node, OrderedDict())
        labels[snapshot] = version
        labels.move_to_end(snapshot)
        while len(labels) > _LABELS:
            labels.popitem(last=False)

    async def _revert(self, before: _Enforced | None, patience: float) -> None:
        """Send the version before again: Envoy may have applied the good part of what it refused."""
        if before is not None:
            await self._arrived(before, patience)

    async def ready(self, patience: float, only: str | None = None) -> tuple[Arrival, ...]:
        """Wait until every node (or one) holds what it should, refuses it, or `patience` seconds have passed."""
        if self._current is None:
            return ()
        snapshots = self._current.snapshots.items()
        versions = {node: snapshot.version for node, snapshot in snapshots if only in (None, node)}
        return arrivals(await self._fleet.arrivals(versions, patience), self._fleet.now())

    def _compiled(
        self, files: Mapping[str, bytes], base: Policy, policy: Policy, cuts: Mapping[Pair, str]
    ) -> _Enforced:
        current = self._current
        same = current is not None and policy.mesh is current.policy.mesh
        outbound = current.outbound if current is not None and same else self._placed(policy.mesh)
        snapshots = self._fronts.snapshots(policy, outbound, cuts)
        return _Enforced(files, base, policy, snapshots, outbound, cuts)

    def _placed(self, mesh: Mesh) -> Mapping[str, Address]:
        """An outbound address for every workload that has none of its own: the one it had, if it can be."""
        kept = {name: Address.parse(text) for name, text in self._state.outbound().items()}
        picked = self._pick_outbound(mesh, kept)
        for name, address in picked.items():
            if kept.get(name) != address:
                self._state.set_outbound(name, str(address))
        return picked


def _of(mesh: Mesh, cuts: Mapping[Pair, str]) -> dict[Pair, str]:
    """The cuts of callers that the mesh has; one that is gone has no listener and no chain left, and so no call.

    A target that is gone keeps its cuts: by them the calls end that its callers still have open.
    """
    return {pair: cut for pair, cut in cuts.items() if pair[0] in mesh.workloads}


def _blamed(arrival: Arrival, before: _Enforced | None) -> Arrival:
    """The arrival; what a node refuses that was the same in the version before is not this version's fault.

    Going back would not help, and a node with a port in use must not hold up every change of the mesh.
    """
    snapshot = before.snapshots.get(arrival.node) if before else None
    if arrival.arrived is not Arrived.REFUSED or snapshot is None:
        return arrival
    for refusal in arrival.refusals:
        known = snapshot.of(refusal.type_url).get(refusal.name)
        if known is None or known.version != refusal.version:
            return arrival
    return replace(arrival, arrived=Arrived.MISSING, why=f"refused as before: {arrival.why}")


def _same(before: _Enforced, after: _Enforced) -> bool:
    """Whether there is nothing to publish or to store."""
    if before.policy.version != after.policy.version or before.cuts is not after.cuts:
        return False
    old, new = before.snapshots, after.snapshots
    return old.keys() == new.keys() and all(old[node] is snapshot for node, snapshot in new.items())


def _changed(before: _Enforced | None, after: _Enforced) -> tuple[tuple[str, str, str], ...]:
    """Node, type and name of every resource that differs between two versions."""
    changed: list[tuple[str, str, str]] = []
    for node, snapshot in after.snapshots.items():
        old = before.snapshots.get(node) if before else None
        if old is not snapshot:
            changed += [(node, *key) for key in _differing(old, snapshot)]
    return tuple(changed)


def _differing(before: Snapshot | None, after: Snapshot) -> list[tuple[str, str]]:
    types = after.resources.keys() | (before.resources.keys() if before else set())
    found: list[tuple[str, str]] = []
    for type_url in sorted(types):
        old, new = (before.of(type_url) if before else {}), after.of(type_url)
        if old is not new:
            names = sorted(old.keys() | new.keys())
            found += [(type_url, name) for name in names if old.get(name) != new.get(name)]
    return found
