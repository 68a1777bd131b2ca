"""What one node holds, in pieces: resources that are made of the same inputs, and are made again when these differ.

A piece for each workload that the node fronts, as a target and as a caller; one for each target on another node and
for each place outside that its callers may reach; and, in a mesh of many nodes, one for the inbound listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from typing import Any

from septum.envoy import cluster, forward, gate, inbound, jwt, listener, names, outside, route, secret
from septum.envoy.forward import Way
from septum.envoy.http_connection import Terms, terms
from septum.envoy.reach import Reach, shut
from septum.envoy.secret import Trusted
from septum.envoy.shadow import Candidate, Shadow
from septum.model.mesh import Address, External, Mesh, Target, Workload
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
    token changes, its live calls end. No token is the same as an empty one. A `candidate` changes routes alone.
    """

    node: str
    workloads: tuple[str, ...]
    outbound: Mapping[str, Address]
    decisions: str
    cuts: Mapping[Pair, str] = field(default_factory=dict)
    trust: Trusted | None = None
    candidate: Candidate | None = None


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
        yield here.served(policy.mesh.workloads[name])
        yield here.calling(policy.mesh.workloads[name])
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


@dataclass(frozen=True)
class _Here:
    """A node under a policy."""

    policy: Policy
    front: Front
    reach: Reach
    terms: Terms

    @property
    def mesh(self) -> Mesh:
        return self.policy.mesh

    def served(self, workload: Workload) -> Piece:
        """A workload of this node as a target."""
        name, quarantined = workload.name, shut(self.policy, workload.name)
        shadow = self._shadow(workload)
        inputs = (workload, self.policy.rules_to[name], self.mesh.mode(workload), quarantined, shadow)
        make = partial(_served, self.policy, workload, quarantined, shadow)
        return Piece(f"served/{name}", (*inputs, *self._around(workload)), make)

    def calling(self, workload: Workload) -> Piece:
        """A workload of this node as a caller. Rules play no part."""
        name, mesh = workload.name, self.mesh
        address, cut = workload.outbound or self.front.outbound[name], self._ended_here.get(name, "")
        dialled = tuple(mesh.targets[target] for target in workload.dials)
        make = partial(_calling, mesh, workload, address, self.terms, cut)
        written = frozenset(filter(None, (workload.outbound, *workload.dials.values())))
        inputs = (workload, address, cut, dialled, *self._around(workload))
        return Piece(f"calling/{name}", inputs, make, written)

    def reached(self) -> list[str]:
        """The targets on other nodes that a caller of this one may reach, or would by the candidate."""
        return sorted(name for name in self._reachable() if name in self.mesh.workloads and self._elsewhere(name))

    def places(self) -> list[External]:
        """The places outside that a caller of this node may reach, or would by the candidate."""
        external = self.mesh.external or {}
        return [external[name] for name in sorted(self._reachable() & external.keys())] if self.front.workloads else []

    def _reachable(self) -> frozenset[str]:
        opened = self.front.candidate.opened if self.front.candidate else {}
        asked = (opened.get(caller, frozenset()) for caller in self.front.workloads)
        return self.reach.observed.union(*(self.reach.targets[caller] for caller in self.front.workloads), *asked)

    def _shadow(self, target: Target) -> Shadow | None:
        return self.front.candidate.of(target) if self.front.candidate else None

    def _shadow_here(self, target: Target) -> Shadow | None:
        """As far as the callers of this node go."""
        shadow = self._shadow(target)
        return shadow and shadow.among(self.front.workloads)

    def onward(self, target: Workload) -> Iterator[Piece]:
        """The way to a target on another node: its names, the connections, and who may use them, which changes most."""
        paired = self.reach.callers[target.name]
        observed = target.name in self.reach.observed
        ways = tuple(Way(name, name in paired) for name in self.front.workloads if observed or name in paired)
        quarantined = self.policy.quarantined & {target.name, *(way.caller for way in ways)}
        mesh, name, around = self.mesh, target.name, self._around(target)
        yield Piece(f"named/{name}", (target, mesh.trust_domain), partial(_named, mesh, target), everywhere=True)
        yield Piece(f"onward/{name}", (target, ways, *around), partial(_onward, mesh, target, ways))
        shadow = self._shadow_here(target)
        routed = partial(_routed, mesh, target, ways, quarantined, shadow)
        yield Piece(f"routed/{name}", (target, observed, ways, quarantined, shadow, *around), routed)

    def outward(self, place: External) -> Piece:
        """The way to a place outside, and what of it is open."""
        paired, observed = self.reach.callers[place.name], place.name in self.reach.observed
        callers = tuple(name for name in self.front.workloads if observed or name in paired)
        quarantined, shadow = shut(self.policy, place.name), self._shadow_here(place)
        rules, around = self.policy.rules_to[place.name], (self.mesh.trust_domain, self.terms)
        inputs = (place, rules, callers, quarantined, shadow, *around)
        make = partial(_outward, self.policy, place, callers, quarantined, shadow, self.terms)
        return Piece(f"outward/{place.name}", inputs, make)

    def inbound(self) -> Piece:
        """The listener for calls from elsewhere."""
        doors = tuple(
            inbound.Door(target, self._ended_at.get(target, ""), self._pairs(target)) for target in self.front.workloads
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

    @cached_property
    def _ended_here(self) -> Mapping[str, str]:
        """Caller → one token for those of its calls that end on this node, by the caller's own listeners."""
        here = (cut for cut in self._cuts() if cut[1] not in self.mesh.workloads or not self._elsewhere(cut[1]))
        return _tokens((cut[0], cut) for cut in here)

    @cached_property
    def _ended_at(self) -> Mapping[str, str]:
        """Target → one token for all calls to it."""
        return _tokens((cut[1], cut) for cut in self._cuts())

    def _cuts(self) -> Iterator[tuple[str, str, str]]:
        return ((*pair, token) for pair, token in self.front.cuts.items() if token)


def _tokens(cuts: Iterable[tuple[str, tuple[str, str, str]]]) -> dict[str, str]:
    """Name → one token for all cuts under the name."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, cut in cuts:
        found.setdefault(name, []).append(cut)
    return {name: sha256(repr(sorted(of_name)).encode()).hexdigest()[:16] for name, of_name in found.items()}


def _served(policy: Policy, workload: Workload, quarantined: frozenset[str], shadow: Shadow | None) -> Iterator[Part]:
    name = workload.name
    yield CLUSTER, name, cluster.workload_cluster(workload)
    yield ROUTE, name, route.route_configuration(policy, workload, quarantined, shadow)
    for authority in policy.mesh.authorities(workload):
        yield SCOPE, authority, route.scope(authority, name)


def _calling(mesh: Mesh, workload: Workload, address: Address, terms: Terms, cut: str) -> Iterator[Part]:
    name = workload.name
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


def _routed(
    mesh: Mesh, target: Workload, ways: tuple[Way, ...], quarantined: frozenset[str], shadow: Shadow | None
) -> Iterator[Part]:
    yield ROUTE, target.name, forward.forward_routes(mesh, target, ways, quarantined, shadow)


def _outward(
    policy: Policy,
    place: External,
    callers: tuple[str, ...],
    quarantined: frozenset[str],
    shadow: Shadow | None,
    terms: Terms,
) -> Iterator[Part]:
    if callers:
        made = outside.place_cluster(place)
        yield CLUSTER, made.name, made
    for caller in callers if place.sni else ():
        name = names.gate(caller, place.name)
        yield CLUSTER, name, gate.gate_cluster(caller, place)
        yield LISTENER, name, gate.gate_listener(policy.mesh, caller, place, terms.decisions)
    yield ROUTE, place.name, outside.place_routes(policy, place, callers, quarantined, shadow)
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
