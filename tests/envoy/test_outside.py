"""Places outside: decided and recorded on the caller's node, by a real Envoy, in front of real TLS servers."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import h1
import httpx
import pytest
from backends import GREETING, HttpEcho, TcpGreeter
from certificates import HOUR, Ca, Leaf, client_context
from nodes import Nodes, port, running_nodes, workload
from outside_backends import Http2Server, TlsEcho, context
from proxy import Proxy, running_proxy, wait_for

from septum.audit.line import Line, read_line
from septum.audit.outcome import Outcome, outcome
from septum.model.decision import Request
from septum.model.mesh import Address, External, Mesh, Mode, Protocol, Segment, Workload
from septum.model.operation import ConnectOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.ask import http_operation
from septum.policy.decide import decide, goes_through
from septum.policy.quarantine import quarantined

pytestmark = pytest.mark.xdist_group("outside")

CALLERS = ("web", "idle")
READ = (HttpPattern.parse("GET /read/**"),)


@dataclass
class Lab:
    """One node with two callers, of which `web` has rules, and the places outside."""

    proxy: Proxy
    mesh: Mesh
    ca: Ca
    places: dict[str, Any]
    directory: Path
    count: int = 0

    def policy(self, *more: Rule, without: str = "") -> Policy:
        enforced = [place for place in (self.mesh.external or {}).values() if place.mode is Mode.ENFORCE]
        http = tuple(place.name for place in enforced if place.protocol is Protocol.HTTP)
        sessions = (Rule(place, ("web",), (place,), None) for place in ("bank", "vault"))
        rules = (Rule("read", ("web",), http, READ), *sessions)
        return Policy(self.mesh, tuple(rule for rule in (*rules, *more) if rule.id != without), f"v{without}")

    def port(self, caller: str = "web") -> int:
        outbound = self.mesh.workloads[caller].outbound
        assert outbound is not None
        return outbound.port

    def host(self, place: str) -> str:
        """The place as callers outside of any mesh would name it."""
        found = (self.mesh.external or {})[place]
        return f"{found.host}:{found.port}"

    def id(self) -> str:
        self.count += 1
        return f"outside-{self.count}"

    def get(self, authority: str, path: str = "/read/a", caller: str = "web") -> tuple[h1.Answer, dict[str, Any]]:
        """One request by `Host`, and the record of it."""
        connection, id = h1.Connection(self.port(caller)), self.id()
        try:
            request = f"GET {path} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n"
            return connection.send(request.encode()), self.one(id)
        finally:
            connection.close()

    def one(self, id: str) -> dict[str, Any]:
        """The one record of a request."""
        record = self.proxy.record(id)
        assert [line.get("id") for line in self.proxy.lines].count(id) == 1
        return record

    @contextmanager
    def tunnel(self, authority: str, caller: str = "web") -> Iterator[tuple[socket.socket, int, str]]:
        """A CONNECT, with its status and its request id."""
        id = self.id()
        with socket.create_connection(("127.0.0.1", self.port(caller)), 10) as wire:
            wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n") and (byte := wire.recv(1)):
                head += byte
            yield wire, int(head.split()[1]), id

    def says(self, server_name: str | None, ca: Ca | None = None) -> Callable[[socket.socket], ssl.SSLSocket]:
        """A client that starts TLS on a connection, and checks the certificate if it is given an authority."""
        made = ssl.create_default_context(cadata=ca.pem.decode()) if ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is None:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        return lambda wire: made.wrap_socket(wire, server_hostname=server_name)

    def stopped(self, since: int) -> dict[str, Any]:
        """The one record of a gate, of those since so many lines."""

        def found() -> list[dict[str, Any]]:
            self.proxy.take_records()
            return [line for line in self.proxy.lines[since:] if line["type"] == "Gate"]

        (line,) = wait_for(found, "a record of the gate")
        return line

    def lines(self) -> int:
        self.proxy.take_records()
        return len(self.proxy.lines)


def reading(record: dict[str, Any]) -> Outcome:
    """What the record comes to for whoever reads it."""
    line = read_line(json.dumps(record).encode())
    assert isinstance(line, Line)
    return outcome(line)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    ca, stranger = Ca(), Ca("stranger")
    directory = Path(tempfile.mkdtemp(prefix="septum-"))
    with ExitStack() as stack:

        def tls(leaf: Leaf) -> TlsEcho:
            return stack.enter_context(TlsEcho(context(directory, leaf)))

        partner = tls(ca.issue(dns=["partner.localhost"]))
        modern = stack.enter_context(Http2Server(context(directory, ca.issue(dns=["*.modern.localhost"]), "h2")))
        expired = tls(ca.issue(dns=["expired.localhost"], begins=-2 * HOUR, ends=-timedelta(minutes=5)))
        strange = tls(stranger.issue(dns=["strange.localhost"]))
        address = tls(ca.issue(addresses=["127.0.0.1"]))
        bank = tls(ca.issue(dns=["bank.localhost"]))
        plain, watched, vault = (stack.enter_context(kind()) for kind in (HttpEcho, HttpEcho, TcpGreeter))
        places: dict[str, Any] = {
            "partner": partner, "modern": modern, "expired": expired, "strange": strange, "address": address,
            "bank": bank, "plain": plain, "watched": watched, "vault": vault,
        }  # fmt: skip

        def checked(name: str, host: str, at: Any) -> External:
            return External(name, host, at.port, Protocol.HTTP, originate_tls=True, ca=ca.pem.decode())

        external = [
            checked("partner", "partner.localhost", partner),
            checked("modern", "api.modern.localhost", modern),
            checked("expired", "expired.localhost", expired),
            checked("strange", "strange.localhost", strange),
            checked("another", "another.localhost", partner),
            checked("address", "127.0.0.1", address),
            checked("nowhere", "nowhere.invalid", partner),
            replace(checked("rooted", "rooted.localhost", partner), ca=""),
            External("plain", "plain.localhost", plain.port, Protocol.HTTP),
            External("watched", "watched.localhost", watched.port, Protocol.HTTP, mode=Mode.OBSERVE),
            External("bank", "bank.localhost", bank.port, Protocol.TCP, sni=True),
            External("branch", "branch.localhost", bank.port, Protocol.TCP, sni=True, mode=Mode.OBSERVE),
            External("vault", "vault.localhost", vault.port, Protocol.TCP),
        ]
        here = _callers(*CALLERS)
        mesh = Mesh(
            "lab", "lab.test", {"core": Segment("core")}, here, frozenset({"core"}),
            external={place.name: place for place in external},
        )  # fmt: skip
        made = Lab(stack.enter_context(running_proxy()), mesh, ca, places, directory)
        made.proxy.hold(made.policy())
        # Names are asked for when the clusters are there, which is no part of what is held.
        for place in ("partner", "modern", "plain", "watched"):
            wait_for(lambda place=place: made.get(place)[0].status == 200, f"{place} is found")
        yield made


@pytest.fixture(autouse=True)
def as_ever(lab: Lab) -> Iterator[None]:
    yield
    lab.proxy.hold(lab.policy())


def _callers(*names: str) -> dict[str, Workload]:
    """Workloads that call, each with a listener of its own and addresses for sessions."""
    ports = iter(free_ports(3 * len(names)))

    def own() -> Address:
        return Address("127.0.0.1", next(ports))

    return {
        name: Workload(
            name, "core", Address("127.0.0.1", 9), Protocol.HTTP, outbound=own(), dials={"bank": own(), "vault": own()}
        )
        for name in names
    }


def free_ports(count: int) -> list[int]:
    """Different ones, since all are held until the last is found."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in held]


