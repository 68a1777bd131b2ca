"""What one node holds, in pieces: resources that are made of the same inputs, and are made again when these differ.

A piece for each workload that the node fronts, as a target and as a caller; one for each target on another node and
for each place outside that its callers may reach; and, in a mesh of many nodes, one for the inbound listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from septum.envoy import cluster, forward, gate, inbound, jwt, listener, names, outside, route, secret
from septum.envoy.forward import Way
from septum.envoy.http_connection import Terms, terms
from septum.envoy.reach import Reach, shut
from septum.envoy.secret import Trusted
from septum.model.mesh import Address, External, Mesh, Workload
from septum.model.policy import Policy
from septum.model.resource_types import CLUSTER, LISTENER, ROUTE, SCOPE, SECRET

# Caller and target.
Pair = tuple[str, str]
# Type, name and message of a resource.
Part = tuple[str, str, Any]


@dataclass(frozen=True)
class Front:
    """What the compiler is told of one node.

    Its name, the workloads that it fronts, where their outbound listeners open, and the file to which its Envoy writes
    decisions. `cuts` has a token for each pair of a caller and a target whose live calls had to end; when a pair's
    token changes, its live calls end. No token is the same as an empty one.
    """

    node: str
    workloads: tuple[str, ...]
    outbound: Mapping[str, Address]
    decisions: str
    cuts: Mapping[Pair, str] = field(default_factory=dict)
    trust: Trusted | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a node's resources.

    `key` is all that they are made of, `written` the addresses in them that the author of the mesh chose. `everywhere`:
    nothing of the node is in them, so that each node that has the piece has the same.
    """

    name: str
    key: object
    parts: Callable[[], Iterator[Part]]
    written: frozenset[Address] = frozenset()
    everywhere: bool = False


def pieces(policy: Policy, front: Front, reach: Reach) -> Iterator[Piece]:
    """Every piece of a node, in an order that depends on nothing else."""
    here = _Here(policy, front, reach, terms(policy.mesh, front.decisions))
    for name in front.workloads:
        yield here.fronted(policy.mesh.workloads[name])
    for name in here.reached():
        yield from here.onward(policy.mesh.workloads[name])
    for place in here.places():
        yield here.outward(place)
    if policy.mesh.nodes and front.workloads:
        yield here.inbound()
    if front.trust is not None:
        yield Piece("trust", front.trust, partial(_trust, front.trust), everywhere=True)
    if policy.mesh.issuers:
        yield Piece("keys", policy.mesh.issuers, partial(_keys, policy.mesh))


@dataclass(frozen=True, slots=True)
class _Here:
    """A node under a policy."""

    policy: Policy
    front: Front
    reach: Reach
    terms: Terms

    @property
    def mesh(self) -> Mesh:
        return self.policy.mesh

    def fronted(self, workload: Workload) -> Piece:
        """A workload of this node, as a target and as a caller."""
        name, mesh = workload.name, self.mesh
        address = workload.outbound or self.front.outbound[name]
        quarantined, cut = shut(self.policy, name), self._cut(self._ends_here(name))
        dialled = tuple(mesh.targets[target] for target in workload.dials)
        inputs = (workload, self.policy.rules_to[name], mesh.mode(workload), quarantined, address, cut, dialled)
        make = partial(_fronted, self.policy, workload, address, quarantined, self.terms, cut)
        written = frozenset(filter(None, (workload.outbound, *workload.dials.values())))
        return Piece(f"fronted/{name}", (*inputs, *self._around(workload)), make, written)

    def reached(self) -> list[str]:
        """The targets on other nodes that a caller of this one may reach."""
        return sorted(name for name in self._reachable() if name in self.mesh.workloads and self._elsewhere(name))

    def places(self) -> list[External]:
        """The places outside that a caller of this node may reach."""
        external = self.mesh.external or {}
        return [external[name] for name in sorted(self._reachable() & external.keys())] if self.front.workloads else []

    def _reachable(self) -> frozenset[str]:
        return self.reach.observed.union(*(self.reach.targets[caller] for caller in self.front.workloads))

    def onward(self, target: Workload) -> Iterator[Piece]:
        """The way to a target on another node: its names, the connections, and who may use them, which changes most."""
        paired = self.reach.callers[target.name]
        observed = target.name in self.reach.observed
        ways = tuple(Way(name, name in paired) for name in self.front.workloads if observed or name in paired)
        quarantined = self.policy.quarantined & {target.name, *(way.caller for way in ways)}
        mesh, name, around = self.mesh, target.name, self._around(target)
        yield Piece(f"named/{name}", (target, mesh.trust_domain), partial(_named, mesh, target), everywhere=True)
        yield Piece(f"onward/{name}", (target, ways, *around), partial(_onward, mesh, target, ways))
        routed = partial(_routed, mesh, target, ways, quarantined)
        yield Piece(f"routed/{name}", (target, observed, ways, quarantined, *around), routed)

    def outward(self, place: External) -> Piece:
        """The way to a place outside, and what of it is open."""
        paired, observed = self.reach.callers[place.name], place.name in self.reach.observed
        callers = tuple(name for name in self.front.workloads if observed or name in paired)
        quarantined = shut(self.policy, place.name)
        inputs = (place, self.policy.rules_to[place.name], callers, quarantined, self.mesh.trust_domain, self.terms)
        make = partial(_outward, self.policy, place, callers, quarantined, self.terms)
        return Piece(f"outward/{place.name}", inputs, make)

    def inbound(self) -> Piece:
        """The listener for calls from elsewhere."""
        doors = tuple(
            inbound.Door(target, self._cut(_to(target)), self._pairs(target)) for target in self.front.workloads
        )
        address = self.mesh.nodes[self.front.node].inbound
        make = partial(_inbound, self.mesh, address, doors, self.terms)
        return Piece(names.INBOUND, (address, doors, self.terms, self.mesh.trust_domain), make)

    def _around(self, workload: Workload) -> tuple[object, ...]:
        return self.mesh.trust_domain, self.mesh.nodes.get(workload.node), self.terms

    def _elsewhere(self, name: str) -> bool:
        """Whether a workload is fronted by another node. One that this node may not front yet is nowhere."""
        node = self.mesh.workloads[name].node
        return node in self.mesh.nodes and node != self.front.node

    def _pairs(self, target: str) -> tuple[tuple[str, str], ...]:
        """The callers on other nodes that a rule names for the target, each with its cut."""
        callers = sorted(name for name in self.reach.callers[target] if self._elsewhere(name))
        return tuple((name, self.front.cuts.get((name, target), "")) for name in callers)

    def _ends_here(self, caller: str) -> Callable[[Pair], bool]:
        """Whether calls of a pair end on this node, by the caller's own listeners."""

        def ends(pair: Pair) -> bool:
            return pair[0] == caller and not (pair[1] in self.mesh.workloads and self._elsewhere(pair[1]))

        return ends

    def _cut(self, concerns: Callable[[Pair], bool]) -> str:
        """One token for those of several pairs; empty when no pair has one."""
        cuts = sorted((*pair, token) for pair, token in self.front.cuts.items() if token and concerns(pair))
        return sha256(repr(cuts).encode()).hexdigest()[:16] if cuts else ""


