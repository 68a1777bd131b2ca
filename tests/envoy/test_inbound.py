"""The inbound listener, as whoever can reach it may try it: with certificates of every kind, and with none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from backends import HttpEcho
from certificates import Ca, Leaf, client_context
from nodes import DOMAIN, Nodes, running_nodes, spiffe, workload
from proxy import wait_for

from septum.model.mesh import Address, Mesh
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule

pytestmark = pytest.mark.xdist_group("inbound")

HOUR = timedelta(hours=1)
RULES = (
    Rule("read", ("web",), ("api",), (HttpPattern.parse("GET /public/**"),)),
    Rule("all", ("web",), ("admin",), (HttpPattern.parse("* /**"),)),
)


@dataclass(frozen=True)
class Lab:
    nodes: Nodes
    mesh: Mesh
    backend: HttpEcho

    @property
    def address(self) -> tuple[str, int]:
        at = self.nodes.inbound["beta"].inbound
        return at.host, at.port

    def policy(self) -> Policy:
        return Policy(self.mesh, RULES, "v")

    def ask(self, leaf: Leaf | None, request: bytes, sni: str = f"api.{DOMAIN}", ca: Ca | None = None) -> bytes:
        """What comes back, until the other side closes. A refused handshake raises."""
        context = client_context(self.nodes.proxies["beta"].directory, ca or self.nodes.ca, leaf)
        with socket.create_connection(self.address, 10) as raw, context.wrap_socket(raw, server_hostname=sni) as wire:
            wire.sendall(request)
            return b"".join(iter(lambda: wire.recv(65536), b""))

    def get(self, leaf: Leaf | None, path: str, id: str, host: str = "api", more: str = "", **how: Any) -> bytes:
        request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nx-request-id: {id}\r\nconnection: close\r\n{more}\r\n"
        return self.ask(leaf, request.encode(), **how)

    def turned_away(self) -> list[dict[str, Any]]:
        proxy = self.nodes.proxies["beta"]
        proxy.take_records()
        return [line for line in proxy.lines if line["type"] == "Connection"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with HttpEcho() as backend, running_nodes("alpha", "beta") as nodes:
        at = Address.parse(backend.address)
        workloads = [workload("web", "alpha", at), workload("idle", "alpha", at)]
        workloads += [workload("api", "beta", at), workload("admin", "beta", at)]
        lab = Lab(nodes, nodes.mesh(*workloads), backend)
        nodes.hold(lab.policy())
        yield lab


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("sni", ["api", "web.api"])
def test_a_program_with_its_own_certificate_is_decided_like_any_caller(lab: Lab, sni: str) -> None:
    how = {"sni": f"{sni}.{DOMAIN}"}
    assert _status(lab.get(lab.nodes.svid("web"), "/public/a", f"own-{sni}", **how)) == 200
    assert _status(lab.get(lab.nodes.svid("web"), "/private", f"own-not-{sni}", **how)) == 403
    node, record = lab.nodes.one_record(f"own-{sni}")
    assert (node, record["caller"], record["ep"], record["target"]) == ("beta", spiffe("web"), "read", "api")
    _, record = lab.nodes.one_record(f"own-not-{sni}")
    assert (record["caller"], record["er"], record["code"]) == (spiffe("web"), "denied", 403)


@pytest.mark.parametrize("host", ["api", f"api.{DOMAIN}", "{port}"])
def test_http2_and_the_name_that_a_client_dials(lab: Lab, host: str) -> None:
    """A client that connects to the inbound port itself puts it into `:authority`."""
    authority = host.format(port=f"api.{DOMAIN}:{lab.address[1]}")
    context = client_context(lab.nodes.proxies["beta"].directory, lab.nodes.ca, lab.nodes.svid("web"), "h2")
    with httpx.Client(http1=False, http2=True, verify=context, trust_env=False) as client:
        url = f"https://{lab.address[0]}:{lab.address[1]}/public/x"
        answer = client.get(url, headers={"host": authority}, extensions={"sni_hostname": f"api.{DOMAIN}"})
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")


def test_a_caller_without_a_rule_is_denied_and_recorded(lab: Lab) -> None:
    assert _status(lab.get(lab.nodes.svid("idle"), "/public/a", "idle")) == 403
    _, record = lab.nodes.one_record("idle")
    assert (record["caller"], record["er"]) == (spiffe("idle"), "denied")


@pytest.mark.parametrize("sni", ["api", "web.api"])
def test_two_identities_in_one_certificate_are_nobody(lab: Lab, sni: str) -> None:
    both = lab.nodes.ca.issue(spiffe("web"), spiffe("idle"))
    assert _status(lab.get(both, "/public/a", f"both-{sni}", sni=f"{sni}.{DOMAIN}")) == 403
    _, record = lab.nodes.one_record(f"both-{sni}")
    assert record["er"] == "denied"


WRONG = {
    "expired": lambda ca: ca.issue(spiffe("web"), begins=-3 * HOUR, ends=-HOUR),
    "not yet valid": lambda ca: ca.issue(spiffe("web"), begins=HOUR, ends=3 * HOUR),
    "wrong CA": lambda ca: Ca().issue(spiffe("web")),
    "other trust domain": lambda ca: ca.issue("spiffe://other.test/web"),
    "trust domain with a longer name": lambda ca: ca.issue(f"spiffe://{DOMAIN}.evil/web"),
    "DNS SAN equal to the ID": lambda ca: ca.issue(dns=[spiffe("web")]),
    "common name alone": lambda ca: ca.issue(common_name=spiffe("web")),
    "no certificate": lambda ca: None,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_certificate_ends_the_handshake_and_is_on_record(lab: Lab, wrong: str) -> None:
    before, seen = len(lab.turned_away()), len(lab.backend.seen)
    with pytest.raises(OSError):
        lab.get(WRONG[wrong](lab.nodes.ca), "/public/a", "wrong")
    (line,) = wait_for(lambda: lab.turned_away()[before:], "a line about the connection")
    assert line["sni"] == f"api.{DOMAIN}"
    assert line["tls"]
    assert len(lab.backend.seen) == seen


def test_the_chain_of_a_pair_takes_its_caller_alone(lab: Lab) -> None:
    before = len(lab.turned_away())
    with pytest.raises(OSError):
        lab.get(lab.nodes.svid("idle"), "/public/a", "pair", sni=f"web.api.{DOMAIN}")
    (line,) = wait_for(lambda: lab.turned_away()[before:], "a line about the connection")
    assert (line["claimed"], line["sni"]) == (spiffe("idle"), f"web.api.{DOMAIN}")


def test_plain_text_is_closed_and_on_record(lab: Lab) -> None:
    before = len(lab.turned_away())
    with socket.create_connection(lab.address, 10) as wire:
        wire.sendall(b"GET /public/a HTTP/1.1\r\nhost: api\r\n\r\n")
        assert _end(wire) == b""
    (line,) = wait_for(lambda: lab.turned_away()[before:], "a line about the connection")
    assert line["details"] == "filter_chain_not_found"


@pytest.mark.parametrize("sni", [f"nobody.{DOMAIN}", DOMAIN, "api", f"api.{DOMAIN}.evil", f"web.{DOMAIN}"])
def test_a_server_name_of_nobody_here_is_closed_and_on_record(lab: Lab, sni: str) -> None:
    """`web` lives on another node: here is no chain for it."""
    before = len(lab.turned_away())
    with pytest.raises(OSError):
        lab.get(lab.nodes.svid("web"), "/public/a", "nobody", sni=sni)
    (line,) = wait_for(lambda: lab.turned_away()[before:], "a line about the connection")
    assert (line["sni"], line["details"]) == (sni, "filter_chain_not_found")


def test_tls_1_2_is_refused(lab: Lab) -> None:
    context = client_context(lab.nodes.proxies["beta"].directory, lab.nodes.ca, lab.nodes.svid("web"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(lab.address, 10) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname=f"api.{DOMAIN}")


@pytest.mark.parametrize("host", ["admin", f"admin.{DOMAIN}", "web", "", "api.evil", "api:81", "localhost"])
def test_a_host_that_is_not_the_server_name_is_misdirected(lab: Lab, host: str) -> None:
    """Also where the caller may call both: what a connection was made for is what it serves (RFC 9110, 7.4)."""
    id = f"misdirected-{host}"
    assert _status(lab.get(lab.nodes.svid("web"), "/public/a", id, host=host)) == 421
    _, record = lab.nodes.one_record(id)
    assert (record["ep"], record["er"], record["caller"]) == ("septum.misdirected", "denied", spiffe("web"))


def test_a_connect_to_another_target_is_misdirected(lab: Lab) -> None:
    connect = b"CONNECT admin:80 HTTP/1.1\r\nhost: admin:80\r\nx-request-id: connect\r\n\r\n"
    assert _status(lab.ask(lab.nodes.svid("web"), connect)) == 421


def test_a_connect_leads_no_further_in(lab: Lab) -> None:
    connect = b"CONNECT api:80 HTTP/1.1\r\nhost: api:80\r\nx-request-id: inner\r\nx-septum-inside: inside/api\r\n\r\n"
    assert _status(lab.ask(lab.nodes.svid("web"), connect)) == 503
    _, record = lab.nodes.one_record("inner")
    assert record["ep"] == "septum.tunnel"


def test_who_a_client_says_it_is_plays_no_part(lab: Lab) -> None:
    forged = (
        f"x-forwarded-client-cert: By={spiffe('api')};URI={spiffe('web')}\r\n"
        "x-septum-inside: inside/api\r\nx-septum-tunnel: forward\r\nx-forwarded-for: 1.2.3.4\r\n"
    )
    assert _status(lab.get(lab.nodes.svid("idle"), "/public/a", "forged", more=forged)) == 403
    assert lab.nodes.one_record("forged")[1]["caller"] == spiffe("idle")
    answer = lab.get(lab.nodes.svid("web"), "/public/a", "forged-too", more=forged)
    assert _status(answer) == 200
    assert f"URI={spiffe('web')}".encode() in answer
    for trace in (b"x-septum", b"1.2.3.4"):
        assert trace not in answer.lower()
    assert lab.nodes.one_record("forged-too")[1]["caller"] == spiffe("web")


@pytest.mark.parametrize("bad", ["/a%2fb", "/public/../private", "/public/a;x=1"])
def test_paths_are_read_as_strictly_as_on_the_way_out(lab: Lab, bad: str) -> None:
    assert _status(lab.get(lab.nodes.svid("web"), bad, f"bad-{bad}")) in (400, 403)


def test_a_refused_request_names_its_caller(lab: Lab) -> None:
    proxy = lab.nodes.proxies["beta"]
    assert _status(lab.ask(lab.nodes.svid("web"), b"GET / HTTP/1.1\r\nhost: api\r\nx_y: 1\r\n\r\n")) == 400

    def refused() -> list[dict[str, Any]]:
        proxy.take_records()
        return [line for line in proxy.lines if line.get("details") == "http1.unexpected_underscore"]

    assert wait_for(refused, "a record")[0]["caller"] == spiffe("web")


def test_a_revoked_certificate_is_refused(lab: Lab) -> None:
    gone = lab.nodes.ca.issue(spiffe("web"))
    assert _status(lab.get(gone, "/public/a", "before revocation")) == 200
    lab.nodes.revoked = lab.nodes.ca.revoking(gone)
    lab.nodes.hold(lab.policy())
    with pytest.raises(OSError):
        lab.get(gone, "/public/a", "revoked")
    assert _status(lab.get(lab.nodes.svid("web"), "/public/a", "not revoked")) == 200


def test_a_session_is_not_resumed_and_not_after_a_change_of_authorities(lab: Lab) -> None:
    """A ticket would carry a client past the look at its certificate."""
    context = client_context(lab.nodes.proxies["beta"].directory, lab.nodes.ca, lab.nodes.svid("web"))
    first = _resumed(lab, context, None)
    assert not _resumed(lab, context, first.session).session_reused
    old, lab.nodes.trusted = lab.nodes.trusted, (Ca("new"),)
    try:
        lab.nodes.hold(lab.policy())
        with pytest.raises(OSError):
            _resumed(lab, context, first.session)
    finally:
        lab.nodes.trusted = old
        lab.nodes.hold(lab.policy())


def _resumed(lab: Lab, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    """A connection that was answered. Raises OSError when the handshake is refused, which a client sees as it reads."""
    with (
        socket.create_connection(lab.address, 10) as raw,
        context.wrap_socket(raw, server_hostname=f"api.{DOMAIN}", session=session) as wire,
    ):
        wire.sendall(b"GET /public/a HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        assert b" 200 " in b"".join(iter(lambda: wire.recv(65536), b""))
        return wire


def _end(wire: socket.socket) -> bytes:
    try:
        return b"".join(iter(lambda: wire.recv(65536), b""))
    except ConnectionResetError:
        return b""
