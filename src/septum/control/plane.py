"""The control plane of one mesh: files in, what each node should hold out, and what came of it.

A version becomes the enforced one when every node holds it that is there. When one refuses it, or it cannot be stored,
the version before stays the desired one everywhere, is sent again, and the author is told who refused what, and why.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from septum.control.applied import PLAIN, Applied, Outcome, Terms
from septum.control.archive import Archive
from septum.control.arrivals import Arrival, Arrived, arrivals, why_refused
from septum.control.candidates import Beside, Candidates
from septum.control.enforced import Enforced, blamed, changed_resources, cuts_in, newly_cut, same
from septum.control.fronts import Fronts
from septum.control.guard import Lockout, Probes
from septum.control.registry import Pair, Registry, cut_statements
from septum.control.state import State, StateError, Version
from septum.model.diagnostic import Diagnostic, Severity
from septum.model.mesh import Address, Mesh
from septum.model.policy import Policy
from septum.policy.load import Files, Loader
from septum.policy.quarantine import quarantined
from septum.policy.revoked import revoked
from septum.verify import guarantee
from septum.xds.fleet import Fleet

_log = structlog.get_logger("septum.control")
_NO_END = 1e8  # seconds
_LABELS = 16


@dataclass(frozen=True, slots=True)
class _Late:
    """A version that some nodes did not hold when `apply` stopped waiting, and the one before it.

    `stored` is how it stands in the state, if it had to be stored.
    """

    before: Enforced | None
    wanted: Enforced
    nodes: tuple[str, ...]
    stored: Version | None


PickOutbound = Callable[[Mesh, Mapping[str, Address]], dict[str, Address]]


class Plane:
    """Owns what is desired. One change at a time; reading is free.

    `archive` keeps the versions, and `probes` know what a change must not lock out.
    """

    def __init__(
        self,
        fronts: Fronts,
        state: State,
        registry: Registry,
        fleet: Fleet,
        pick_outbound: PickOutbound,
        archive: Archive,
        probes: Probes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fronts, self._state, self._registry, self._fleet = fronts, state, registry, fleet
        self._archive, self._probes, self._candidates = archive, probes, Candidates(state)
        self._pick_outbound, self._clock = pick_outbound, clock
        self._loader = Loader()
        self._current: Enforced | None = None
        self._lock = asyncio.Lock()
        self._late: asyncio.Queue[_Late] = asyncio.Queue()
        self._labels: dict[str, OrderedDict[str, str]] = {}
        # Until when the live calls of grants that ended were ended too: nobody has them to lose any more.
        self.ended: float | None = None

    @property
    def policy(self) -> Policy | None:
        """The policy that the nodes should hold."""
        return self._current.policy if self._current else None

    @property
    def stored(self) -> Version | None:
        """The enforced version as it is stored."""
        return self._archive.enforced

    @property
    def unused(self) -> str:
        """Why what is stored is not enforced, if it is not: then the nodes keep what they hold."""
        return self._archive.unused

    @property
    def base(self) -> Policy | None:
        """The policy of the enforced files, quarantine aside."""
        return self._current.base if self._current else None

    @property
    def beside(self) -> Beside | None:
        """The candidate that the nodes should ask beside it."""
        return self._current.beside if self._current else None

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
        """Take up the version that was enforced before; False when there is none.

        Raises ValueError for one that is not valid any more, and BadSignature or UnreadableVersion for one that is not
        what was stored: then nothing is published, and the nodes go on with what they hold.
        """
        version = self._archive.take_up()
        if version is None:
            return False
        base = self._loader.load(version.files).policy
        if base is None:
            first = self._loader.load(version.files).errors[0].message
            raise ValueError(f"the stored version {version.digest[:12]} is not valid any more: {first}")
        policy = quarantined(base, version.quarantined)
        beside = self._kept_beside()
        self._current = self._compiled(version.files, base, policy, self._registry.cuts(), beside)
        self._archive.enforced = version
        self._publish(self._current)
        return True

    async def apply(self, files: Files, author: str, patience: float = 5.0, terms: Terms = PLAIN) -> Applied:
        """Check, compile, send, and wait until every node holds it or `patience` seconds have passed.

        Raises StateError when the version cannot be stored; then the one before is enforced.
        """
        async with self._lock:
            started = time.perf_counter()
            version = self._current.policy.version if self._current else ""
            if terms.base not in (None, version):
                return Applied(Outcome.MOVED, previous=version)
            loaded = self._loader.load(files)
            if loaded.policy is None:
                return Applied(Outcome.INVALID, previous=version, diagnostics=loaded.diagnostics)
            found = (*loaded.diagnostics, *await self._broken(loaded.policy, terms))
            if any(one.severity is Severity.ERROR for one in found):
                return Applied(Outcome.INVALID, previous=version, diagnostics=found)
            if self._is_held_up(loaded.policy, terms):
                confirm_by = self.stored.confirm_by if self.stored else None
                return Applied(Outcome.AWAITS, loaded.policy.version, version, confirm_by=confirm_by)
            read = time.perf_counter()
            contents = {path: content for path, content in files.items() if isinstance(content, bytes)}
            wanted = self._wanted(contents, loaded.policy)
            lockouts = await self._lockouts(wanted, terms)
            if lockouts:
                return Applied(Outcome.LOCKOUT, wanted.policy.version, version, found, lockouts=lockouts)
            times = {"check": (read - started) * 1e3, "compile": (time.perf_counter() - read) * 1e3}
            note = self._archive.note(author, terms)
            applied = await self._change(wanted, note, patience, times, found)
            if applied.outcome is Outcome.REJECTED and not terms.unconditional:
                self._archive.refuse(note, wanted.policy, contents, why_refused(applied.nodes))
            return applied

    async def rollback(self, to: Version, author: str, patience: float = 5.0, terms: Terms = PLAIN) -> Applied:
        """Enforce the files of an earlier version again; who is in quarantine stays there.

        Raises BadSignature when they are not what was stored, and StateError as `apply` does.
        """
        self._archive.expect(to)
        return await self.apply(to.files, author, patience, replace(terms, restores=to.place, supersede=True))

    async def confirm(self, author: str, digest: str = "") -> Version:
        """Let the enforced version stay. `digest`, if there is one, has to be its own or begin it.

        Raises NothingAwaits, and StateError when it cannot be stored; then it is still to be confirmed.
        """
        async with self._lock:
            return self._archive.confirm(author, digest)

    def _is_held_up(self, base: Policy, terms: Terms) -> bool:
        """Whether another version awaits its confirmation, which the change does not mean to replace."""
        awaits = self.stored is not None and self.stored.awaits and not terms.supersede
        return awaits and self._current is not None and base.version != self._current.base.version

    async def _broken(self, policy: Policy, terms: Terms) -> tuple[Diagnostic, ...]:
        """What there is to say of the policy's guarantees, whoever is in quarantine."""
        if terms.unconditional or not policy.guarantees:
            return ()
        return await asyncio.to_thread(guarantee.findings, policy, self._clock())

    async def _lockouts(self, wanted: Enforced, terms: Terms) -> tuple[Lockout, ...]:
        before = self._current
        if before is None or wanted.cuts is before.cuts or terms.allow_lockout or terms.unconditional:
            return ()
        return await self._probes.lockouts(before.policy, wanted.policy, frozenset(newly_cut(before, wanted)))

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
            if same(self._current, wanted):
                # Nothing is published, and who watches the nodes that are away goes on: so joins of many cost little.
                return await self._standing(wanted, patience, times)
            return await self._change(wanted, self._archive.continued(author), patience, times, ())

    async def shadow(self, beside: Beside | None, author: str, patience: float = 5.0) -> Applied:
        """Ask a candidate beside what is enforced, in place of the one before; None asks none any more.

        Nothing that is enforced changes. A candidate that a node refuses is taken back as a version is, and so is one
        that cannot be stored: StateError then.
        """
        async with self._lock:
            current = self._current
            if current is None:
                return Applied(Outcome.INVALID)
            started = time.perf_counter()
            wanted = self._compiled(current.files, current.base, current.policy, current.cuts, beside)
            times = {"check": 0.0, "compile": (time.perf_counter() - started) * 1e3}
            return await self._change(wanted, self._archive.continued(author), patience, times, ())

    def _kept_beside(self) -> Beside | None:
        """The candidate that was asked before. One that is not valid any more is said, and not asked."""
        proposed = self._candidates.kept()
        if proposed is None:
            return None
        loaded = Loader().load(proposed.files)
        if loaded.policy is None or loaded.policy.version != proposed.version:
            reason = loaded.errors[0].message if loaded.errors else "its files are not what was proposed"
            _log.error("the stored candidate is not valid any more; it is not asked", reason=reason)
            return None
        return Beside.of(proposed, loaded.policy)

    def _wanted(self, files: Mapping[str, bytes], base: Policy, cut: frozenset[Pair] = frozenset()) -> Enforced:
        """A version, with the live calls cut that it takes away."""
        policy = quarantined(base, self._registry.quarantined(self._clock()))
        cuts: Mapping[Pair, str] = {}
        if self._current is not None:
            gone = revoked(self._current.policy, policy, self.ended) | cut
            kept = self._current.cuts
            if policy.mesh is not self._current.policy.mesh:
                kept = cuts_in(policy.mesh, kept)
                gone = frozenset(cuts_in(policy.mesh, dict.fromkeys(gone, "")))
            # A number that never comes back: the same policy may be revoked, given and revoked again.
            token = f"{int(self._clock() * 1000):x}"
            cuts = {**kept, **dict.fromkeys(gone, token)} if gone else kept
        return self._compiled(files, base, policy, cuts, self.beside)

    async def _change(
        self,
        wanted: Enforced,
        note: Version,
        patience: float,
        times: dict[str, float],
        diagnostics: tuple[Diagnostic, ...],
    ) -> Applied:
        before = self._current
        previous = before.policy.version if before else ""
        started = time.perf_counter()
        arrived = tuple(blamed(arrival, before) for arrival in await self._arrived(wanted, patience))
        times["held"] = (time.perf_counter() - started) * 1e3
        changed = changed_resources(before, wanted)
        made = Applied(Outcome.HELD, wanted.policy.version, previous, diagnostics, arrived, changed, times)
        if any(arrival.arrived is Arrived.REFUSED for arrival in arrived):
            await self._revert(before, patience)
            return replace(made, outcome=Outcome.REJECTED)
        stored = None
        try:
            if wanted.policy.version != previous or (before and wanted.cuts is not before.cuts):
                stored = self._store(wanted, before, note)
                made = replace(made, number=stored.number, confirm_by=stored.confirm_by)
            if before and wanted.proposed is not before.proposed:
                self._candidates.keep(wanted.proposed)
        except StateError:
            await self._revert(before, patience)
            raise
        self._current = wanted
        missing = tuple(arrival.node for arrival in arrived if arrival.arrived is Arrived.MISSING)
        if missing:
            self._late.put_nowait(_Late(before, wanted, missing, stored))
            return replace(made, outcome=Outcome.SENT)
        return made if changed or wanted.policy.version != previous else replace(made, outcome=Outcome.UNCHANGED)

    async def _standing(self, wanted: Enforced, patience: float, times: Mapping[str, float]) -> Applied:
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
                fates = [blamed(task.result(), late.before) for task in done]
                refused = [fate for fate in fates if fate.arrived is Arrived.REFUSED]
                if refused and late.before is not None:
                    await self._take_back(late, late.before, refused)
                    return
        finally:
            for task in waits:
                task.cancel()

    async def _fate(self, node: str, wanted: Enforced) -> Arrival:
        (fate,) = arrivals(await self._fleet.arrivals({node: wanted.snapshots[node].version}, _NO_END), 0.0)
        return fate

    async def _take_back(self, late: _Late, before: Enforced, refused: list[Arrival]) -> None:
        async with self._lock:
            if self._current is not late.wanted:
                return
            if late.stored is not None:
                self._archive.take_back(late.stored, why_refused(refused))
            if late.wanted.proposed is not before.proposed:
                self._candidates.keep(before.proposed)
            self._current = before
            self._publish(before)
        reasons = {arrival.node: arrival.why for arrival in refused}
        _log.error("a version was refused after it was sent; the one before is enforced", reasons=reasons)

    def _store(self, wanted: Enforced, before: Enforced | None, note: Version) -> Version:
        new = newly_cut(before, wanted)
        also = cut_statements(new, wanted.cuts) if new else ()
        return self._archive.keep(note, wanted.policy, wanted.files, also)

    async def _arrived(self, wanted: Enforced, patience: float) -> tuple[Arrival, ...]:
        sent = self._fleet.now()
        self._publish(wanted)
        return arrivals(await self._fleet.arrivals(wanted.versions, patience), sent)

    def _publish(self, wanted: Enforced) -> None:
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

    async def _revert(self, before: Enforced | None, patience: float) -> None:
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
        self,
        files: Mapping[str, bytes],
        base: Policy,
        policy: Policy,
        cuts: Mapping[Pair, str],
        beside: Beside | None,
    ) -> Enforced:
        current = self._current
        same = current is not None and policy.mesh is current.policy.mesh
        outbound = current.outbound if current is not None and same else self._placed(policy.mesh)
        beside = beside and beside.under(policy.quarantined)
        snapshots = self._fronts.snapshots(policy, outbound, cuts, beside.candidate if beside else None)
        return Enforced(files, base, policy, snapshots, outbound, cuts, beside)

    def _placed(self, mesh: Mesh) -> Mapping[str, Address]:
        """An outbound address for every workload that has none of its own: the one it had, if it can be."""
        kept = {name: Address.parse(text) for name, text in self._state.outbound().items()}
        picked = self._pick_outbound(mesh, kept)
        for name, address in picked.items():
            if kept.get(name) != address:
                self._state.set_outbound(name, str(address))
        return picked
