"""What is inside a tunnel is decided request by request, as the caller that opened it and as nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import pytest
from proxy import Proxy, backends, free_port, running_proxy, wait_for

from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule


@dataclass(frozen=True)
class Lab:
    proxy: Proxy
    mesh: Mesh

    def port(self, caller: str) -> int:
        outbound = self.mesh.workloads[caller].outbound
        assert outbound is not None
        return outbound.port

    def records_of(self, marker: str) -> list[dict[str, object]]:
        self.proxy.take_records()
        return [line for line in self.proxy.lines if str(line.get("id", "")).startswith(marker)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_proxy() as proxy:
        names = {"client": "http", "intruder": "http", "web": "http", "store": "tcp"}
        workloads = {
            name: Workload(name, "core", at[kind], Protocol(kind), outbound=Address("127.0.0.1", free_port()))
            for name, kind in names.items()
        }
        mesh = Mesh("lab", "lab.test", {"core": Segment("core")}, workloads, frozenset({"core"}))
        rules = (
            Rule("read", ("client",), ("web",), (HttpPattern.parse("GET /public/**"),)),
            Rule("keep", ("client",), ("store",), None),
        )
        proxy.hold(Policy(mesh, rules, "v"))
        yield Lab(proxy, mesh)


@contextmanager
def tunnel(port: int, authority: str, extra: str = "") -> Iterator[tuple[int, socket.socket, BinaryIO]]:
    with socket.create_connection(("127.0.0.1", port), 10) as wire, wire.makefile("rb") as answers:
        wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{extra}\r\n".encode())
        yield status(answers), wire, answers


def status(answers: BinaryIO) -> int:
    line = answers.readline()
    while answers.readline().strip():
        pass
    return int(line.split()[1]) if line else 0


def ask(wire: socket.socket, answers: BinaryIO, request: str) -> int:
    wire.sendall(f"{request} HTTP/1.1\r\nhost: web\r\nx-request-id: ID\r\n\r\n".encode())
    line = answers.readline()
    length = 0
    while header := answers.readline().strip().lower():
        length = int(header[15:]) if header.startswith(b"content-length:") else length
    answers.read(length)
    return int(line.split()[1])


def test_every_request_in_a_tunnel_is_decided(lab: Lab) -> None:
    with tunnel(lab.port("client"), "web:80") as (opened, wire, answers):
        assert opened == 200
        asked = [ask(wire, answers, f"GET /{where}") for where in ("public/a", "admin", "public/b", "public/../admin")]
        assert asked == [200, 403, 200, 403]
    records = wait_for(lambda: len(found := lab.records_of("ID")) >= 4 and found, "four records")
    assert [record["er"] for record in records[:4]] == ["allowed", "denied", "allowed", "denied"]
    assert {record["caller"] for record in records} == {"spiffe://lab.test/client"}


def test_a_tunnel_does_not_make_somebody_of_its_opener(lab: Lab) -> None:
    forged = "x-septum-inside: inside/client\r\nX-Septum-Inside: inside/client\r\n"
    for extra in ("", forged):
        with tunnel(lab.port("intruder"), "web:80", extra) as (opened, wire, answers):
            assert opened == 200
            assert ask(wire, answers, "GET /public/a") == 403


def test_tunnels_of_two_callers_at_once_stay_apart(lab: Lab) -> None:
    for _ in range(50):
        with (
            tunnel(lab.port("client"), "web:80") as (_, ours, our_answers),
            tunnel(lab.port("intruder"), "web:80") as (_, theirs, their_answers),
        ):
            assert ask(theirs, their_answers, "GET /public/a") == 403
            assert ask(ours, our_answers, "GET /public/a") == 200
            assert ask(theirs, their_answers, "GET /public/a") == 403


def test_a_tunnel_in_a_tunnel_leads_nowhere(lab: Lab) -> None:
    with tunnel(lab.port("client"), "web:80") as (_, wire, answers):
        wire.sendall(b"CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\nx-septum-inside: inside/intruder\r\n\r\n")
        assert status(answers) == 503


def test_tcp_is_reached_through_a_tunnel_in_a_tunnel_only_by_rule(lab: Lab) -> None:
    for caller, expected in (("client", 200), ("intruder", 403)):
        with tunnel(lab.port(caller), "web:80") as (_, wire, answers):
            store = f"store:{lab.mesh.workloads['store'].at.port}"
            wire.sendall(f"CONNECT {store} HTTP/1.1\r\nhost: {store}\r\n\r\n".encode())
            assert status(answers) == expected


@pytest.mark.parametrize("authority", ["nowhere:80", "web:81", "store:1", "WEB:80", "127.0.0.1:22"])
def test_a_tunnel_to_what_is_no_workload_is_denied_and_recorded(lab: Lab, authority: str) -> None:
    with tunnel(lab.port("client"), authority, f"x-request-id: to-{authority}\r\n") as (opened, _, _):
        assert opened == 403
    record = lab.proxy.record(f"to-{authority}")
    assert record["er"] == "denied"


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-OpenSSH\r\n\r\n", b"\0\0\0\0\0\0\0\0\r\n"]
)
def test_bytes_that_are_no_http_are_refused_and_recorded(lab: Lab, sent: bytes) -> None:
    lab.proxy.take_records()
    before = len(lab.proxy.lines)
    with tunnel(lab.port("client"), "web:80") as (_, wire, answers):
        wire.sendall(sent)
        assert b" 400 " in answers.readline()
    record = wait_for(lambda: lab.proxy.take_records() or lab.proxy.lines[before:], "a record")[0]
    assert (record["code"], record["caller"]) == (400, "spiffe://lab.test/client")


def test_a_forwarded_request_does_not_tell_the_way_inside(lab: Lab) -> None:
    with socket.create_connection(("127.0.0.1", lab.port("client")), 10) as wire, wire.makefile("rb") as answers:
        wire.sendall(b"GET /public/a HTTP/1.1\r\nhost: web\r\nx-septum-inside: x\r\nconnection: close\r\n\r\n")
        assert b"x-septum" not in answers.read().lower()
