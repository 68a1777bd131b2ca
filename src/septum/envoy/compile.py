"""Mesh, policy and node to the snapshot that the node's Envoy should hold. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from septum.envoy import cluster, listener, names, route
from septum.envoy.lint import Reference, consistent, lint
from septum.envoy.wire import resource
from septum.model.mesh import Address, Workload
from septum.model.policy import Policy
from septum.model.snapshot import Resource, Snapshot
from septum.policy.digest import slice_of

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SCOPE = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"

Resources = dict[str, dict[str, Resource]]


@dataclass(frozen=True)
class Node:
    """One Envoy: its name, where its workloads' outbound listeners open, and the file it writes decisions to."""

    name: str
    outbound: Mapping[str, Address]
    decisions: str


@dataclass(frozen=True, slots=True)
class _Group:
    """All resources of one workload, the inputs they were built from, and what they refer to."""

    key: object
    resources: tuple[tuple[str, Resource], ...]
    references: tuple[tuple[str, Reference], ...]
    digest: bytes

    @property
    def names(self) -> list[tuple[str, str]]:
        """Type and name of each resource."""
        return [(type_url, made.name) for type_url, made in self.resources]


@dataclass
class Compiler:
    """Compiles snapshots, keeping what did not change: a workload's resources are built again when its inputs differ.

    The memory is an optimisation alone; a fresh compiler gives the same snapshot (tested as a law).
    """

    _kept: dict[str, _Group] = field(default_factory=dict)
    _resources: Resources = field(default_factory=dict)

    def compile(self, policy: Policy, node: Node) -> Snapshot:
        """The snapshot, linted. Raises LintError when a resource would be open by omission: that is a bug of ours."""
        before = self._kept
        self._kept = {name: self._group(policy, workload, node) for name, workload in policy.mesh.workloads.items()}
        digest = sha256(policy.version.encode())
        for group in self._kept.values():
            digest.update(group.digest)
        changed = [group for name, group in self._kept.items() if before.get(name) is not group]
        self._resources = _patched(self._resources, changed) if _same_names(before, self._kept) else _merged(self._kept)
        known = {"cluster": self._resources[CLUSTER].keys(), "route": self._resources[ROUTE].keys()}
        consistent((reference for group in changed for reference in group.references), known)
        return Snapshot(digest.hexdigest()[:16], self._resources)

    def _group(self, policy: Policy, workload: Workload, node: Node) -> _Group:
        mesh, rules = policy.mesh, policy.rules_to[workload.name]
        dialled = tuple(mesh.workloads[name] for name in workload.dials)
        address = workload.outbound or node.outbound[workload.name]
        key = (workload, rules, mesh.mode(workload), mesh.trust_domain, address, node.decisions, dialled)
        kept = self._kept.get(workload.name)
        return kept if kept is not None and kept.key == key else _built(policy, workload, address, node.decisions, key)


def _same_names(before: Mapping[str, _Group], after: Mapping[str, _Group]) -> bool:
    """Whether both hold the same resources by name and order, so that nothing comes or goes."""
    if list(before) != list(after):
        return False
    return all(old is after[name] or old.names == after[name].names for name, old in before.items())


def _patched(resources: Resources, changed: Iterable[_Group]) -> Resources:
    """The resources with what changed. A type in which nothing did keeps its mapping, and nobody need look into it."""
    patched = dict(resources)
    for type_url, made in (entry for group in changed for entry in group.resources):
        if patched[type_url][made.name] != made:
            if patched[type_url] is resources[type_url]:
                patched[type_url] = dict(resources[type_url])
            patched[type_url][made.name] = made
    return patched


def _merged(groups: Mapping[str, _Group]) -> Resources:
    resources: Resources = {CLUSTER: {}, LISTENER: {}, ROUTE: {}, SCOPE: {}}
    for type_url, made in (entry for group in groups.values() for entry in group.resources):
        resources[type_url][made.name] = made
    return resources


def _built(policy: Policy, workload: Workload, address: Address, decisions: str, key: object) -> _Group:
    made: list[tuple[str, Resource]] = []
    references: list[tuple[str, Reference]] = []
    digest = sha256()
    for type_url, name, message in _parts(policy, workload, address, decisions):
        references += ((name, reference) for reference in lint(message))
        built = resource(name, message)
        made.append((type_url, built))
        digest.update(f"{type_url} {name} {built.version}\n".encode())
    return _Group(key, tuple(made), tuple(references), digest.digest())


def _parts(policy: Policy, workload: Workload, address: Address, decisions: str) -> Iterator[tuple[str, str, Any]]:
    """A workload as a target and as a caller: every resource as type, name and message."""
    mesh, name = policy.mesh, workload.name
    yield CLUSTER, name, cluster.workload_cluster(workload)
    rules, digest = policy.rules_to[name], slice_of(policy, name)
    yield ROUTE, name, route.route_configuration(mesh, workload, rules, digest)
    for authority in mesh.authorities(workload):
        yield SCOPE, authority, route.scope(authority, name)
    yield LISTENER, names.outbound(name), listener.outbound_listener(mesh, workload, address, decisions)
    yield LISTENER, names.inside(name), listener.inside_listener(mesh, workload, decisions)
    yield CLUSTER, names.inside(name), cluster.inside_cluster(name)
    for target, at in ((mesh.workloads[dialled], at) for dialled, at in workload.dials.items()):
        yield LISTENER, names.dial(name, target.name), listener.dial_listener(workload, target, at)
