"""Digests of meaning: equal when two policies decide alike by construction, whatever their files look like."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from hashlib import sha256

from septum.model.guarantee import Guarantee
from septum.model.mesh import External, Issuer, Mesh, Mode, Target
from septum.model.policy import Policy, Rule


def version_of(
    mesh: Mesh, rules: Iterable[Rule], quarantined: Iterable[str] = (), guarantees: Iterable[Guarantee] = ()
) -> str:
    """The version of a policy: SHA-256 (hex) over all that it says, without layout, order and comments.

    A reason (`because`) is part of it: who reads a record wants the reason that stood there.
    """
    digest = sha256(_mesh_bytes(mesh, sorted(quarantined)))
    for rule in sorted(rules, key=lambda rule: rule.id):
        digest.update(rule.canonical)
    for guarantee in sorted(guarantees, key=lambda guarantee: guarantee.canonical):
        digest.update(guarantee.canonical)
    return digest.hexdigest()


def slice_of(policy: Policy, target: str) -> str:
    """16 hex digits over all that decides requests to one target: what it takes, its mode, its rules, quarantine.

    What does not decide (addresses, limits, reasons, a rule's other targets) plays no part. A rule keeps its bytes, so
    a second policy that shares it costs a look-up.
    """
    taken = _taken(policy.mesh, policy.mesh.targets[target])
    parts = [taken, *_shut(policy, target), *(rule.decisive for rule in policy.rules_to[target])]
    return sha256(b"".join(parts)).hexdigest()[:16]


def _taken(mesh: Mesh, target: Target) -> bytes:
    flags = [target.health, target.websocket, target.path_parameters, target.ignore_case]
    return json.dumps([mesh.trust_domain, target.name, target.protocol, mesh.mode(target), *flags]).encode() + b"\n"


def _shut(policy: Policy, target: str) -> Iterator[bytes]:
    """Who of the quarantined plays a part: the target, and those who could call it, which is everyone if observed."""
    if not policy.quarantined:
        return
    observed = policy.mesh.mode(policy.mesh.targets[target]) is Mode.OBSERVE
    callers = {caller for rule in policy.rules_to[target] for caller in rule.callers}
    shut = sorted(policy.quarantined if observed else policy.quarantined & {target, *callers})
    if shut:
        yield json.dumps({"quarantined": shut}).encode() + b"\n"


def _mesh_bytes(mesh: Mesh, quarantined: list[str]) -> bytes:
    segments = sorted([segment.name, segment.description] for segment in mesh.segments.values())
    head = json.dumps([mesh.name, mesh.trust_domain, segments, sorted(mesh.enforced)]).encode()
    workloads = [mesh.workloads[name].canonical for name in sorted(mesh.workloads)]
    return b"\n".join([head, *workloads, *_further(mesh, quarantined)])


def _further(mesh: Mesh, quarantined: list[str]) -> Iterator[bytes]:
    """What a mesh need not have. Nothing stands for nothing, so a mesh without it keeps the version it always had."""
    parts = {
        "nodes": {node.name: str(node.inbound) for node in mesh.nodes.values()} or None,
        "issuers": {issuer.name: _fields(issuer) for issuer in mesh.issuers.values()} or None,
        "external": None if mesh.external is None else {name: _fields(place) for name, place in mesh.external.items()},
        "quarantined": quarantined or None,
    }
    for key, value in parts.items():
        if value is not None:
            yield json.dumps({key: value}, sort_keys=True).encode() + b"\n"


def _fields(of: Issuer | External) -> dict[str, object]:
    fields = asdict(of)
    del fields["span"]
    return fields
