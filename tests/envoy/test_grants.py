"""Grants in the proxy: windows mean what `decide` says at the time on record, and end on time with nobody there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import h1
import h2raw
import pytest
from nodes import port, running_nodes, workload
from proxy import Proxy, backends, running_proxy, wait_for
from square import RPCS, SERVICES, Generator, Lab, _agree, _mesh, _outbound, _raw
from test_tunnels import ask as asked_inside
from test_tunnels import tunnel
from token_lab import Asked, asking, bearer, policy_of, rule, token_lab
from tokens import AUDIENCE, ISSUER, Signer, jwks

from septum.model.decision import Request
from septum.model.mesh import External, Issuer, Mesh
from septum.model.operation import ConnectOperation, GrpcOperation
from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.ask import http_operation

pytestmark = pytest.mark.xdist_group("grants")

LONG = 1_000_000


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_proxy() as proxy:
        yield Lab(proxy, _mesh(at))


class Timed(Generator):
    """Rules of which most have a window, with edges long ago, long from now, and in the next two seconds."""

    def __init__(self, mesh: Mesh, seed: int) -> None:
        super().__init__(mesh, seed)
        now = int(time.time())
        self.crossed = now + 2
        self.edges = (now - LONG, now - 60, now + 1, now + 2, now + 3600, now + LONG)

    def _rule(self, index: int) -> Rule:
        made = super()._rule(index)
        return replace(made, window=self._window()) if self.random.random() < 0.8 else made

    def _window(self) -> Window:
        first, second = sorted(self.random.sample(self.edges, 2))
        return self.random.choice((Window(first, second), Window(first), Window(until=second), Window(until=first)))

    def waiting(self) -> bool:
        """Whether some edge is still to come."""
        return time.time() < self.crossed + 0.1


def agree(lab: Lab, policy: Policy, asked: list[tuple[Request, bool, str]]) -> None:
    """As in the square, at the time that the proxy wrote down."""
    assert asked
    for request, passed, request_id in asked:
        at = float(lab.proxy.record(request_id)["t"])
        _agree(lab, policy, replace(request, time=at), passed, request_id)


@pytest.mark.parametrize("seed", range(600, 606))
def test_http1(lab: Lab, seed: int) -> None:
    generator = Timed(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    connections = {name: h1.Connection(_outbound(lab.mesh, name)) for name in lab.mesh.workloads}
    asked: list[tuple[Request, bool, str]] = []
    while generator.waiting():
        caller, target, method, path, upgrade = generator.http()
        request_id = f"h1-{seed}-{len(asked)}"
        answer = connections[caller].send(_raw(method, path, target, request_id, upgrade), head=method == "HEAD")
        if answer.status != 400:
            operation = http_operation(method, path, websocket=upgrade)
            asked.append((Request(caller, target, operation), answer.from_backend, request_id))
    agree(lab, policy, asked)
    for connection in connections.values():
        connection.close()


@pytest.mark.parametrize("seed", range(700, 703))
def test_grpc(lab: Lab, seed: int) -> None:
    generator = Timed(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    asked: list[tuple[Request, bool, str]] = []
    while generator.waiting():
        caller = generator.random.choice(list(lab.mesh.workloads))
        service, method = generator.random.choice(SERVICES), generator.random.choice(RPCS)
        request_id = f"grpc-{seed}-{len(asked)}"
        passed = _grpc(_outbound(lab.mesh, caller), "rpc", f"/{service}/{method}", request_id)
        asked.append((Request(caller, "rpc", GrpcOperation(service, method)), passed, request_id))
    agree(lab, policy, asked)


@pytest.mark.parametrize("seed", range(800, 803))
def test_tcp(lab: Lab, seed: int) -> None:
    generator = Timed(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    asked: list[tuple[Request, bool, str]] = []
    while generator.waiting():
        caller = generator.random.choice(list(lab.mesh.workloads))
        target = generator.random.choice(("store", "watched-store", "vault", "watched-vault"))
        request_id = f"tcp-{seed}-{len(asked)}"
        found = lab.mesh.targets[target]
        authority = f"{target}:{found.port if isinstance(found, External) else found.at.port}"
        passed = _connected(_outbound(lab.mesh, caller), authority, request_id)
        asked.append((Request(caller, target, ConnectOperation()), passed, request_id))
    agree(lab, policy, asked)


def _grpc(at: int, target: str, path: str, request_id: str) -> bool:
    pseudo = {":method": "POST", ":scheme": "http", ":authority": target, ":path": path}
    more = {"x-request-id": request_id, "content-type": "application/grpc", "te": "trailers"}
    headers = [(name.encode(), value.encode()) for name, value in (pseudo | more).items()]
    answer = h2raw.send(at, headers, b"\0\0\0\0\0")
    passed = answer.body[5:] == path.encode()
    assert passed or answer.headers["grpc-status"] == "7", answer  # PERMISSION_DENIED
    return passed


def _connected(at: int, authority: str, request_id: str) -> bool:
    connect = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {request_id}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", at), 10) as session, session.makefile("rwb") as file:
        file.write(connect.encode())
        file.flush()
        status = int(file.readline().split()[1])
        while file.readline().strip():
            pass
        return status == 200 and file.readline() == b"HELLO\r\n"


# The end of a grant, with the control plane gone.

Ask = Callable[[str], bool]


@dataclass
class Ending:
    """What was asked around the end of a grant: when (by the client's clock), and whether it passed."""

    end: int
    asked: list[tuple[float, bool]]

    @property
    def late(self) -> float:
        """Seconds from the end of the grant to the first denial."""
        return min(at for at, passed in self.asked if not passed) - self.end

    def was_on_time(self) -> None:
        """It passed before the end, nothing that was asked from the end on did, and nothing passed after a denial."""
        passing = [passed for _, passed in self.asked]
        assert passing == sorted(passing, reverse=True)
        assert passing[0]
        assert not passing[-1]
        assert [at - self.end for at, passed in self.asked if passed and at >= self.end] == []


def until_it_ended(end: int, ask: Ask, name: str) -> Ending:
    """Ask over and over until the grant is over; how late the first denial was is printed."""
    ending = Ending(end, [])
    while not ending.asked or ending.asked[-1][0] < end + 0.3:
        at = time.time()
        ending.asked.append((at, ask(f"{name}-{len(ending.asked)}")))
    print(f"{name}: {len(ending.asked)} calls, first denial {ending.late * 1e3:.2f} ms after the end")
    return ending


def in_two_seconds() -> int:
    return int(time.time()) + 2


@contextmanager
def alone(proxy: Proxy, policy: Policy) -> Iterator[None]:
    """The policy is held and its control plane is gone."""
    proxy.hold(policy)
    proxy._stop_serving()
    yield
    proxy.serve_again()


def grant(id: str, operation: str, end: int, target: str = "api", callers: tuple[str, ...] = ("web",)) -> Rule:
    return replace(rule(id, operation, target=target, callers=callers), window=Window(until=end))


def test_a_grant_ends_on_time_without_a_control_plane() -> None:
    with token_lab() as lab:
        end = in_two_seconds()
        rules = [
            grant("http", "GET /a", end),
            grant("grpc", "p.S/M", end, "rpc"),
            grant("tcp", "connect", end, "store"),
            grant("observed", "GET /a", end, "seen"),
        ]
        at = _outbound(lab.mesh, "web")
        store = f"store:{lab.mesh.workloads['store'].at.port}"
        kept = h1.Connection(at)
        ways: dict[str, Ask] = {
            "http1": lambda id: lab.ask(Asked("web", "api", "/a")).passed,
            "kept": lambda id: kept.send(_raw("GET", "/a", "api", id, False)).from_backend,
            "http2": lambda id: lab.ask(Asked("web", "api", "/a"), "h2").passed,
            "grpc": lambda id: _grpc(at, "rpc", "/p.S/M", id),
            "tcp": lambda id: _connected(at, store, id),
        }
        with alone(lab.proxy, policy_of(lab.mesh, *rules)):
            endings = {name: Ending(end, []) for name in ways}
            while time.time() < end + 0.3:
                for name, ending in endings.items():
                    asked_at = time.time()
                    ending.asked.append((asked_at, ways[name](f"{name}-{len(ending.asked)}")))
            for name, ending in endings.items():
                print(f"{name}: {len(ending.asked)} calls, first denial {ending.late * 1e3:.2f} ms after the end")
                ending.was_on_time()
            seen = lab.ask(Asked("web", "seen", "/a"))
            assert seen.passed
            assert lab.proxy.record(seen.request_id)["ep"] == "septum.observe"
            lines = [line for line in lab.proxy.lines if line.get("target") in ("api", "rpc", "store")]
            assert len(lines) > 100
            # By the time on record, to the microsecond.
            assert [line for line in lines if (line["er"] == "allowed") != (float(line["t"]) < end)] == []
        kept.close()


def test_a_grant_for_a_place_outside_ends_on_time(lab: Lab) -> None:
    end = in_two_seconds()
    policy = Policy(lab.mesh, (grant("out", "GET /a", end, "partner", ("plain",)),), "v")
    connection = h1.Connection(_outbound(lab.mesh, "plain"))
    with alone(lab.proxy, policy):
        ask = lambda id: connection.send(_raw("GET", "/a", "partner", id, False)).from_backend  # noqa: E731
        until_it_ended(end, ask, "outside").was_on_time()
    connection.close()


def test_inside_a_tunnel_that_stays_open_a_grant_ends_on_time() -> None:
    with token_lab() as lab:
        end = in_two_seconds()
        lab.proxy.hold(policy_of(lab.mesh, grant("inside", "GET /a", end, "web", ("other",))))
        with tunnel(_outbound(lab.mesh, "other"), "web:80") as (status, wire, answers):
            assert status == 200
            ask = lambda id: asked_inside(wire, answers, "GET /a") == 200  # noqa: E731
            until_it_ended(end, ask, "inside").was_on_time()


def test_a_grant_that_begins_opens_nothing_before(lab: Lab) -> None:
    begin = in_two_seconds()
    made = replace(grant("later", "GET /a", 0, "plain", ("socket",)), window=Window(begin, begin + LONG))
    connection = h1.Connection(_outbound(lab.mesh, "socket"))
    with alone(lab.proxy, Policy(lab.mesh, (made,), "v")):
        asked: list[tuple[float, bool]] = []
        while not asked or asked[-1][0] < begin + 0.3:
            at = time.time()
            asked.append((at, connection.send(_raw("GET", "/a", "plain", f"b-{len(asked)}", False)).from_backend))
    assert [passed for _, passed in asked] == sorted(passed for _, passed in asked)
    assert not asked[0][1]
    assert all(passed for at, passed in asked if at >= begin)
    connection.close()


def test_a_request_counts_by_its_first_bytes(lab: Lab) -> None:
    """What a slow client began in time passes, and what it began after the end does not."""
    end = in_two_seconds()
    lab.proxy.hold(Policy(lab.mesh, (grant("slow", "GET /a", end, "plain", ("socket",)),), "v"))
    rest = b"host: plain\r\nx-request-id: slow\r\n\r\n"
    with socket.create_connection(("127.0.0.1", _outbound(lab.mesh, "socket")), 10) as wire:
        wire.sendall(b"GET /a HTTP/1.1\r\n")
        wait_for(lambda: time.time() > end + 0.1, "the end of the grant")
        wire.sendall(rest)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")
        wire.sendall(b"GET /a HTTP/1.1\r\n" + rest.replace(b"slow", b"late"))
        while b"HTTP/1.1 403" not in (got := wire.recv(4096)):
            assert got
    assert float(lab.proxy.record("slow")["t"]) < end
    assert lab.proxy.record("late")["ep"] == "septum.deny"


def test_what_a_client_says_of_the_time_plays_no_part(lab: Lab) -> None:
    over = int(time.time()) - 60
    lab.proxy.hold(Policy(lab.mesh, (grant("over", "GET /a", over, "plain", ("socket",)),), "v"))
    connection = h1.Connection(_outbound(lab.mesh, "socket"))
    for header in ("date", "x-request-start", "x-envoy-start-time", "request.time", "time"):
        for value in (str(over - 60), "Sun, 09 Sep 2001 01:46:40 GMT", "2001-09-09T01:46:40Z"):
            more = f"host: plain\r\n{header}: {value}\r\n\r\n"
            assert not connection.send(f"GET /a HTTP/1.1\r\n{more}".encode()).from_backend
    connection.close()


def test_a_grant_with_a_condition_asks_both() -> None:
    signer = Signer.new("ES256", "one")
    with token_lab(Issuer("login", ISSUER, (AUDIENCE,), jwks(signer))) as lab:
        end = in_two_seconds()
        both = replace(grant("both", "GET /a", end), when=asking())
        lab.proxy.hold(policy_of(lab.mesh, both))
        with_token = Asked("web", "api", "/a", bearer(signer.token({"iss": ISSUER})))
        assert not lab.ask(Asked("web", "api", "/a")).passed
        until_it_ended(end, lambda _: lab.ask(with_token).passed, "with a token").was_on_time()


def test_a_grant_ends_on_time_where_the_target_lives() -> None:
    with backends() as at, running_nodes("alpha", "beta") as nodes:
        mesh = nodes.mesh(
            workload("web", "alpha", at["http"]),
            workload("api", "beta", at["http"]),
            workload("store", "beta", at["tcp"], "tcp"),
        )
        end = in_two_seconds()
        rules = (grant("http", "GET /a", end), grant("tcp", "connect", end, "store"))
        nodes.hold(Policy(mesh, rules, "v"))
        connection = h1.Connection(port(mesh, "web"))
        store = f"store:{mesh.workloads['store'].at.port}"

        def ask(id: str) -> bool:
            one = connection.send(_raw("GET", "/a", "api", id, False)).from_backend
            return one and _connected(port(mesh, "web"), store, f"tcp-{id}")

        until_it_ended(end, ask, "between nodes").was_on_time()
        node, record = nodes.one_record("between nodes-0")
        assert (node, record["ep"]) == ("beta", "http")
        connection.close()
