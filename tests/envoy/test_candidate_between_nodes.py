"""A candidate in a mesh of nodes: asked about each call where it is decided, also about whom no rule names yet."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h1
import pytest
from nodes import Nodes, port, running_nodes, workload
from proxy import backends
from square import Generator, _raw

from septum.audit.line import Line, read_line
from septum.audit.outcome import outcome
from septum.envoy.shadow import Candidate
from septum.model.decision import Request
from septum.model.mesh import Mesh, Protocol
from septum.model.operation import ConnectOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.ask import http_operation
from septum.policy.decide import decide, goes_through
from septum.policy.quarantine import quarantined

pytestmark = pytest.mark.xdist_group("candidate between nodes")

POLICIES, REQUESTS = 8, 60


@dataclass(frozen=True)
class Lab:
    nodes: Nodes
    mesh: Mesh


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_nodes("alpha", "beta") as nodes:
        workloads = [
            workload("plain", "alpha", at["http"], health="/healthz"),
            workload("matrix", "beta", at["http"], path_parameters=True),
            workload("socket", "beta", at["http"], websocket=True),
            workload("seen", "beta", at["http"], segment="edge"),
            workload("store", "beta", at["tcp"], "tcp"),
            workload("watched-store", "alpha", at["tcp"], "tcp", segment="edge"),
        ]
        yield Lab(nodes, nodes.mesh(*workloads))


def _held(lab: Lab, seed: int) -> tuple[Generator, Policy, Candidate]:
    generator, choose = Generator(lab.mesh, seed), random.Random(seed)
    shut = choose.sample(sorted(lab.mesh.workloads), choose.choice((0, 0, 1)))
    policy, proposed = quarantined(generator.policy(), shut), Generator(lab.mesh, seed + 1000).policy()
    candidate = Candidate(quarantined(proposed, shut), proposed.version)
    lab.nodes.hold(policy, candidate=candidate)
    return generator, policy, candidate


def _said(record: dict[str, Any]) -> str:
    """What the record is that becomes of a line."""
    line = read_line(json.dumps({key: value for key, value in record.items() if key not in ("er", "sr")}).encode())
    assert isinstance(line, Line)
    return outcome(line).candidate


def _agree(lab: Lab, policy: Policy, candidate: Candidate, request: Request, passed: bool, id: str) -> bool:
    """Whether the candidate was asked; then it says what `decide` says, and it is asked wherever it would allow."""
    _, record = lab.nodes.one_record(id)
    said, beside = _said(record), decide(candidate.policy, request)
    shown = f"{request}: {decide(policy, request)}, {beside}\n{record}"
    target = policy.mesh.workloads.get(request.target)
    if target is None or "ep" not in record:
        assert not passed, shown
    elif target.protocol is not Protocol.TCP or request.operation == ConnectOperation():
        assert passed == goes_through(policy, request), shown
    if said:
        assert said == beside.effect, shown
        assert beside.rule is None or record["sp"] == beside.rule.id, shown
        return True
    upgrade = getattr(request.operation, "websocket", False)
    assert not beside.allowed or upgrade, shown
    return False


@pytest.mark.parametrize("seed", range(POLICIES))
def test_http(lab: Lab, seed: int) -> None:
    generator, policy, candidate = _held(lab, seed)
    connections = {name: h1.Connection(port(lab.mesh, name)) for name in lab.mesh.workloads}
    asked: list[tuple[Request, bool, str]] = []
    for number in range(REQUESTS):
        caller, target, method, path, upgrade = generator.http()
        target = "matrix" if target == "vault" else target
        id = f"cn-{seed}-{number}"
        answer = connections[caller].send(_raw(method, path, target, id, upgrade), head=method == "HEAD")
        if answer.status != 400:
            asked.append(
                (Request(caller, target, http_operation(method, path, websocket=upgrade)), answer.from_backend, id)
            )
    for connection in connections.values():
        connection.close()
    compared = sum(_agree(lab, policy, candidate, *one) for one in asked)
    assert compared > REQUESTS // 4


@pytest.mark.parametrize("seed", range(100, 100 + POLICIES))
def test_tcp(lab: Lab, seed: int) -> None:
    _, policy, candidate = _held(lab, seed)
    compared = 0
    for caller in lab.mesh.workloads:
        for target in ("store", "watched-store"):
            id, authority = f"cnt-{seed}-{caller}-{target}", f"{target}:{lab.mesh.workloads[target].at.port}"
            with (
                socket.create_connection(("127.0.0.1", port(lab.mesh, caller)), 10) as wire,
                wire.makefile("rb") as file,
            ):
                wire.sendall(
                    f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n".encode()
                )
                passed = b" 200 " in file.readline()
                while file.readline().strip():
                    pass
                assert not passed or file.readline() == b"HELLO\r\n"
            compared += _agree(lab, policy, candidate, Request(caller, target, ConnectOperation()), passed, id)
    assert compared


def test_whom_no_rule_names_is_asked_about_where_it_calls(lab: Lab) -> None:
    """And is denied there as ever: nothing leads on, and the caller sees no difference."""
    empty = Policy(lab.mesh, (), "nothing")
    rule = Rule("new", ("plain",), ("matrix",), (HttpPattern.parse("GET /a"),))
    connection = h1.Connection(port(lab.mesh, "plain"))

    def ask(id: str) -> tuple[int, str, str, str]:
        answer = connection.send(_raw("GET", "/a", "matrix", id, upgrade=False))
        node, record = lab.nodes.one_record(id)
        return answer.status, node, record["ep"], _said(record)

    lab.nodes.hold(empty)
    assert ask("way-0") == (403, "alpha", "septum.deny", "")
    lab.nodes.hold(empty, candidate=Candidate(Policy(lab.mesh, (rule,), "one"), "one"))
    assert ask("way-1") == (403, "alpha", "septum.deny", "allow")
    lab.nodes.hold(empty)
    assert ask("way-2") == (403, "alpha", "septum.deny", "")
    connection.close()