@pytest.mark.parametrize("place", ["plain", "partner"])
@pytest.mark.parametrize("form", ["{name}", "{name}:80", "{host}", "{host}:80", "{host}:{port}", "{name}:{port}"])
def test_each_name_reaches_the_place_which_hears_its_own(lab: Lab, place: str, form: str) -> None:
    outside = (lab.mesh.external or {})[place]
    answer, record = lab.get(form.format(name=outside.name, host=outside.host, port=outside.port))
    assert answer.status == 200
    headers = dict(json.loads(answer.body)["headers"])
    assert headers["host"] == lab.host(place)
    assert not [name for name in headers if name.startswith(("x-septum", "x-forwarded", "x-envoy"))], headers
    assert (record["target"], record["ep"], record["er"], record["mode"]) == (place, "read", "allowed", "enforce")


@pytest.mark.parametrize("place", ["plain", "partner"])
@pytest.mark.parametrize(
    ("caller", "path"), [("web", "/read"), ("web", "/write"), ("web", "/read/../write"), ("idle", "/read/a")]
)
def test_each_request_is_decided(lab: Lab, place: str, caller: str, path: str) -> None:
    before = len(lab.places[place].seen)
    answer, record = lab.get(place, path, caller)
    decision = decide(lab.policy(), Request(caller, place, http_operation("GET", path)))
    assert (answer.status == 200, record["er"] == "allowed") == (decision.allowed, decision.allowed)
    assert len(lab.places[place].seen) - before == decision.allowed
    assert (record["target"], record["caller"]) == (place, f"spiffe://lab.test/{caller}")


