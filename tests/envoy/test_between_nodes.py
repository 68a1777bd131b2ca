"""Calls from one node to another mean what `decide` says, are recorded once, and prove who is on either side."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import h1
import h2raw
import httpx
import pytest
from backends import GREETING, GrpcEcho, TcpGreeter
from nodes import Nodes, port, running_nodes, spiffe, workload
from proxy import backends, free_port, wait_for
from square import RPCS, SERVICES, Generator

from septum.model.decision import Decision, Request
from septum.model.mesh import Address, Mesh, Mode
from septum.model.operation import ConnectOperation, GrpcOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.ask import http_operation
from septum.policy.decide import decide

pytestmark = pytest.mark.xdist_group("between nodes")

POLICIES, REQUESTS = 8, 60


@dataclass(frozen=True)
class Lab:
    nodes: Nodes
    mesh: Mesh

    def record(self, request_id: str) -> dict[str, Any]:
        """The record of a request, on whichever node."""

        def found() -> dict[str, Any] | None:
            for proxy in self.nodes.proxies.values():
                proxy.take_records()
                if request_id in proxy.records:
                    return proxy.records[request_id]
            return None

        record: dict[str, Any] = wait_for(found, f"a record of {request_id}")
        return record

    def each_once(self, prefix: str) -> None:
        """No request is on record twice. What was asked last is waited for, so that nothing is still to come."""
        for caller in self.mesh.workloads:
            h1.Connection(port(self.mesh, caller)).send(_get("nobody", "/", f"last-{prefix}-{caller}"))
        for caller in self.mesh.workloads:
            self.record(f"last-{prefix}-{caller}")
        lines = [line for proxy in self.nodes.proxies.values() for line in proxy.lines]
        counted = Counter(line["id"] for line in lines if line.get("id", "").startswith(prefix))
        assert max(counted.values()) == 1, [id for id, times in counted.items() if times > 1]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_nodes("alpha", "beta", "gamma") as nodes:
        workloads = [
            workload("plain", "alpha", at["http"], health="/healthz"),
            workload("folding", "gamma", at["http"], ignore_case=True, health="/healthz"),
            workload("matrix", "beta", at["http"], path_parameters=True),
            workload("socket", "beta", at["http"], websocket=True),
            workload("seen", "beta", at["http"], segment="edge"),
            workload("rpc", "gamma", at["grpc"], "grpc"),
            workload("store", "beta", at["tcp"], "tcp"),
            workload("watched-store", "gamma", at["tcp"], "tcp", segment="edge"),
        ]
        yield Lab(nodes, nodes.mesh(*workloads))


def _get(target: str, path: str, id: str, more: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: {target}\r\nx-request-id: {id}\r\n{more}\r\n".encode()


def _agree(lab: Lab, policy: Policy, request: Request, passed: bool, request_id: str) -> None:
    """The verdict of both nodes together, its one record and the rule that it names are those of `decide`."""
    decision, record = decide(policy, request), lab.record(request_id)
    shown = f"{request}: {decision}\n{record}"
    target = policy.mesh.workloads.get(request.target)
    assert record["caller"] == spiffe(request.caller), shown
    if passed:
        assert target, shown
        assert record["node"] == target.node, shown
    if target and policy.mesh.mode(target) is Mode.OBSERVE and "ep" in record:
        assert passed, shown
        _same_rule(decision, record["ep"], shown)
    elif not (target and policy.mesh.mode(target) is Mode.OBSERVE):
        assert passed == decision.allowed, shown
        if "er" in record:
            assert record["er"] == ("allowed" if decision.allowed else "denied"), shown
            _same_rule(decision, record["ep"], shown)


def _same_rule(decision: Decision, named: str, shown: str) -> None:
    assert named == decision.rule.id if decision.rule else named.startswith("septum."), shown


@pytest.mark.parametrize("seed", range(POLICIES))
def test_the_square_over_http1(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.nodes.hold(policy)
    connections = {name: h1.Connection(port(lab.mesh, name)) for name in lab.mesh.workloads}
    asked: list[tuple[Request, bool, str]] = []
    for number in range(REQUESTS):
        caller, target, method, path, upgrade = generator.http()
        id, more = f"n1-{seed}-{number}", "upgrade: websocket\r\nconnection: upgrade\r\n" if upgrade else ""
        answer = connections[caller].send(_get(target, path, id, more, method), head=method == "HEAD")
        request = Request(caller, target, http_operation(method, path, websocket=upgrade))
        if answer.status == 400:
            assert not decide(policy, request).allowed, (method, path)
            continue
        asked.append((request, answer.from_backend, id))
    for connection in connections.values():
        connection.close()
    for request, passed, id in asked:
        _agree(lab, policy, request, passed, id)
    lab.each_once(f"n1-{seed}-")


@pytest.mark.parametrize("seed", range(100, 100 + POLICIES // 2))
def test_the_square_over_http2(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.nodes.hold(policy)
    asked: list[tuple[Request, bool, str]] = []
    for number in range(REQUESTS):
        caller, target, method, path, _ = generator.http()
        id = f"n2-{seed}-{number}"
        pseudo = {":method": method, ":scheme": "http", ":authority": target, ":path": path, "x-request-id": id}
        headers = [(name.encode(), value.encode()) for name, value in pseudo.items()]
        answer = h2raw.send(port(lab.mesh, caller), headers)
        request = Request(caller, target, http_operation(method, path))
        if answer.status == 400:
            assert not decide(policy, request).allowed, (method, path)
            continue
        asked.append((request, answer.from_backend, id))
    for request, passed, id in asked:
        _agree(lab, policy, request, passed, id)
    lab.each_once(f"n2-{seed}-")


@pytest.mark.parametrize("seed", range(200, 200 + POLICIES // 2))
def test_the_square_over_grpc(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed)
    policy = generator.policy()
    lab.nodes.hold(policy)
    asked: list[tuple[Request, bool, str]] = []
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        for number in range(REQUESTS):
            caller = generator.random.choice(list(lab.mesh.workloads))
            service, method = generator.random.choice(SERVICES), generator.random.choice(RPCS)
            id = f"ng-{seed}-{number}"
            headers = {"host": "rpc", "x-request-id": id, "content-type": "application/grpc", "te": "trailers"}
            url = f"http://127.0.0.1:{port(lab.mesh, caller)}/{service}/{method}"
            answer = client.post(url, headers=headers, content=b"\0\0\0\0\0")
            passed = answer.content[5:] == f"/{service}/{method}".encode()
            assert passed or answer.headers["grpc-status"] == "7", answer.headers  # PERMISSION_DENIED
            asked.append((Request(caller, "rpc", GrpcOperation(service, method)), passed, id))
    for request, passed, id in asked:
        _agree(lab, policy, request, passed, id)
    lab.each_once(f"ng-{seed}-")


@pytest.mark.parametrize("seed", range(300, 300 + POLICIES // 2))
def test_the_square_over_tcp(lab: Lab, seed: int) -> None:
    policy = Generator(lab.mesh, seed).policy()
    lab.nodes.hold(policy)
    for caller in lab.mesh.workloads:
        for target in ("store", "watched-store"):
            id, authority = f"nt-{seed}-{caller}-{target}", f"{target}:{lab.mesh.workloads[target].at.port}"
            outbound = ("127.0.0.1", port(lab.mesh, caller))
            with socket.create_connection(outbound, 10) as wire, wire.makefile("rb") as file:
                wire.sendall(_get(authority, authority, id, method="CONNECT"))
                passed = b" 200 " in file.readline()
                while file.readline().strip():
                    pass
                assert not passed or file.readline() == b"HELLO\r\n"
            _agree(lab, policy, Request(caller, target, ConnectOperation()), passed, id)
    lab.each_once(f"nt-{seed}-")


@dataclass(frozen=True)
class Pair:
    """`web`, and `idle` without a rule, on one node; `echo`, `rpc` and `store` on the other."""

    nodes: Nodes
    mesh: Mesh
    store: TcpGreeter

    def policy(self, *more: Rule) -> Policy:
        everything = (HttpPattern.parse("* /**"),)
        rules = (
            Rule("echo", ("web",), ("echo",), everything),
            Rule("rpc", ("web",), ("rpc",), everything),
            Rule("store", ("web",), ("store",), None),
        )
        return Policy(self.mesh, rules + more, "v")

    def get(self, id: str, caller: str = "web", more: str = "") -> h1.Answer:
        connection = h1.Connection(port(self.mesh, caller))
        try:
            return connection.send(_get("echo", "/path", id, more))
        finally:
            connection.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with backends() as at, TcpGreeter() as store, GrpcEcho() as rpc, running_nodes("alpha", "beta") as nodes:
        dials = {"store": Address("127.0.0.1", free_port())}
        callers = [
            workload("web", "alpha", at["http"], dials=dials),
            workload("idle", "alpha", at["http"], dials={"store": Address("127.0.0.1", free_port())}),
        ]
        targets = [
            workload("echo", "beta", at["http"]),
            workload("rpc", "beta", Address.parse(rpc.address), "grpc"),
            workload("store", "beta", Address.parse(store.address), "tcp"),
        ]
        pair = Pair(nodes, nodes.mesh(*callers, *targets), store)
        nodes.hold(pair.policy())
        yield pair


def test_a_request_keeps_its_id_and_its_trace(pair: Pair) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = pair.get("kept", more=f"traceparent: {trace}\r\ntracestate: a=b\r\n")
    assert (answer.status, answer.headers["x-request-id"]) == (200, "kept")
    for header in ("x-request-id: kept", f"traceparent: {trace}", "tracestate: a=b"):
        assert header.encode() in answer.body
    assert b"x-septum" not in answer.body
    node, record = pair.nodes.one_record("kept")
    assert (node, record["ep"], record["tp"], record["sni"]) == ("beta", "echo", trace, "web.echo.lab.test")


def test_the_target_is_told_who_calls(pair: Pair) -> None:
    answer = pair.get("told", more="x-forwarded-client-cert: URI=spiffe://lab.test/idle\r\n")
    assert f"URI={spiffe('web')}".encode() in answer.body
    assert b"lab.test/idle" not in answer.body


def test_a_caller_without_a_rule_goes_no_further_than_its_own_node(pair: Pair) -> None:
    assert pair.get("stopped", caller="idle").status == 403
    node, record = pair.nodes.one_record("stopped")
    assert (node, record["er"], record["target"]) == ("alpha", "denied", "echo")


def test_a_target_that_no_caller_of_a_node_may_reach_is_not_there(pair: Pair) -> None:
    """`web` is on the other node for `echo`, and no rule names the pair."""
    connection = h1.Connection(port(pair.mesh, "echo"))
    assert connection.send(_get("web", "/", "not there")).status == 403
    connection.close()
    node, record = pair.nodes.one_record("not there")
    assert (node, record["er"], record["authority"]) == ("beta", "denied", "web")


def test_grpc_in_both_directions(pair: Pair) -> None:
    options = (("grpc.default_authority", "rpc"), ("grpc.enable_http_proxy", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port(pair.mesh, 'web')}", options) as channel:
        assert list(channel.unary_stream("/test.Echo/Count")(b"500", timeout=10)) == [b"%d" % n for n in range(500)]
        assert channel.stream_unary("/test.Echo/Collect")(iter([b"a", b"b"]), timeout=10) == b"a,b"
        call = channel.unary_unary("/test.Echo/Unary").with_call(b"x" * 100_000, timeout=10)
        assert (len(call[0]), dict(call[1].trailing_metadata())["x-sum"]) == (100_000, "100000")


def test_a_server_that_speaks_first_by_an_address(pair: Pair) -> None:
    with socket.create_connection(("127.0.0.1", pair.mesh.workloads["web"].dials["store"].port), 10) as session:
        assert session.recv(100) == GREETING
        session.sendall(b"ping")
        assert session.recv(100) == b"ping"


def test_half_a_session_ends_and_the_answer_still_comes(pair: Pair) -> None:
    body = b"x" * (2 << 20)
    with socket.create_connection(("127.0.0.1", pair.mesh.workloads["web"].dials["store"].port), 10) as session:
        sender = threading.Thread(target=lambda: (session.sendall(body), session.shutdown(socket.SHUT_WR)))
        sender.start()
        received = b"".join(iter(lambda: session.recv(1 << 18), b""))
        sender.join()
    assert received == GREETING + body


def test_a_denied_caller_opens_no_session_at_the_target(pair: Pair) -> None:
    before = pair.store.sessions
    with socket.create_connection(("127.0.0.1", pair.mesh.workloads["idle"].dials["store"].port), 10) as session:
        assert _ends(session)
    assert pair.store.sessions == before
    alpha = pair.nodes.proxies["alpha"]

    def recorded() -> list[dict[str, Any]]:
        alpha.take_records()
        return [line for line in alpha.lines if line["caller"] == spiffe("idle") and line["method"] == "CONNECT"]

    (line,) = wait_for(recorded, "a record")
    assert (line["er"], line["target"]) == ("denied", "store")


def test_a_server_that_is_somebody_else_is_not_spoken_to(pair: Pair) -> None:
    """Its certificate is good, and another workload's."""
    right = pair.nodes.leaves["echo"]
    pair.nodes.leaves["echo"] = pair.nodes.ca.issue(spiffe("idle"), dns=["echo.lab.test"])
    try:
        pair.nodes.hold(_moved(pair))
        answer = pair.get("somebody else")
        assert (answer.status, answer.from_backend) == (503, False)
        node, record = pair.nodes.one_record("somebody else")
        assert (node, record["ep"], record["code"]) == ("alpha", "septum.forward", 503)
        assert "UF" in record["flags"]
        assert "spiffe://lab.test/idle" in record["tls"]
    finally:
        pair.nodes.leaves["echo"] = right
        pair.nodes.hold(pair.policy())


