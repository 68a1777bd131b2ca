"""Mesh, policy and node to the snapshot that the node's Envoy should hold. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from septum.envoy.lint import Reference, consistent, lint
from septum.envoy.manifest import manifest
from septum.envoy.pieces import Front, Piece, pieces
from septum.envoy.reach import Survey
from septum.envoy.wire import resource
from septum.model.policy import Policy
from septum.model.resource_types import CLUSTER, LISTENER, ROUTE, SCOPE, SECRET
from septum.model.snapshot import MANIFEST, Resource, Snapshot, together, whole

__all__ = ["Compiler", "Front", "Shelf"]

Resources = dict[str, dict[str, Resource]]


@dataclass(frozen=True, slots=True)
class _Made:
    """The resources of a piece, what they refer to, and their `whole`."""

    key: object
    resources: tuple[tuple[str, Resource], ...]
    references: tuple[tuple[str, Reference], ...]
    whole: str

    @property
    def names(self) -> list[tuple[str, str]]:
        """Type and name of each resource."""
        return [(type_url, made.name) for type_url, made in self.resources]


# By the name of the piece.
Shelf = dict[str, _Made]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A snapshot, and what it was compiled from last."""

    policy: Policy
    front: Front
    snapshot: Snapshot


@dataclass
class Compiler:
    """Compiles the snapshots of one node, keeping what did not change.

    The memory is an optimisation alone; a fresh compiler gives the same snapshot (tested as a law). `survey` is shared
    by the compilers of all nodes, so that what they all ask of a policy is worked out once, and `shelf` so that what
    is the same everywhere is made and kept once.
    """

    survey: Survey = field(default_factory=Survey)
    shelf: Shelf = field(default_factory=dict)
    _last: _Compiled | None = None
    _kept: dict[str, _Made] = field(default_factory=dict)
    _resources: Resources = field(default_factory=lambda: _merged({}))

    def compile(self, policy: Policy, front: Front) -> Snapshot:
        """The snapshot, linted. While its content is the same, it is the same object.

        Raises LintError when a resource would be open by omission: that is a bug of ours.
        """
        last = self._last
        snapshot = last.snapshot if last and self._same(last, policy, front) else self._compiled(policy, front)
        self._last = _Compiled(policy, front, snapshot)
        return snapshot

    def _same(self, last: _Compiled, policy: Policy, front: Front) -> bool:
        """Whether nothing that the node's snapshot is made of is touched by the step from the last policy."""
        if last.front != front:
            return False
        touched = self.survey.touched(last.policy, policy)
        return touched is not None and touched.isdisjoint(front.workloads)

    def _compiled(self, policy: Policy, front: Front) -> Snapshot:
        before, self._kept = self._kept, {}
        for piece in pieces(policy, front, self.survey.reach(policy)):
            kept = before.get(piece.name)
            self._kept[piece.name] = kept if kept is not None and kept.key == piece.key else self._made(piece)
        changed = [made for name, made in self._kept.items() if before.get(name) is not made]
        self._resources = _patched(self._resources, changed) if _same_names(before, self._kept) else _merged(self._kept)
        known = {"cluster": self._resources[CLUSTER].keys(), "route": self._resources[ROUTE].keys()}
        consistent((reference for made in changed for reference in made.references), known)
        digest = together(made.whole for made in self._kept.values())
        # Where one node fronts everything, nobody needs a certificate.
        trust_domain = policy.mesh.trust_domain if policy.mesh.nodes else ""
        says = manifest(front.node, front.workloads, trust_domain, digest)
        if self._last is not None and self._last.snapshot.version == says.version:
            return self._last.snapshot
        return Snapshot(says.version, {**self._resources, MANIFEST: {says.name: says}})

    def _made(self, piece: Piece) -> _Made:
        if not piece.everywhere:
            return _made(piece)
        made = self.shelf.get(piece.name)
        if made is None or made.key != piece.key:
            made = self.shelf[piece.name] = _made(piece)
        return made


def _same_names(before: Mapping[str, _Made], after: Mapping[str, _Made]) -> bool:
    """Whether both hold the same resources by name and order, so that nothing comes or goes."""
    if list(before) != list(after):
        return False
    return all(old is after[name] or old.names == after[name].names for name, old in before.items())


def _patched(resources: Resources, changed: Iterable[_Made]) -> Resources:
    """The resources with what changed. A type in which nothing did keeps its mapping, and nobody need look into it."""
    patched = dict(resources)
    for type_url, made in (entry for piece in changed for entry in piece.resources):
        if patched[type_url][made.name] != made:
            if patched[type_url] is resources[type_url]:
                patched[type_url] = dict(resources[type_url])
            patched[type_url][made.name] = made
    return patched


def _merged(pieces: Mapping[str, _Made]) -> Resources:
    resources: Resources = {CLUSTER: {}, SECRET: {}, LISTENER: {}, ROUTE: {}, SCOPE: {}}
    for type_url, made in (entry for piece in pieces.values() for entry in piece.resources):
        resources[type_url][made.name] = made
    return resources


def _made(piece: Piece) -> _Made:
    made: list[tuple[str, Resource]] = []
    references: list[tuple[str, Reference]] = []
    of_type: dict[str, list[Resource]] = {}
    for type_url, name, message in piece.parts():
        references += ((name, reference) for reference in lint(message, piece.written))
        built = resource(name, message)
        made.append((type_url, built))
        of_type.setdefault(type_url, []).append(built)
    return _Made(piece.key, tuple(made), tuple(references), whole(of_type))