def test_the_absolute_form_of_a_request_is_decided_the_same(lab: Lab) -> None:
    with httpx.Client(proxy=f"http://127.0.0.1:{lab.port()}", trust_env=False) as client:
        for path, status in (("/read/a", 200), ("/write", 403)):
            id = lab.id()
            assert client.get(f"http://{lab.host('plain')}{path}", headers={"x-request-id": id}).status_code == status
            assert lab.one(id)["target"] == "plain"


def test_http2_to_a_host_that_chooses_it(lab: Lab) -> None:
    """By a certificate for all names below one; and the scheme is that of the connection."""
    answer, record = lab.get("modern", "/read/two")
    assert (answer.status, record["ep"]) == (200, "read")
    seen = lab.places["modern"].seen[-1]
    assert (seen[":scheme"], seen[":authority"], seen[":path"]) == ("https", lab.host("modern"), "/read/two")
    assert "x-forwarded-proto" not in seen


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("expired", "certificate_has_expired"),
        ("strange", "unable_to_get_local_issuer"),
        ("rooted", "unable_to_get_local_issuer"),
        ("another", "SAN_matcher"),
    ],
)
def test_a_host_that_does_not_prove_who_it_is_is_not_spoken_to(lab: Lab, place: str, why: str) -> None:
    """`strange` is of another authority, `rooted` of none that the system knows, `another` is really `partner`."""
    server = lab.places.get(place, lab.places["partner"])
    before, hellos = len(server.seen), server.hellos
    wait_for(lambda: lab.get(place)[0].status == 503 and server.hellos > hellos, "the host is found")
    answer, record = lab.get(place)
    assert answer.status == 503
    assert (record["ep"], record["code"], record["flags"]) == ("read", 503, "UF")
    assert why in record["tls"]
    assert len(server.seen) == before


def test_a_host_that_is_an_address_proves_that(lab: Lab) -> None:
    answer, record = lab.get("address")
    assert (answer.status, record["target"]) == (200, "address")


def test_a_name_that_does_not_resolve_holds_nothing_up(lab: Lab) -> None:
    answer, record = lab.get("nowhere")
    assert (answer.status, record["target"], record["ep"]) == (503, "nowhere", "read")


def test_what_is_observed_passes_and_is_noted(lab: Lab) -> None:
    for caller in CALLERS:
        answer, record = lab.get("watched", caller=caller)
        request = Request(caller, "watched", http_operation("GET", "/read/a"))
        assert goes_through(lab.policy(), request)
        assert not decide(lab.policy(), request).allowed
        assert (answer.status, record["mode"]) == (200, "observe")
        assert (record["ep"], "sp" in record) == ("septum.observe", False)


@pytest.mark.parametrize("shut", ["web", "plain", "watched", "bank"])
def test_quarantine(lab: Lab, shut: str) -> None:
    policy = quarantined(lab.policy(), [shut])
    lab.proxy.hold(policy)
    for place in ("plain", "watched", "partner"):
        answer, record = lab.get(place)
        closed = shut in ("web", place)
        assert (answer.status == 403, record.get("ep") == "septum.quarantine") == (closed, closed)
        assert decide(policy, Request("web", place, http_operation("GET", "/read/a"))).allowed == (
            not closed and place != "watched"
        )
    with lab.tunnel(lab.host("bank")) as (_, status, id):
        assert status == (403 if shut in ("web", "bank") else 200)
    assert lab.one(id)["target"] == "bank"


def test_a_tunnel_to_what_speaks_http_leads_back_inside(lab: Lab) -> None:
    for authority in (lab.host("partner"), "partner:80"):
        with lab.tunnel(authority) as (wire, status, _), wire.makefile("rb") as answers:
            assert status == 200
            for path, expected in (("/read/a", b" 200 "), ("/write", b" 403 ")):
                id = lab.id()
                wire.sendall(f"GET {path} HTTP/1.1\r\nhost: partner\r\nx-request-id: {id}\r\n\r\n".encode())
                assert expected in answers.readline()
                headers = dict(header.split(b": ") for header in iter(answers.readline, b"\r\n"))
                answers.read(int(headers[b"content-length"]))
                assert lab.one(id)["target"] == "partner"


