"""What the square is made of: a proxy, a mesh, random policies over it, and requests that are sent and judged."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import h1
import h2raw
import httpx
import z3
from proxy import Proxy, backends, free_port, running_proxy

from judges import Difference, Judges
from oracle import Question, naming
from septum.model.decision import Decision, Request
from septum.model.mesh import Address, External, Mesh, Mode, Protocol, Segment, Workload
from septum.model.operation import METHODS, ConnectOperation, GrpcOperation, HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.ask import http_operation
from septum.policy.decide import decide
from septum.verify import region

WORDS = ("a", "b", "B", "orders", "42", "x.y", "a+b", "%C3%A9", "healthz", "a-b~")
METHODS_SENT = (*METHODS, "TRACE", "PROPFIND")
SERVICES = ("p.S", "p.Sx", "q.T")
RPCS = ("M", "N", "MM")

_NOW, _HOUR = int(time.time()), 3600
# Open now and not open now, hours away from either: what happens at the edges is another test's.
_WINDOWS = (
    Window(None, _NOW + 4 * _HOUR),
    Window(_NOW - 4 * _HOUR),
    Window(_NOW - 4 * _HOUR, _NOW + 4 * _HOUR),
    Window(None, _NOW - 4 * _HOUR),
    Window(_NOW + 4 * _HOUR),
    Window(_NOW - 8 * _HOUR, _NOW - 4 * _HOUR),
)


# Caller, target, method, request target, and whether to ask for a WebSocket.
Operation = tuple[str, str, str, str, bool]


@dataclass(frozen=True)
class Lab:
    """The proxy, and the mesh that every generated policy is about."""

    proxy: Proxy
    mesh: Mesh


@dataclass(frozen=True)
class Sent:
    """A request and what became of it. One that was refused before it had an id has no record, nor an id here.

    `again` sends the same once more, under another name.
    """

    request: Request
    passed: bool
    id: str
    again: Callable[[str], list[Sent]] = field(compare=False, repr=False)


@contextmanager
def square_lab() -> Iterator[Lab]:
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

    def __init__(self, mesh: Mesh, seed: int, grants: float = 0) -> None:
        """`grants` is which share of the rules has a window."""
        self.mesh, self.random, self._grants = mesh, random.Random(seed), grants

    def policy(self) -> Policy:
        rules = [self._rule(index) for index in range(self.random.choice((0, 1, 8, 30, 80)))]
        return self._versioned(rules)

    def near(self, policy: Policy) -> Policy:
        """The policy with one rule less, one more, or one with other operations."""
        rules, at = list(policy.rules), self.random.randrange(len(policy.rules) + 1)
        fresh = replace(self._rule(at), id=f"new{at}")
        rules[at : at + 1] = self.random.choice(([], [*rules[at : at + 1], fresh], [fresh]))
        return self._versioned(rules)

    def _versioned(self, rules: Iterable[Rule]) -> Policy:
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
        window = r.choice(_WINDOWS) if self._grants and r.random() < self._grants else None
        words = {"callers_text": ",".join(callers), "targets_text": target.name}
        return Rule(f"r{index}", callers, (target.name,), operations, window=window, **words)

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

    def http(self) -> Operation:
        """Any request."""
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

    def near_a_rule(self, policy: Policy) -> Operation:
        """Any request, or one that some rule nearly or fully opens."""
        caller, target, method, path, upgrade = self.http()
        rules = [rule for rule in policy.rules if policy.mesh.targets[rule.targets[0]].protocol is Protocol.HTTP]
        if not rules or self.random.random() < 0.5:
            return caller, target, method, path, upgrade
        r = self.random
        rule = r.choice(rules)
        pattern = r.choice(rule.operations or ())
        words = [r.choice(WORDS) if word is None else word for word in pattern.path.segments]
        words += r.choices(WORDS, k=r.randint(0, 2)) if pattern.path.tail else []
        if words and r.random() < 0.3:
            at = r.randrange(len(words))
            words[at] = r.choice((words[at].swapcase(), words[at] + ";v=1", "", r.choice(WORDS)))
        method = r.choice(pattern.methods)
        return r.choice(rule.callers), rule.targets[0], method, "/" + "/".join(words), method == "GET" and upgrade


def asked(caller: str, target: str, method: str, path: str, upgrade: bool = False) -> Request:
    """The request that a proxy sees when this is sent now."""
    return Request(caller, target, http_operation(method, path, websocket=upgrade), time=time.time())


def sending(request: Request) -> Operation:
    """What to send for an HTTP request that was found."""
    operation = request.operation
    assert isinstance(operation, HttpOperation)
    return request.caller, request.target, operation.method, operation.path, operation.websocket


def send_http1(lab: Lab, operations: Iterable[Operation], name: str) -> list[Sent]:
    """Send each as it is written, on one connection of its caller."""
    connections = {caller: h1.Connection(_outbound(lab.mesh, caller)) for caller in lab.mesh.workloads}
    sent = []
    for number, (caller, target, method, path, upgrade) in enumerate(operations):
        id = f"{name}-{number}"
        answer = connections[caller].send(_raw(method, path, target, id, upgrade), head=method == "HEAD")
        request = asked(caller, target, method, path, upgrade)
        again = partial(send_http1, lab, [(caller, target, method, path, upgrade)])
        sent.append(Sent(request, answer.from_backend, "" if answer.status == 400 else id, again))
    for connection in connections.values():
        connection.close()
    return sent


def send_http2(lab: Lab, operations: Iterable[Operation], name: str) -> list[Sent]:
    """Send each as raw frames, since HTTP libraries tidy up paths by themselves; no WebSockets."""
    sent = []
    for number, (caller, target, method, path, _) in enumerate(operations):
        id = f"{name}-{number}"
        pseudo = {":method": method, ":scheme": "http", ":authority": target, ":path": path, "x-request-id": id}
        headers = [(key.encode(), value.encode()) for key, value in pseudo.items()]
        answer = h2raw.send(_outbound(lab.mesh, caller), headers)
        request, again = (
            asked(caller, target, method, path),
            partial(send_http2, lab, [(caller, target, method, path, False)]),
        )
        sent.append(Sent(request, answer.from_backend, "" if answer.status == 400 else id, again))
    return sent


def send_grpc(lab: Lab, calls: Iterable[tuple[str, str, str]], name: str) -> list[Sent]:
    """Call methods (caller, service, method) of the one workload that speaks gRPC."""
    sent = []
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        for number, (caller, service, method) in enumerate(calls):
            id = f"{name}-{number}"
            headers = {"host": "rpc", "x-request-id": id, "content-type": "application/grpc", "te": "trailers"}
            url = f"http://127.0.0.1:{_outbound(lab.mesh, caller)}/{service}/{method}"
            answer = client.post(url, headers=headers, content=b"\0\0\0\0\0")
            passed = answer.content[5:] == f"/{service}/{method}".encode()
            assert passed or answer.headers["grpc-status"] == "7", answer.headers  # PERMISSION_DENIED
            request = Request(caller, "rpc", GrpcOperation(service, method), time=time.time())
            sent.append(Sent(request, passed, id, partial(send_grpc, lab, [(caller, service, method)])))
    return sent


def send_connects(lab: Lab, pairs: Iterable[tuple[str, str]], name: str) -> list[Sent]:
    """Open a session from a workload to something that takes sessions, for each pair."""
    sent = []
    for number, (caller, target) in enumerate(pairs):
        id, found = f"{name}-{number}", lab.mesh.targets[target]
        authority = f"{target}:{found.port if isinstance(found, External) else found.at.port}"
        connect = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", _outbound(lab.mesh, caller)), 10) as session:
            session.sendall(connect.encode())
            with session.makefile("rb") as file:
                status = int(file.readline().split()[1])
                while file.readline().strip():
                    pass
                passed = status == 200 and file.readline() == b"HELLO\r\n"
        request = Request(caller, target, ConnectOperation(), time=time.time())
        sent.append(Sent(request, passed, id, partial(send_connects, lab, [(caller, target)])))
    return sent


def agree(lab: Lab, policy: Policy, sent: Iterable[Sent]) -> list[Sent]:
    """`decide`, the set algebra and z3 agree about each request, and so does Envoy. Raises Difference.

    What could not be sent on to the backend was sent once more: that says nothing about a policy.
    """
    sent = [_reached(lab, one) for one in sent]
    judges = Judges(policy, [one.request for one in sent])
    for one in sent:
        try:
            judges.agreed(one.request)
            _agree(lab, policy, one.request, one.passed, one.id)
        except Difference as difference:
            difference.again = one.again
            raise
    return sent


def _reached(lab: Lab, sent: Sent) -> Sent:
    """The request, or the same once more when the connection to the backend failed or broke (response flags)."""
    if sent.passed or not sent.id:
        return sent
    flags = str(lab.proxy.record(sent.id).get("flags", "")).split(",")
    return sent.again(f"{sent.id}-again")[0] if {"UF", "UC"} & set(flags) else sent


def _agree(lab: Lab, policy: Policy, request: Request, passed: bool, id: str) -> None:
    """Envoy's verdict, what it recorded of it, and the rule that it named are those of `decide`. Raises Difference."""
    decision = decide(policy, request)
    target, session = policy.mesh.target(request.target), isinstance(request.operation, ConnectOperation)
    observed = target is not None and policy.mesh.mode(target) is Mode.OBSERVE
    record = lab.proxy.record(id) if id else {}

    def check(what: str, holds: bool) -> None:
        if not holds:
            said = {"decide": decision.allowed, "Envoy": passed}
            raise Difference(policy, request, said, f"{what} of Envoy is another; it wrote {record}")

    if not id:
        check("verdict", not passed and not decision.allowed)
        return
    check("caller", record["caller"] == str(policy.mesh.spiffe(request.caller)))
    if observed and "er" in record:
        speaks = target is not None and (target.protocol is not Protocol.TCP or session)
        check("verdict", passed == speaks)
        check("rule", not speaks or _names(decision, record.get("ep")))
        return
    check("verdict", passed == decision.allowed)
    if "er" in record:
        check("record", record["er"] == ("allowed" if decision.allowed else "denied"))
        check("rule", _names(decision, record.get("ep")))


