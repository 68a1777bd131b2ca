"""Mesh, policy and node to the snapshot that the node's Envoy should hold. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from septum.envoy import cluster, listener, names, route
from septum.envoy.lint import Reference, consistent, lint
from septum.envoy.wire import resource
from septum.model.mesh import Address, Mesh, Workload
from septum.model.policy import Policy
from septum.model.snapshot import Resource, Snapshot
from septum.policy.digest import slice_of

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SCOPE = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"


@dataclass(frozen=True)
class Node:
    """One Envoy: its name, where its workloads' outbound listeners open, and the file it writes decisions to."""

    name: str
    outbound: Mapping[str, Address]
    decisions: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """A built resource, the inputs it was built from, and what it refers to."""

    key: object
    resource: Resource
    references: tuple[Reference, ...]


@dataclass
class Compiler:
    """Compiles snapshots, keeping what did not change: a resource is built again only when its inputs differ.

    The memory is an optimisation alone; a fresh compiler gives the same snapshot (tested as a law).
    """

    _kept: dict[tuple[str, str], _Kept] = field(default_factory=dict)

    def compile(self, policy: Policy, node: Node) -> Snapshot:
        """The snapshot, linted. Raises LintError when a resource would be open by omission: that is a bug of ours."""
        kept: dict[tuple[str, str], _Kept] = {}
        for type_url, name, key, build in _parts(policy, node):
            kept[type_url, name] = self._built(type_url, name, key, build)
        self._kept = kept
        resources: dict[str, dict[str, Resource]] = {CLUSTER: {}, LISTENER: {}, ROUTE: {}, SCOPE: {}}
        for (type_url, name), part in kept.items():
            resources[type_url][name] = part.resource
        known = {"cluster": resources[CLUSTER].keys(), "route": resources[ROUTE].keys()}
        consistent(((name, ref) for (_, name), part in kept.items() for ref in part.references), known)
        return Snapshot(_version(policy, resources), resources)

    def _built(self, type_url: str, name: str, key: object, build: Callable[[], Any]) -> _Kept:
        kept = self._kept.get((type_url, name))
        if kept is not None and kept.key == key:
            return kept
        message = build()
        return _Kept(key, resource(name, message), lint(message))


def _version(policy: Policy, resources: Mapping[str, Mapping[str, Resource]]) -> str:
    digest = sha256(policy.version.encode())
    for type_url in sorted(resources):
        for name in sorted(resources[type_url]):
            digest.update(f"{type_url} {name} {resources[type_url][name].version}\n".encode())
    return digest.hexdigest()[:16]


Part = tuple[str, str, object, Callable[[], Any]]


def _parts(policy: Policy, node: Node) -> Iterator[Part]:
    """Every resource as (type, name, the inputs it depends on, how to build it)."""
    for workload in policy.mesh.workloads.values():
        yield from _target_parts(policy, workload)
        yield from _caller_parts(policy.mesh, workload, node)


def _target_parts(policy: Policy, target: Workload) -> Iterator[Part]:
    mesh, digest, rules = policy.mesh, slice_of(policy, target.name), policy.rules_to[target.name]
    yield CLUSTER, target.name, target, lambda: cluster.workload_cluster(target)
    key = (mesh.trust_domain, target, mesh.mode(target), digest, rules)
    yield ROUTE, target.name, key, lambda: route.route_configuration(mesh, target, rules, digest)
    for authority in mesh.authorities(target):
        yield SCOPE, authority, target.name, partial(route.scope, authority, target.name)


def _caller_parts(mesh: Mesh, caller: Workload, node: Node) -> Iterator[Part]:
    address, file = caller.outbound or node.outbound[caller.name], node.decisions
    identity = (mesh.spiffe(caller.name), file)
    name = names.outbound(caller.name)
    yield LISTENER, name, (identity, address), lambda: listener.outbound_listener(mesh, caller, address, file)
    name = names.inside(caller.name)
    yield LISTENER, name, identity, lambda: listener.inside_listener(mesh, caller, file)
    yield CLUSTER, name, caller.name, lambda: cluster.inside_cluster(caller.name)
    for target, at in ((mesh.workloads[name], at) for name, at in caller.dials.items()):
        build = partial(listener.dial_listener, caller, target, at)
        yield LISTENER, names.dial(caller.name, target.name), (at, target), build