@pytest.mark.parametrize("authority", ["bank", "bank.localhost"])
def test_tls_goes_through_as_it_is(lab: Lab, authority: str) -> None:
    """The certificate is the host's own, and the caller checks it."""
    with lab.tunnel(f"{authority}:{lab.places['bank'].port}") as (wire, status, id):
        assert status == 200
        with lab.says("bank.localhost", lab.ca)(wire) as secured:
            secured.sendall(b"GET /x HTTP/1.1\r\nhost: bank.localhost\r\nconnection: close\r\n\r\n")
            assert secured.recv(4096).startswith(b"HTTP/1.1 200 ")
    record = lab.one(id)
    assert (record["ep"], record["target"], record["method"], record["er"]) == ("bank", "bank", "CONNECT", "allowed")


@pytest.mark.parametrize("place", ["bank", "branch"])
@pytest.mark.parametrize("server_name", ["evil.localhost", "a.bank.localhost", "localhost", None])
def test_a_session_that_says_another_name_gets_nowhere(lab: Lab, place: str, server_name: str | None) -> None:
    """Also where the place is observed: who is told another name is another place."""
    hellos, since = lab.places["bank"].hellos, lab.lines()
    with lab.tunnel(lab.host(place)) as (wire, status, _):
        assert status == 200
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            lab.says(server_name)(wire)
    record = lab.stopped(since)
    assert (record["caller"], record["target"], record.get("sni")) == ("spiffe://lab.test/web", place, server_name)
    read = reading(record)
    assert (read.decision, read.would_be) == ("deny", "deny")
    assert (server_name or "no server name") in read.undecided
    assert f"only {place}.localhost may pass" in read.undecided
    assert lab.places["bank"].hellos == hellos


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: bank.localhost\r\n\r\n",
        b"\x80\x2e\x01\x03\x01" + b"\0" * 44,  # as SSL 2 began
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x40\x00\x01\x00\xff\xff\x03\x03" + b"a" * 40000,  # longer than any first message
    ],
)
def test_a_session_that_is_no_tls_gets_nowhere(lab: Lab, data: bytes) -> None:
    hellos, since = lab.places["bank"].hellos, lab.lines()
    with lab.tunnel(lab.host("bank")) as (wire, status, _):
        assert status == 200
        assert _comes_to_nothing(wire, data)
    read = reading(lab.stopped(since))
    assert (read.decision, read.undecided.partition(": ")[0]) == ("deny", "the session was stopped")
    assert lab.places["bank"].hellos == hellos


def test_a_session_that_says_nothing_ends(lab: Lab) -> None:
    since = lab.lines()
    with lab.tunnel(lab.host("bank")) as (wire, _, _):
        wire.settimeout(15)
        assert _comes_to_nothing(wire, b"")
    assert "no server name could be read" in reading(lab.stopped(since)).undecided


def test_what_gates_stop_is_counted_as_every_decision(lab: Lab) -> None:
    with lab.tunnel(lab.host("bank")) as (wire, _, _):
        assert _comes_to_nothing(wire, b"no TLS")
    counted = wait_for(lambda: _counted(lab) == lab.lines() and lab.lines(), "as many lines as are counted")
    assert counted > 0


def _counted(lab: Lab) -> int:
    transport = httpx.HTTPTransport(uds=str(lab.proxy.directory / "admin.sock"))
    with httpx.Client(transport=transport) as client:
        stats = client.get("http://admin/stats?filter=^septum.decisions$").text
    return int(stats.split(": ")[1])


def test_a_caller_without_a_rule_opens_no_session(lab: Lab) -> None:
    for place in ("bank", "vault"):
        server = lab.places[place]
        before = server.hellos if place == "bank" else server.sessions
        with lab.tunnel(lab.host(place), "idle") as (_, status, id):
            assert status == 403
        record = lab.one(id)
        assert (record["er"], record["target"], record["caller"]) == ("denied", place, "spiffe://lab.test/idle")
        assert not decide(lab.policy(), Request("idle", place, ConnectOperation())).allowed
        assert (server.hellos if place == "bank" else server.sessions) == before


def test_an_observed_place_of_sessions(lab: Lab) -> None:
    with lab.tunnel(lab.host("branch"), "idle") as (wire, status, id):
        assert status == 200
        with lab.says("branch.localhost")(wire) as secured:
            assert secured.version() is not None
    record = lab.one(id)
    assert (record["ep"], record["target"]) == ("septum.observe", "branch")


