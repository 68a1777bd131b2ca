"""A version as nodes get it, and what tells two of them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from septum.control.arrivals import Arrival, Arrived
from septum.control.candidates import Beside, Proposed
from septum.control.registry import Pair
from septum.model.mesh import Address, Mesh
from septum.model.policy import Policy
from septum.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Enforced:
    """A version as nodes get it. `files` are what it was made of, `base` the policy before quarantine.

    `beside` is the candidate that is asked beside it.
    """

    files: Mapping[str, bytes]
    base: Policy
    policy: Policy
    snapshots: Mapping[str, Snapshot]
    outbound: Mapping[str, Address]
    cuts: Mapping[Pair, str]
    beside: Beside | None = None

    @property
    def proposed(self) -> Proposed | None:
        """The candidate as it was proposed."""
        return self.beside.proposed if self.beside else None

    @property
    def versions(self) -> dict[str, str]:
        """Node → the version of its snapshot."""
        return {node: snapshot.version for node, snapshot in self.snapshots.items()}


def cuts_in(mesh: Mesh, cuts: Mapping[Pair, str]) -> dict[Pair, str]:
    """The cuts of callers that the mesh has; one that is gone has no listener and no chain left, and so no call.

    A target that is gone keeps its cuts: by them the calls end that its callers still have open.
    """
    return {pair: cut for pair, cut in cuts.items() if pair[0] in mesh.workloads}


def blamed(arrival: Arrival, before: Enforced | None) -> Arrival:
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


def same(before: Enforced, after: Enforced) -> bool:
    """Whether there is nothing to publish or to store."""
    if before.policy.version != after.policy.version or before.cuts is not after.cuts:
        return False
    old, new = before.snapshots, after.snapshots
    return old.keys() == new.keys() and all(old[node] is snapshot for node, snapshot in new.items())


def changed_resources(before: Enforced | None, after: Enforced) -> tuple[tuple[str, str, str], ...]:
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


def newly_cut(before: Enforced | None, after: Enforced) -> dict[Pair, str]:
    """The pairs that a version takes something away from, with what their live calls are cut with."""
    old = before.cuts if before else {}
    return {} if after.cuts is old else {pair: cut for pair, cut in after.cuts.items() if old.get(pair) != cut}
