"""Every request of corpus.yaml against a real Envoy: the verdict is that of `decide`, and a record of it exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h1
import h2raw
import pytest
import yaml
from proxy import Proxy, backends, free_port, running_proxy, wait_for

from septum.model.decision import Request
from septum.model.mesh import Address
from septum.model.operation import Operation, RefusedOperation
from septum.model.policy import Policy
from septum.policy.ask import http_operation
from septum.policy.decide import decide
from septum.policy.load import load

RULES = b"""
allow:
  - {name: public, from: client, to: [web, matrix, fold], http: [GET /public/**, "GET,POST /items/{id}"]}
  - {name: odd-names, from: client, to: web, http: ["GET /v1.0/x", "GET /a+b/{n}", "GET /$x/{n}"]}
  - {name: admins, from: admin-tool, to: web, http: ["* /admin/**"]}
  - {name: everything, from: client, to: open, http: ["* /**"]}
  - {name: probe, from: admin-tool, to: open, http: [GET /healthz]}
  - {name: method, from: client, to: rpc, grpc: [p.S/M]}
  - {name: chat, from: client, to: ws, http: [GET /chat]}
"""
CASES = [
    pytest.param(case, over, id=f"{case['row']}-{over}-{index}")
    for index, case in enumerate(yaml.safe_load(Path(__file__).with_name("corpus.yaml").read_text()))
    for over in case.get("over", ("h1", "h2"))
]


@dataclass(frozen=True)
class Lab:
    proxy: Proxy
    policy: Policy


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_proxy() as proxy:
        policy = _policy(at)
        proxy.hold(policy)
        yield Lab(proxy, policy)


def _policy(at: dict[str, Address]) -> Policy:
    lines = ["mesh: lab", "trust_domain: lab.test", "segments: {core: all}", "workloads:"]
    spoken = {"rpc": "grpc", "store": "tcp"}
    more = {
        "fold": ", ignore_case: true, health: /healthz",
        "open": ", health: /healthz",
        "matrix": ", path_parameters: true",
        "ws": ", websocket: true",
    }
    names = ("client", "client-b", "admin-tool", "web", "web-b", "fold", "matrix", "open", "rpc", "store", "ws")
    lines += [
        f"  {name}: {{segment: core, at: 127.0.0.1:{free_port()}, protocol: {spoken.get(name, 'http')}, "
        f"outbound: 127.0.0.1:{free_port()}{more.get(name, '')}}}"
        for name in names
    ]
    loaded = load({"septum.yaml": "\n".join(lines).encode(), "policy/all.yaml": RULES})
    assert loaded.policy is not None, loaded.diagnostics
    # The workloads share one backend a protocol, which the language rightly refuses; so they are moved there here.
    mesh = loaded.policy.mesh
    moved = {name: replace(workload, at=at[str(workload.protocol)]) for name, workload in mesh.workloads.items()}
    return replace(loaded.policy, mesh=replace(mesh, workloads=moved))


@pytest.mark.parametrize(("case", "over"), CASES)
def test_corpus(lab: Lab, case: dict[str, Any], over: str) -> None:
    caller, method = case.get("caller", "client"), case.get("method", "GET")
    target = case.get("target", "web")
    authority = case.get("host", target)
    outbound = lab.policy.mesh.workloads[caller].outbound
    assert outbound is not None
    request_id = f"{over}-{id(case)}"
    headers = [(name, value) for name, value in case.get("headers", ())]
    if not any(name.lower() == "x-request-id" for name, _ in headers):
        headers.append(("x-request-id", request_id))
    lab.proxy.take_records()
    before = len(lab.proxy.lines)
    send = _over_h1 if over == "h1" else _over_h2
    answer = send(outbound.port, method, case["path"], authority, headers)

    passed = answer.from_backend or ("content-type" in answer.headers and answer.body[5:].startswith(b"/"))
    assert passed == (case["expect"] == "allow"), answer
    assert answer.status != 500, answer
    _decide_agrees(lab.policy, caller, method, case, authority, over)
    if "sees" in case:
        assert answer.body.split()[1].decode() == case["sees"], answer
    record = wait_for(lambda: _new(lab.proxy, before), f"a record of {case}")
    assert record["caller"] == f"spiffe://lab.test/{caller}"
    if passed:
        assert record["er"] == "allowed"
    else:
        assert record.get("er") != "allowed"


def _new(proxy: Proxy, before: int) -> dict[str, Any] | None:
    proxy.take_records()
    assert len(proxy.lines) <= before + 1, proxy.lines[before:]
    return proxy.lines[before] if len(proxy.lines) > before else None


def _decide_agrees(policy: Policy, caller: str, method: str, case: dict[str, Any], authority: str, over: str) -> None:
    path = case["path"]
    if "://" in path:  # an absolute URI names the target (RFC 9112, 3.2.2)
        scheme, _, rest = path.partition("://")
        authority, slash, below = rest.partition("/")
        path = slash + below
        if scheme != "http":
            return  # refused before there is an operation
    if any(name.lower() in ("host", "x_role") for name, _ in case.get("headers", ())) and case["row"] in (13, 14, 22):
        return  # refused, or the header is dropped, before there is an operation
    if (
        case.get("headers")
        and any(n == "upgrade" and v != "websocket" for n, v in case["headers"])
        and not case.get("websocket")
    ):
        return
    target = policy.mesh.resolve(authority.strip()) or authority
    wire = path.encode("latin-1")
    if over == "h2":
        wire = re.sub(rb"[\x80-\xff]", lambda byte: b"%%%02X" % ord(byte[0]), wire)
    operation: Operation = http_operation(method, wire, websocket=case.get("websocket", False))
    decision = decide(policy, Request(caller, target, operation))
    assert decision.allowed == (case["expect"] == "allow"), (decision, operation)
    assert not (isinstance(operation, RefusedOperation) and decision.allowed)


def _over_h1(port: int, method: str, path: str, authority: str, headers: list[tuple[str, str]]) -> h1.Answer:
    lines = [f"{method} {path} HTTP/1.1", f"host: {authority}", *(f"{name}: {value}" for name, value in headers)]
    connection = h1.Connection(port)
    try:
        return connection.send("\r\n".join([*lines, "", ""]).encode("latin-1"), head=method == "HEAD")
    finally:
        connection.close()


def _over_h2(port: int, method: str, path: str, authority: str, headers: list[tuple[str, str]]) -> h1.Answer:
    pseudo = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in (*pseudo, *headers)]
    body = b"\0\0\0\0\0" if ("content-type", "application/grpc") in headers else b""
    return h2raw.send(port, fields, body)
