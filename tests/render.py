"""Policies back to files. For tests of the laws alone: people write policies, programs do not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from septum.model.claims import AnyOf, Contains, Equals, Scope, Test
from septum.model.mesh import External, Issuer, Mesh, Protocol, Timeouts, Workload
from septum.model.policy import Policy, Rule
from septum.model.window import Window, time_text


def render(policy: Policy, *, flow: bool | None = False) -> dict[str, bytes]:
    """The files that load to the policy; `flow` is PyYAML's `default_flow_style`."""
    rules = {"allow": [rule_value(policy.mesh, rule) for rule in policy.rules]}
    files = {"septum.yaml": text(mesh_value(policy.mesh), flow), "policy/rules.yaml": text(rules, flow)}
    return files | named_files(policy.mesh)


def named_files(mesh: Mesh) -> dict[str, bytes]:
    """The files below `files/` that the mesh's settings name."""
    keys = {f"files/{issuer.name}.json": issuer.jwks.encode() for issuer in mesh.issuers.values() if issuer.jwks}
    return keys | {f"files/{place.name}.pem": place.ca.encode() for place in (mesh.external or {}).values() if place.ca}


def text(value: Any, flow: bool | None = False) -> bytes:
    """One file. Strings are quoted wherever they could be read as something else."""
    written: bytes = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, encoding="utf-8", width=90
    )
    return written


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def mesh_value(mesh: Mesh) -> dict[str, Any]:
    """What `septum.yaml` says."""
    value: dict[str, Any] = {
        "mesh": mesh.name,
        "trust_domain": mesh.trust_domain,
        "segments": {name: segment.description or None for name, segment in mesh.segments.items()},
        "workloads": {name: _workload(workload) for name, workload in mesh.workloads.items()},
        "enforce": sorted(mesh.enforced),
    }
    if mesh.nodes:
        value["nodes"] = {name: {"inbound": str(node.inbound)} for name, node in mesh.nodes.items()}
    if mesh.issuers:
        value["issuers"] = {name: _issuer(issuer) for name, issuer in mesh.issuers.items()}
    if mesh.external is not None:
        value["external"] = {name: _place(place) for name, place in mesh.external.items()}
    return value


def _issuer(issuer: Issuer) -> dict[str, Any]:
    return {
        "issuer": issuer.issuer,
        "audiences": list(issuer.audiences),
        "jwks": issuer.jwks_url or f"files/{issuer.name}.json",
    }


def _place(place: External) -> dict[str, Any]:
    protocol = "http" if place.protocol is Protocol.HTTP else "tls" if place.sni else "tcp"
    value: dict[str, Any] = {"host": place.host, "port": place.port, "protocol": protocol, "mode": str(place.mode)}
    if protocol == "http":
        value["originate_tls"] = place.originate_tls
    return value | ({"ca": f"files/{place.name}.pem"} if place.ca else {})


def _workload(workload: Workload) -> dict[str, Any]:
    value: dict[str, Any] = {
        "segment": workload.segment,
        "at": str(workload.at),
        "protocol": str(workload.protocol),
        "limits": {
            "connections": workload.limits.connections,
            "pending": workload.limits.pending,
            "requests": workload.limits.requests,
        },
        "timeouts": _timeouts(workload.timeouts),
        "dials": {name: str(address) for name, address in workload.dials.items()},
    }
    if workload.health is not None:
        value["health"] = "grpc" if workload.protocol is Protocol.GRPC else workload.health
    if workload.mode is not None:
        value["mode"] = str(workload.mode)
    if workload.node:
        value["node"] = workload.node
    if workload.outbound is not None:
        value["outbound"] = str(workload.outbound)
    flags = ("websocket", "path_parameters", "ignore_case") if workload.protocol is Protocol.HTTP else ()
    return value | {flag: getattr(workload, flag) for flag in flags}


def _timeouts(timeouts: Timeouts) -> dict[str, Any]:
    return {
        "connect": f"{round(timeouts.connect * 1000)}ms",
        "request": f"{timeouts.request:g}s" if timeouts.request else 0,
        "idle": f"{timeouts.idle:g}s" if timeouts.idle else 0,
    }


def rule_value(mesh: Mesh, rule: Rule) -> dict[str, Any]:
    """What one rule says; without a name where its id is made from its selectors."""
    value: dict[str, Any] = {} if "->" in rule.id else {"name": rule.id}
    value |= {"from": rule.callers_text.split(","), "to": rule.targets_text.split(",")}
    if rule.operations is not None:
        protocol = mesh.targets[rule.targets[0]].protocol
        value[str(protocol)] = [pattern.text for pattern in rule.operations]
    if rule.when is not None:
        value["when"] = {"claims": {name: _test(test) for name, test in rule.when.claims}}
    value |= {name: time_text(time) for name, time in _window(rule.window) if time is not None}
    return value | ({"because": rule.because} if rule.because else {})


def _window(window: Window | None) -> Iterable[tuple[str, int | None]]:
    return () if window is None else (("from_time", window.from_time), ("until", window.until))


def _test(test: Test) -> Any:
    match test:
        case Equals(value):
            return value
        case AnyOf(values):
            return {"any_of": list(values)}
        case Contains(value):
            return {"contains": value}
        case Scope(word):
            return {"scope": word}