def _names(decision: Decision, named: object) -> bool:
    return named == decision.rule.id if decision.rule is not None else str(named).startswith("septum.")


def witnesses(old: Policy, new: Policy) -> list[Request]:
    """What z3 and the set algebra find that the old policy alone allows now: HTTP requests to enforced targets.

    Fails where one finds something and the other does not.
    """
    found = []
    for caller in old.mesh.workloads:
        for target in old.mesh.targets.values():
            one, other = (naming(policy, caller, target.name) for policy in (old, new))
            enforced = old.mesh.mode(target) is Mode.ENFORCE
            if enforced and target.protocol is Protocol.HTTP and one != other:
                found += _between(Question(target, [*one, *other]), one, other, caller)
    return found


def _between(question: Question, one: list[Rule], other: list[Rule], caller: str) -> list[Request]:
    target = question.target
    soon = region.since(_NOW) - region.since(_NOW + _HOUR)
    left = (region.of_rules(one, target) - region.of_rules(other, target)) & soon
    plain = z3.And(question.at(_NOW), z3.Not(question.websocket))
    by_z3 = question.satisfying(z3.And(question.allowed(one), z3.Not(question.allowed(other)), plain), caller)
    witness = left.witness(target)
    if (by_z3 is None) != (witness is None):
        raise AssertionError(f"z3: {by_z3}\nregion: {witness}\n{one}\n{other}")
    if by_z3 is None or witness is None:
        return []
    return [by_z3, Request(caller, target.name, witness.operation, witness.claims, _NOW)]


def _outbound(mesh: Mesh, caller: str) -> int:
    outbound = mesh.workloads[caller].outbound
    assert outbound is not None
    return outbound.port


def _raw(method: str, path: str, target: str, request_id: str, upgrade: bool) -> bytes:
    more = "upgrade: websocket\r\nconnection: upgrade\r\n" if upgrade else ""
    return f"{method} {path} HTTP/1.1\r\nhost: {target}\r\nx-request-id: {request_id}\r\n{more}\r\n".encode()