def test_any_session_to_what_speaks_tcp(lab: Lab) -> None:
    with lab.tunnel(f"vault:{lab.places['vault'].port}") as (wire, status, id):
        assert status == 200
        assert wire.recv(100) == GREETING
        wire.sendall(b"ping")
        assert wire.recv(100) == b"ping"
    assert lab.one(id)["ep"] == "vault"


def test_sessions_by_an_address(lab: Lab) -> None:
    """What is dialled is a CONNECT like any other: decided, and looked into where the place takes TLS alone."""
    web, idle = (lab.mesh.workloads[name].dials for name in CALLERS)
    with socket.create_connection(("127.0.0.1", web["vault"].port), 10) as session:
        assert session.recv(100) == GREETING
    session = socket.create_connection(("127.0.0.1", web["bank"].port), 10)
    with session, lab.says("bank.localhost", lab.ca)(session) as secured:
        assert secured.version() is not None
    since = lab.lines()
    with socket.create_connection(("127.0.0.1", web["bank"].port), 10) as session:
        assert _comes_to_nothing(session, b"no TLS")
    assert lab.stopped(since)["target"] == "bank"
    for dialled in idle.values():
        with socket.create_connection(("127.0.0.1", dialled.port), 10) as session:
            assert _comes_to_nothing(session, b"")


def test_curl_as_it_is(lab: Lab, program: Callable[[str], str]) -> None:
    trusted = lab.directory / "ca.pem"
    trusted.write_bytes(lab.ca.pem)
    proxied = [program("curl"), "-sS", "-m", "10", "-x", f"http://127.0.0.1:{lab.port()}", "--cacert", str(trusted)]

    def curl(*words: str) -> tuple[int, str]:
        ran = subprocess.run([*proxied, *words], capture_output=True, text=True, check=False, timeout=20, env={})
        return ran.returncode, ran.stdout + ran.stderr

    code, out = curl(f"https://{lab.host('bank')}/x")
    assert (code, json.loads(out)["path"]) == (0, "/x")
    code, out = curl(f"http://{lab.host('partner')}/read/curl")
    assert (code, json.loads(out)["path"]) == (0, "/read/curl")
    code, out = curl("https://evil.localhost/")
    assert code == 56, out  # the proxy refused the tunnel
    assert "403" in out


ELSEWHERE = ("example.test", "192.0.2.1", "[2001:db8::1]", "169.254.169.254", "127.0.0.2", "localhost", "Partner")


@pytest.mark.parametrize("authority", [*(host + port for host in ELSEWHERE for port in (":443", ":80", "")), "bank"])
@pytest.mark.parametrize("line", ["GET /", "GET http://{}/", "CONNECT {}"])
def test_everything_else_outside_is_denied_and_recorded(lab: Lab, authority: str, line: str) -> None:
    id = lab.id()
    if line.startswith("CONNECT") and not authority.endswith(("80", "443")):
        authority += ":8080"  # it takes a port
    line = line.format(authority)
    connection = h1.Connection(lab.port())
    answer = connection.send(f"{line} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n".encode())
    connection.close()
    assert answer.status == 403
    record = lab.one(id)
    assert (record["er"], record["authority"]) == ("denied", authority)
    assert record.get("up") is None


def test_a_session_ends_with_its_rule_and_those_of_others_go_on(lab: Lab) -> None:
    rules = [Rule(f"more-{place}", ("idle",), (place,), None) for place in ("bank", "vault")]
    lab.proxy.hold(lab.policy(*rules))
    with ExitStack() as stack:

        def live(caller: str, place: str) -> Any:
            wire, status, _ = stack.enter_context(lab.tunnel(lab.host(place), caller))
            assert status == 200
            if place == "vault":
                assert wire.recv(100) == GREETING
                return wire
            return stack.enter_context(lab.says("bank.localhost", lab.ca)(wire))

        ours, theirs = live("web", "bank"), [live("idle", "bank"), live("idle", "vault")]
        # As the control plane does it: first nothing new, and then what is live is cut.
        lab.proxy.hold(lab.policy(*rules, without="bank"))
        lab.proxy.hold(lab.policy(*rules, without="bank"), {("web", "bank"): "cut"})
        ours.settimeout(5)
        assert ours.recv(1) == b""
        theirs[0].sendall(b"GET / HTTP/1.1\r\nhost: b\r\n\r\n")
        assert theirs[0].recv(100).startswith(b"HTTP/1.1 200 ")
        theirs[1].sendall(b"ping")
        assert theirs[1].recv(100) == b"ping"


