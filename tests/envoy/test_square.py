"""The square: for generated policies and requests, `decide` and a real Envoy say the same, and name the same rule."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import h1
import h2raw
import httpx
import pytest
from proxy import Proxy, backends, free_port, running_proxy

from septum.model.decision import Decision, Request
from septum.model.mesh import Address, External, Mesh, Mode, Protocol, Segment, Workload
from septum.model.operation import METHODS, ConnectOperation, GrpcOperation, HttpPattern, Operation
from septum.model.policy import Policy, Rule
from septum.policy.ask import http_operation
from septum.policy.decide import decide

WORDS = ("a", "b", "B", "orders", "42", "x.y", "a+b", "%C3%A9", "healthz", "a-b~")
METHODS_SENT = (*METHODS, "TRACE", "PROPFIND")
SERVICES = ("p.S", "p.Sx", "q.T")
RPCS = ("M", "N", "MM")

# Enough for thousands of pairs; the seed is in the test's name, so a failure says how to get it back.
POLICIES = 48
REQUESTS = 80


@dataclass(frozen=True)
class Lab:
    """The proxy, and the mesh that every generated policy is about."""

    proxy: Proxy
    mesh: Mesh


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_proxy() as proxy:
        yield Lab(proxy, _mesh(at))


def _mesh(at: dict[str, Address]) -> Mesh:
    def workload(name: str, segment: str, protocol: Protocol, **more: object) -> Workload:
        outbound = Address("127.0.0.1", free_port())
        return Workload(name, segment, at[protocol.value], protocol, outbound=outbound, **more)  # type: ignore[arg-type]

    workloads = [
        workload("plain", "core", Protocol.HTTP, health="/healthz"),
        workload("folding", "core", Protocol.HTTP, ignore_case=True, health="/healthz"),
        workload("matrix", "core", Protocol.HTTP, path_parameters=True),
        workload("socket", "core", Protocol.HTTP, websocket=True),
        workload("seen", "edge", Protocol.HTTP),
        workload("rpc", "core", Protocol.GRPC),
        workload("store", "core", Protocol.TCP),
        workload("watched-store", "edge", Protocol.TCP),
    ]
    places = [
        External("partner", at["http"].host, at["http"].port, Protocol.HTTP),
        External("watched-partner", "localhost", at["http"].port, Protocol.HTTP, mode=Mode.OBSERVE),
        External("vault", at["tcp"].host, at["tcp"].port, Protocol.TCP),
        External("watched-vault", "localhost", at["tcp"].port, Protocol.TCP, mode=Mode.OBSERVE),
    ]
    segments = {name: Segment(name) for name in ("core", "edge")}
    named, outside = {w.name: w for w in workloads}, {place.name: place for place in places}
    return Mesh("lab", "lab.test", segments, named, frozenset({"core"}), external=outside)


class Generator:
    """Random rules and requests over one small vocabulary, so that they meet often."""

    def __init__(self, mesh: Mesh, seed: int) -> None:
        self.mesh, self.random = mesh, random.Random(seed)

    def policy(self) -> Policy:
        rules = [self._rule(index) for index in range(self.random.choice((0, 1, 8, 30, 80)))]
        return Policy(self.mesh, tuple(rules), f"v{self.random.getrandbits(64)}")

    def _rule(self, index: int) -> Rule:
        r = self.random
        target = r.choice(list(self.mesh.targets.values()))
        callers = tuple(r.sample(list(self.mesh.workloads), r.randint(1, 3)))
        operations: tuple[HttpPattern, ...] | None = None
        if target.protocol is Protocol.HTTP:
            operations = tuple(
                HttpPattern.parse(f"{self._methods()} {self._pattern()}") for _ in range(r.randint(1, 4))
            )
        elif target.protocol is Protocol.GRPC:
            operations = tuple(HttpPattern.parse_grpc(self._rpc_pattern()) for _ in range(r.randint(1, 3)))
        return Rule(f"r{index}", callers, (target.name,), operations, callers_text=",".join(callers))

    def _methods(self) -> str:
        return self.random.choice(("GET", "GET", "POST", "GET,HEAD", "PUT,DELETE", "*"))

    def _pattern(self) -> str:
        r = self.random
        if r.random() < 0.05:
            return r.choice(("/", "/**"))
        words = [r.choice((*WORDS, "{id}", "{x}")) for _ in range(r.randint(1, 3))]
        end = r.choice(("", "", "", "/**", "/"))
        return "/" + "/".join(words) + end

    def _rpc_pattern(self) -> str:
        r = self.random
        return r.choice(
            (f"{r.choice(SERVICES)}/{r.choice(RPCS)}", f"{r.choice(SERVICES)}/*", "*" if r.random() < 0.2 else "p.S/M")
        )

    def path(self) -> str:
        r = self.random
        words = [r.choice(WORDS) for _ in range(r.randint(0, 4))]
        if r.random() < 0.3 and words:
            words[r.randrange(len(words))] = r.choice(
                ("", "..", ".", "a;v=1", "..;x", "%2e%2e;x", "A", "%2E%2e", "a%2fb", "*", "ORDERS", "HealthZ")
            )
        query = r.choice(("", "", "?x=1", "?/a/b", "?a=b;c", "?"))
        return "/" + "/".join(words) + r.choice(("", "", "/")) + query

    def http(self) -> tuple[str, str, str, str, bool]:
        """Caller, target, method, request target, and whether to ask for a WebSocket."""
        r = self.random
        targets = [name for name, target in self.mesh.targets.items() if target.protocol is Protocol.HTTP]
        method = r.choice((*METHODS_SENT, "GET", "GET", "GET"))
        return (
            r.choice(list(self.mesh.workloads)),
            r.choice([*targets, "nobody", "store", "vault"]),
            method,
            self.path(),
            method == "GET" and r.random() < 0.1,
        )


def _agree(lab: Lab, policy: Policy, request: Request, passed: bool, request_id: str) -> None:
    """The verdict, what is recorded of it, and the rule that is named are those of `decide`."""
    decision = decide(policy, request)
    target = policy.mesh.target(request.target)
    observed = target is not None and policy.mesh.mode(target) is Mode.OBSERVE
    record = lab.proxy.record(request_id)
    shown = f"{request}: {decision}\n{record}"
    assert record["caller"] == str(policy.mesh.spiffe(request.caller)), shown
    if observed and "er" in record:
        if (
            target is not None
            and target.protocol is Protocol.TCP
            and not isinstance(request.operation, ConnectOperation)
        ):
            assert not passed, shown
            return
        assert passed, shown
        assert record["sr"] == ("allowed" if decision.allowed else "denied"), shown
        _same_rule(decision, record.get("sp"), shown)
    else:
        assert passed == decision.allowed, shown
        if "er" in record:
            assert record["er"] == ("allowed" if decision.allowed else "denied"), shown
            _same_rule(decision, record.get("ep"), shown)


def _same_rule(decision: Decision, named: object, shown: str) -> None:
    if decision.rule is not None:
        assert named == decision.rule.id, shown
    else:
        assert str(named).startswith("septum."), shown


def _outbound(mesh: Mesh, caller: str) -> int:
    outbound = mesh.workloads[caller].outbound
    assert outbound is not None
    return outbound.port


def _raw(method: str, path: str, target: str, request_id: str, upgrade: bool) -> bytes:
    more = "upgrade: websocket\r\nconnection: upgrade\r\n" if upgrade else ""
    return f"{method} {path} HTTP/1.1\r\nhost: {target}\r\nx-request-id: {request_id}\r\n{more}\r\n".encode()


@pytest.mark.parametrize("seed", range(POLICIES))
def test_http1(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    connections = {name: h1.Connection(_outbound(lab.mesh, name)) for name in lab.mesh.workloads}
    asked: list[tuple[Request, bool, str]] = []
    for number in range(REQUESTS):
        caller, target, method, path, upgrade = generator.http()
        request_id = f"h1-{seed}-{number}"
        answer = connections[caller].send(_raw(method, path, target, request_id, upgrade), head=method == "HEAD")
        operation = http_operation(method, path, websocket=upgrade)
        if answer.status == 400:  # refused before there is a request id: `decide` refuses it too
            assert not decide(policy, Request(caller, target, operation)).allowed, (method, path)
            continue
        asked.append((Request(caller, target, operation), answer.from_backend, request_id))
    for request, passed, request_id in asked:
        _agree(lab, policy, request, passed, request_id)
    for connection in connections.values():
        connection.close()


@pytest.mark.parametrize("seed", range(100, 100 + POLICIES // 2))
def test_http2(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    asked: list[tuple[Request, bool, str]] = []
    for number in range(REQUESTS):
        caller, target, method, path, _ = generator.http()
        request_id = f"h2-{seed}-{number}"
        # Raw frames, since HTTP libraries tidy up paths by themselves.
        pseudo = {":method": method, ":scheme": "http", ":authority": target, ":path": path, "x-request-id": request_id}
        headers = [(name.encode(), value.encode()) for name, value in pseudo.items()]
        answer = h2raw.send(_outbound(lab.mesh, caller), headers)
        request = Request(caller, target, http_operation(method, path))
        if answer.status == 400:
            assert not decide(policy, request).allowed, (method, path)
            continue
        asked.append((request, answer.from_backend, request_id))
    for request, passed, request_id in asked:
        _agree(lab, policy, request, passed, request_id)


@pytest.mark.parametrize("seed", range(200, 200 + POLICIES // 2))
def test_grpc(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    asked: list[tuple[Request, bool, str]] = []
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        for number in range(REQUESTS):
            caller = generator.random.choice(list(lab.mesh.workloads))
            service, method = generator.random.choice(SERVICES), generator.random.choice(RPCS)
            request_id = f"grpc-{seed}-{number}"
            headers = {"host": "rpc", "x-request-id": request_id, "content-type": "application/grpc", "te": "trailers"}
            url = f"http://127.0.0.1:{_outbound(lab.mesh, caller)}/{service}/{method}"
            answer = client.post(url, headers=headers, content=b"\0\0\0\0\0")
            passed = answer.content[5:] == f"/{service}/{method}".encode()
            assert passed or answer.headers["grpc-status"] == "7", answer.headers  # PERMISSION_DENIED
            asked.append((Request(caller, "rpc", GrpcOperation(service, method)), passed, request_id))
    for request, passed, request_id in asked:
        _agree(lab, policy, request, passed, request_id)


@pytest.mark.parametrize("seed", range(300, 300 + POLICIES // 2))
def test_tcp(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    for caller in lab.mesh.workloads:
        for target in ("store", "watched-store", "vault", "watched-vault"):
            request_id = f"tcp-{seed}-{caller}-{target}"
            found = lab.mesh.targets[target]
            authority = f"{target}:{found.port if isinstance(found, External) else found.at.port}"
            connect = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {request_id}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", _outbound(lab.mesh, caller)), 10) as session:
                session.sendall(connect.encode())
                with session.makefile("rb") as file:
                    status = int(file.readline().split()[1])
                    while file.readline().strip():
                        pass
                    passed = status == 200 and file.readline() == b"HELLO\r\n"
            operation: Operation = ConnectOperation()
            _agree(lab, policy, Request(caller, target, operation), passed, request_id)