def _moved(pair: Pair) -> Policy:
    """The same with another connect time-out for `echo`, so that the connections to it are new ones."""
    echo = pair.mesh.workloads["echo"]
    moved = replace(echo, timeouts=replace(echo.timeouts, connect=echo.timeouts.connect + 1))
    mesh = replace(pair.mesh, workloads={**pair.mesh.workloads, "echo": moved})
    return replace(pair.policy(), mesh=mesh)


def test_a_node_that_is_not_there_is_on_record_where_the_call_was_made(pair: Pair) -> None:
    beta = pair.mesh.nodes["beta"]
    gone = replace(beta, inbound=Address("127.0.0.1", free_port()))
    mesh = replace(pair.mesh, nodes={**pair.mesh.nodes, "beta": gone})
    alpha = pair.nodes.proxies["alpha"]
    try:
        alpha.hold(replace(pair.policy(), mesh=mesh))
        assert pair.get("gone").status == 503
        node, record = pair.nodes.one_record("gone")
        assert (node, record["ep"], record["target"]) == ("alpha", "septum.forward", "echo")
        assert "UF" in record["flags"]
    finally:
        alpha.hold(pair.policy())


def test_certificates_and_authorities_change_under_load_without_a_failed_request(pair: Pair) -> None:
    done, failed, answers = threading.Event(), [], Counter[int]()

    def ask() -> None:
        while not done.is_set():
            answer = pair.get("load")
            answers[answer.status] += 1
            if answer.status != 200:
                failed.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for step in range(6):
            seen = answers.total()
            pair.nodes.leaves.clear()
            if step == 2:
                pair.nodes.trusted = (pair.nodes.ca, new := type(pair.nodes.ca)("new"))
            if step == 3:
                pair.nodes.ca = new
            if step == 5:
                pair.nodes.trusted = (new,)
            pair.nodes.hold(_moved(pair) if step % 2 else pair.policy())
            wait_for(lambda seen=seen: answers.total() > seen + 50 or failed, "requests after the change")
    finally:
        done.set()
        for thread in threads:
            thread.join()
        pair.nodes.hold(pair.policy())
    assert not failed
    assert answers[200] > 300


def _ends(session: socket.socket) -> bool:
    try:
        return session.recv(100) == b""
    except ConnectionResetError:
        return True
