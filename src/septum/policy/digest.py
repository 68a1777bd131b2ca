"""Digests of meaning: equal when two policies decide alike by construction, whatever their files look like."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256

from septum.model.mesh import Mesh
from septum.model.policy import Policy, Rule


def version_of(mesh: Mesh, rules: Iterable[Rule]) -> str:
    """The version of a policy: SHA-256 (hex) over the mesh and the rules in order, without layout and comments."""
    digest = sha256(_mesh_bytes(mesh))
    for rule in rules:
        digest.update(rule.canonical)
    return digest.hexdigest()


def slice_of(policy: Policy, target: str) -> str:
    """16 hex digits over all that decides requests to one target: its own settings, its mode and its rules."""
    workload = policy.mesh.workloads[target]
    digest = sha256(f"{policy.mesh.trust_domain}\n{policy.mesh.mode(workload)}\n".encode())
    digest.update(workload.canonical)
    for rule in policy.rules_to[target]:
        digest.update(rule.canonical)
    return digest.hexdigest()[:16]


def _mesh_bytes(mesh: Mesh) -> bytes:
    segments = [[segment.name, segment.description] for segment in mesh.segments.values()]
    head = json.dumps([mesh.name, mesh.trust_domain, segments, sorted(mesh.enforced)]).encode()
    return b"\n".join([head, *(workload.canonical for workload in mesh.workloads.values())])