def test_many_callers_each_with_a_gate_of_their_own(lab: Lab) -> None:
    names = [f"caller-{number}" for number in range(60)]
    mesh = replace(lab.mesh, workloads={**lab.mesh.workloads, **_callers(*names)})
    policy = Policy(mesh, (Rule("some", tuple(names[::2]), ("bank",), None),), "many")
    lab.proxy.hold(policy)
    try:
        many = replace(lab, mesh=mesh)
        for number, name in enumerate(names):
            since = many.lines()
            with many.tunnel(many.host("bank"), name) as (wire, status, _):
                assert (status == 200) == (number % 2 == 0)
                if status == 200:
                    assert _comes_to_nothing(wire, b"no TLS")
            if status == 200:
                assert many.stopped(since)["caller"] == f"spiffe://lab.test/{name}"
    finally:
        lab.proxy.hold(lab.policy())


def _comes_to_nothing(wire: socket.socket, data: bytes) -> bool:
    try:
        wire.sendall(data)
        return wire.recv(100) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Nodes, Mesh, HttpEcho]]:
    """`web` on one node and `idle`, which no rule names, on the other."""
    with HttpEcho() as echo, running_nodes("alpha", "beta") as nodes:
        at = Address.parse(echo.address)
        places = {
            "plain": External("plain", "plain.localhost", echo.port, Protocol.HTTP),
            "bank": External("bank", "bank.localhost", echo.port, Protocol.TCP, sni=True),
        }
        mesh = replace(nodes.mesh(workload("web", "alpha", at), workload("idle", "beta", at)), external=places)
        rules = (Rule("read", ("web",), ("plain",), READ), Rule("bank", ("web",), ("bank",), None))
        nodes.hold(Policy(mesh, rules, "v"))
        yield nodes, mesh, echo


def _ask(mesh: Mesh, caller: str, authority: str, id: str) -> h1.Answer:
    connection = h1.Connection(port(mesh, caller))
    try:
        return connection.send(f"GET /read/a HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\r\n".encode())
    finally:
        connection.close()


def test_the_caller_s_node_decides_alone(pair: tuple[Nodes, Mesh, HttpEcho]) -> None:
    nodes, mesh, _ = pair
    wait_for(lambda: _ask(mesh, "web", "plain", "first").status == 200, "the host is found")
    assert _ask(mesh, "web", "plain.localhost", "through").status == 200
    node, record = nodes.one_record("through")
    assert (node, record["ep"], record["target"]) == ("alpha", "read", "plain")


def test_a_node_without_a_caller_has_nothing_of_the_place(pair: tuple[Nodes, Mesh, HttpEcho]) -> None:
    nodes, mesh, _ = pair
    rules = (Rule("read", ("web",), ("plain",), READ), Rule("bank", ("web",), ("bank",), None))
    held = nodes.proxies["beta"].compiled(Policy(mesh, rules, "v"))
    assert not [name for kind in held.resources.values() for name in kind if "plain" in name or "bank" in name]
    assert _ask(mesh, "idle", "plain", "stopped").status == 403
    node, record = nodes.one_record("stopped")
    assert (node, record["er"], record["authority"]) == ("beta", "denied", "plain")


@pytest.mark.parametrize("authority", ["plain", "plain.localhost"])
@pytest.mark.parametrize("server_name", ["web.lab.test", "plain.lab.test", "plain", "plain.localhost"])
def test_nobody_goes_outside_by_the_listener_for_other_nodes(
    pair: tuple[Nodes, Mesh, HttpEcho], tmp_path: Path, authority: str, server_name: str
) -> None:
    """With a certificate of the trust domain: `web` may call the place, and only from its own node's listener."""
    nodes, mesh, echo = pair
    before = len(echo.seen)
    tls = client_context(tmp_path, nodes.ca, nodes.svid("web"))
    inbound = ("127.0.0.1", mesh.nodes["alpha"].inbound.port)
    try:
        with socket.create_connection(inbound, 10) as wire, tls.wrap_socket(wire, server_hostname=server_name) as own:
            own.sendall(f"GET /read/a HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
            assert b" 421 " in own.recv(4096)
            assert server_name == "web.lab.test"
    except (ssl.SSLError, ConnectionResetError):
        assert server_name != "web.lab.test"
    assert len(echo.seen) == before