def _to(target: str) -> Callable[[Pair], bool]:
    return lambda pair: pair[1] == target


def _fronted(
    policy: Policy, workload: Workload, address: Address, quarantined: frozenset[str], terms: Terms, cut: str
) -> Iterator[Part]:
    mesh, name = policy.mesh, workload.name
    yield CLUSTER, name, cluster.workload_cluster(workload)
    yield ROUTE, name, route.route_configuration(policy, workload, quarantined)
    for authority in mesh.authorities(workload):
        yield SCOPE, authority, route.scope(authority, name)
    yield LISTENER, names.outbound(name), listener.outbound_listener(mesh, workload, address, terms, cut)
    yield LISTENER, names.inside(name), listener.inside_listener(mesh, workload, terms, cut)
    yield CLUSTER, names.inside(name), cluster.inside_cluster(name)
    for target, at in ((mesh.targets[dialled], at) for dialled, at in workload.dials.items()):
        yield LISTENER, names.dial(name, target.name), listener.dial_listener(workload, target, at)


def _named(mesh: Mesh, target: Workload) -> Iterator[Part]:
    for authority in mesh.names(target):
        yield SCOPE, authority, route.scope(authority, target.name)


def _onward(mesh: Mesh, target: Workload, ways: tuple[Way, ...]) -> Iterator[Part]:
    at = mesh.nodes[target.node].inbound
    for way in ways:
        yield CLUSTER, names.forward(way.caller, target.name), forward.forward_cluster(mesh, way, target, at)


def _routed(mesh: Mesh, target: Workload, ways: tuple[Way, ...], quarantined: frozenset[str]) -> Iterator[Part]:
    yield ROUTE, target.name, forward.forward_routes(mesh, target, ways, quarantined)


def _outward(
    policy: Policy, place: External, callers: tuple[str, ...], quarantined: frozenset[str], terms: Terms
) -> Iterator[Part]:
    made = outside.place_cluster(place)
    yield CLUSTER, made.name, made
    for caller in callers if place.sni else ():
        name = names.gate(caller, place.name)
        yield CLUSTER, name, gate.gate_cluster(caller, place)
        yield LISTENER, name, gate.gate_listener(policy.mesh, caller, place, terms.decisions)
    yield ROUTE, place.name, outside.place_routes(policy, place, callers, quarantined)
    for authority in policy.mesh.names(place):
        yield SCOPE, authority, route.scope(authority, place.name)


def _inbound(mesh: Mesh, address: Address, doors: tuple[inbound.Door, ...], terms: Terms) -> Iterator[Part]:
    yield LISTENER, names.INBOUND, inbound.inbound_listener(mesh, address, doors, terms)


def _trust(trusted: Trusted) -> Iterator[Part]:
    made = secret.trust(trusted)
    yield SECRET, made.name, made


def _keys(mesh: Mesh) -> Iterator[Part]:
    for name, made in jwt.clusters(mesh):
        yield CLUSTER, name, made
