"""The square with a candidate: nothing of the enforced decision changes, and what is on record is what it decides."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import h1
import httpx
import pytest
from proxy import Proxy, backends, running_proxy
from square import Generator, _mesh, _outbound, _raw
from test_square import POLICIES, REQUESTS

from septum.envoy.shadow import Candidate
from septum.model.decision import Request
from septum.model.mesh import External, Mesh, Mode, Protocol
from septum.model.operation import ConnectOperation, GrpcOperation
from septum.model.policy import Policy
from septum.policy.ask import http_operation
from septum.policy.decide import decide, goes_through
from septum.policy.quarantine import quarantined

pytestmark = pytest.mark.xdist_group("candidate")


@dataclass(frozen=True)
class Lab:
    """The proxy, and the mesh that every generated policy is about."""

    proxy: Proxy
    mesh: Mesh


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_proxy() as proxy:
        yield Lab(proxy, _mesh(at))


def _candidate(mesh: Mesh, seed: int) -> Candidate:
    """Other rules, over targets that say other things of themselves; some lack, some speak something else."""
    choose = random.Random(seed)
    own = dict(mesh.workloads)
    for name in choose.sample(sorted(own), 3):
        changed: dict[str, Any] = choose.choice(
            (
                {"health": choose.choice(("/healthz", "/a", None))},
                {"ignore_case": not own[name].ignore_case},
                {"path_parameters": not own[name].path_parameters},
                {"websocket": not own[name].websocket},
                {"mode": choose.choice((Mode.OBSERVE, Mode.ENFORCE))},
            )
        )
        own[name] = replace(own[name], **changed)
    other = replace(mesh, workloads=own, enforced=frozenset({choose.choice(("core", "edge"))}))
    policy = Generator(other, seed).policy()
    names = sorted(mesh.targets)
    about = None if choose.random() < 0.5 else frozenset(choose.sample(names, len(names) // 2))
    shut = choose.sample(sorted(own), choose.choice((0, 0, 2)))
    return Candidate(quarantined(policy, shut), policy.version, about)


class Pairs:
    """An enforced policy and a candidate, held by the proxy, and what was asked of them."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab, self.generator = lab, Generator(lab.mesh, seed)
        self.candidate = _candidate(lab.mesh, seed + 1000)
        # Quarantine is of the mesh, whichever rules are asked.
        self.policy = quarantined(self.generator.policy(), self.candidate.policy.quarantined)
        lab.proxy.hold(self.policy, candidate=self.candidate)
        self._asked: list[tuple[Request, bool, str]] = []

    def add(self, request: Request, passed: bool, id: str) -> None:
        self._asked.append((request, passed, id))

    def agree(self) -> tuple[int, int]:
        """How many answers of the candidate were compared, and how many of them differ from those of the policy."""
        compared = apart = 0
        for request, passed, id in self._asked:
            record = self.lab.proxy.record(id)
            said = _compared(self.policy, self.candidate, request, passed, record)
            compared += said is not None
            apart += said is not None and said != decide(self.policy, request).allowed
        return compared, apart


def _compared(
    policy: Policy, candidate: Candidate, request: Request, passed: bool, record: dict[str, Any]
) -> bool | None:
    """What the candidate says of a request, if it was asked; and all that must hold."""
    decided, beside = decide(policy, request), decide(candidate.policy, request)
    shown = f"{request}: {decided}, {beside}\n{record}"
    target = policy.mesh.target(request.target)
    if "er" in record and not (target and target.protocol is Protocol.TCP and request.operation != ConnectOperation()):
        assert passed == goes_through(policy, request), shown
        if decided.rule is not None:
            assert record["ep"] == decided.rule.id, shown
        else:
            assert record["ep"].startswith("septum."), shown
    else:
        assert not passed, shown
    about = candidate.targets is None or request.target in candidate.targets
    assert ("sp" in record) <= (about and target is not None), shown
    if "sp" not in record:
        # What Envoy refuses by itself nobody is asked about; and then neither allows it, or the route takes no upgrade.
        assert not about or not passed, shown
        return None
    assert record["cv"] == candidate.version, shown
    if beside.rule is not None:
        assert record["sp"] == beside.rule.id, shown
    else:
        assert record["sp"].startswith("septum."), shown
    return beside.allowed


TOTAL: list[tuple[int, int]] = []


@pytest.mark.parametrize("seed", range(500, 500 + POLICIES // 2))
def test_http1(lab: Lab, seed: int) -> None:
    pairs = Pairs(lab, seed)
    connections = {name: h1.Connection(_outbound(lab.mesh, name)) for name in lab.mesh.workloads}
    for number in range(REQUESTS):
        caller, target, method, path, upgrade = pairs.generator.http()
        id = f"c1-{seed}-{number}"
        answer = connections[caller].send(_raw(method, path, target, id, upgrade), head=method == "HEAD")
        if answer.status != 400:  # refused before there is a request id
            pairs.add(Request(caller, target, http_operation(method, path, websocket=upgrade)), answer.from_backend, id)
    TOTAL.append(pairs.agree())
    for connection in connections.values():
        connection.close()


@pytest.mark.parametrize("seed", range(600, 600 + POLICIES // 4))
def test_grpc(lab: Lab, seed: int) -> None:
    pairs, choose = Pairs(lab, seed), random.Random(seed)
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        for number in range(REQUESTS // 2):
            caller, id = choose.choice(list(lab.mesh.workloads)), f"cg-{seed}-{number}"
            service, method = choose.choice(("p.S", "p.Sx", "q.T")), choose.choice(("M", "N", "MM"))
            headers = {"host": "rpc", "x-request-id": id, "content-type": "application/grpc", "te": "trailers"}
            url = f"http://127.0.0.1:{_outbound(lab.mesh, caller)}/{service}/{method}"
            answer = client.post(url, headers=headers, content=b"\0\0\0\0\0")
            passed = answer.content[5:] == f"/{service}/{method}".encode()
            pairs.add(Request(caller, "rpc", GrpcOperation(service, method)), passed, id)
    TOTAL.append(pairs.agree())


@pytest.mark.parametrize("seed", range(700, 700 + POLICIES // 4))
def test_tcp(lab: Lab, seed: int) -> None:
    pairs = Pairs(lab, seed)
    for caller in lab.mesh.workloads:
        for target in ("store", "watched-store", "vault", "watched-vault"):
            found, id = lab.mesh.targets[target], f"ct-{seed}-{caller}-{target}"
            authority = f"{target}:{found.port if isinstance(found, External) else found.at.port}"
            asked = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", _outbound(lab.mesh, caller)), 10) as session:
                session.sendall(asked.encode())
                with session.makefile("rb") as file:
                    status = int(file.readline().split()[1])
                    while file.readline().strip():
                        pass
                    passed = status == 200 and file.readline() == b"HELLO\r\n"
            pairs.add(Request(caller, target, ConnectOperation()), passed, id)
    TOTAL.append(pairs.agree())


def test_enough_was_compared_to_say_something() -> None:
    compared, apart = (sum(counts) for counts in zip(*TOTAL, strict=True))
    print(f"\n{compared} answers of candidates compared, {apart} of them other than the policy's")
    assert compared > 20 * len(TOTAL)
    assert apart > len(TOTAL)
