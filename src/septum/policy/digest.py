"""Digests of meaning: equal when two policies decide alike by construction, whatever their files look like."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256

from septum.model.mesh import Mesh, Workload
from septum.model.policy import Policy, Rule


def version_of(mesh: Mesh, rules: Iterable[Rule]) -> str:
    """The version of a policy: SHA-256 (hex) over the mesh and the rules, without layout, order and comments.

    A reason (`because`) is part of it: who reads a record wants the reason that stood there.
    """
    digest = sha256(_mesh_bytes(mesh))
    for rule in sorted(rules, key=lambda rule: rule.id):
        digest.update(rule.canonical)
    return digest.hexdigest()


def slice_of(policy: Policy, target: str) -> str:
    """16 hex digits over all that decides requests to one target: what it takes, its mode and its rules.

    What does not decide (addresses, limits, reasons, a rule's other targets) plays no part. A rule keeps its bytes, so
    a second policy that shares it costs a look-up.
    """
    workload = policy.mesh.workloads[target]
    parts = [_taken(policy.mesh, workload), *(rule.decisive for rule in policy.rules_to[target])]
    return sha256(b"".join(parts)).hexdigest()[:16]


def _taken(mesh: Mesh, target: Workload) -> bytes:
    flags = [target.health, target.websocket, target.path_parameters, target.ignore_case]
    return json.dumps([mesh.trust_domain, target.name, target.protocol, mesh.mode(target), *flags]).encode() + b"\n"


def _mesh_bytes(mesh: Mesh) -> bytes:
    segments = sorted([segment.name, segment.description] for segment in mesh.segments.values())
    head = json.dumps([mesh.name, mesh.trust_domain, segments, sorted(mesh.enforced)]).encode()
    return b"\n".join([head, *(mesh.workloads[name].canonical for name in sorted(mesh.workloads))])
