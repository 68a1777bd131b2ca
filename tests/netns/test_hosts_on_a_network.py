"""Three hosts on a network: calls cross it by mTLS alone, and what a broken network takes away comes back by itself."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from backends import GREETING, HttpEcho, TcpGreeter
from lan import Lan
from net_hosts import NetHosts
from waiting import until

pytestmark = pytest.mark.xdist_group("netns")

ALLOW = """allow:
  - {name: front-orders, from: front, to: orders, http: ["GET /orders/{id}", POST /orders]}
  - {name: front-store, from: front, to: store}
"""
# Both nodes are told of it: the caller's has no way to the store any more.
NARROWER = """allow:
  - {name: front-orders, from: front, to: orders, http: ["GET /orders/{id}"]}
"""
# Seconds from the start of a node to its first call, with no control plane to ask. It is the time of three Pythons, one
# after the other, and of an Envoy: on a busy machine as much longer as those are.
COLD = 2.0
# TLS records with application data begin so (RFC 8446, 5.1).
APPLICATION_DATA = b"\x17\x03\x03"


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with Lan("control", "a", "b") as made:
        yield made


@pytest.fixture(scope="module")
def orders(lan: Lan) -> Iterator[HttpEcho]:
    with lan.inside("b"):
        backend = HttpEcho()
    with backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(lan: Lan, orders: HttpEcho) -> Iterator[NetHosts]:
    with lan.inside("b"):
        store = TcpGreeter()
    a = {"front": {"dials": ["store"]}, "stranger": {"dials": ["store"]}}
    b = {"orders": {"at": orders.address}, "store": {"at": store.address, "protocol": "tcp"}}
    with store, NetHosts(lan, {"a": a, "b": b}, ALLOW) as made:
        yield made


@pytest.fixture(autouse=True)
def well(mesh: NetHosts) -> Iterator[None]:
    """Every test begins and ends with all nodes there, holding the first policy."""
    yield
    mesh.write_policy(ALLOW)
    until(lambda: mesh.septum("apply").code == 0, within=20, what="the first policy everywhere", says=mesh.logs)


def order(mesh: NetHosts, id: str, method: str = "GET") -> int:
    return mesh.call("front", f"http://orders/orders/{id}", method).status


def seconds(since: Callable[[], bool], within: float, what: str, says: Callable[[], str]) -> float:
    began = time.monotonic()
    until(since, within, what, says)
    return time.monotonic() - began


def test_only_the_doors_of_nodes_and_of_the_control_plane_are_on_the_network(mesh: NetHosts) -> None:
    doors = {node: {":".join(map(str, mesh.inbound(node)))} for node in ("a", "b")} | {"control": {mesh.listen}}
    assert {host: mesh.lan.listening(host) for host in doors} == doors


def test_a_call_crosses_the_network_in_tls_alone(mesh: NetHosts) -> None:
    order(mesh, "warm")
    with mesh.lan.tap("b") as tap, mesh.tcp("front", "store") as session:
        assert order(mesh, "a-secret-id") == 200
        assert session.recv(100) == GREETING
        session.sendall(b"a-secret-in-tcp")
        assert session.recv(100) == b"a-secret-in-tcp"
        assert mesh.call("stranger", "http://orders/orders/a-secret-refused").status == 403
        frames = _frames(tap)
    assert APPLICATION_DATA in frames
    for clear in (b"a-secret", GREETING, b"orders/", b"HTTP/1.1"):
        assert clear not in frames, clear


def test_what_no_node_says_at_an_inbound_port_comes_to_nothing_and_is_on_record(
    mesh: NetHosts, orders: HttpEcho
) -> None:
    before = len(orders.seen)
    with mesh.lan.inside("a"), socket.create_connection(mesh.inbound("b"), 5) as plain:
        plain.settimeout(10)
        plain.sendall(b"GET /orders/plain HTTP/1.1\r\nhost: orders\r\nx-request-id: plain\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            answer = plain.recv(4096)
            assert not answer.startswith(b"HTTP/"), answer
    record = until(
        lambda: [r for r in mesh.stored("--denied") if r["reason"] and not r["caller"] and r["node"] == "b"],
        what="a record of who was turned away",
        says=mesh.logs,
    )[-1]
    assert mesh.lan.address("a") in str(record), record
    assert len(orders.seen) == before


def test_a_workload_is_not_reached_past_its_node(mesh: NetHosts) -> None:
    for workload in ("orders", "store", "front"):
        host, port = mesh.lan.address("b"), int(mesh.workloads[workload]["at"].rpartition(":")[2])
        with mesh.lan.inside("a"), pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), 5)
    _, outbound = mesh.outbound("front")
    with mesh.lan.inside("b"), pytest.raises(ConnectionRefusedError):
        socket.create_connection((mesh.lan.address("a"), outbound), 5)


def test_a_partition_from_the_control_plane_takes_nothing_from_calls(
    mesh: NetHosts, record_property: Callable[[str, object], None]
) -> None:
    asked = [f"cut-{number}" for number in range(20)]
    with mesh.lan.away("control"):
        assert [order(mesh, id) for id in asked[:5]] == [200] * 5
        assert order(mesh, "cut-denied", "DELETE") == 403
        assert mesh.call("stranger", "http://orders/orders/cut-stranger").status == 403
        with mesh.tcp("front", "store") as session:
            assert session.recv(100) == GREETING
        mesh.write_policy(NARROWER)
        sent = mesh.septum("apply", "--wait", "0.5", "--json")
        assert sent.code == 1
        assert {node["node"]: node["arrived"] for node in sent.json["nodes"]} == {"a": "missing", "b": "missing"}
        assert mesh.call("front", "http://orders/orders", "POST").status == 200, "what was held before is enforced"
        busy = _import_of_an_agent()
        cold = _restarted(mesh, "b")
        busy = max(busy, _import_of_an_agent())
        assert [order(mesh, id) for id in asked[5:]] == [200] * 15
        assert order(mesh, "cut-denied-cold", "DELETE") == 403
        away = mesh.node("b", "status")
        assert "(away)" in away.out, away
        until(lambda: "not connected" in mesh.septum("status").out, within=45, what="a status that says so")
    took = seconds(lambda: _all_held(mesh), 10, "both nodes holding what was applied", mesh.logs)
    assert mesh.call("front", "http://orders/orders", "POST").status == 403
    record_property("cold start in a partition (s)", cold)
    record_property("held after a partition (s)", took)
    print(f"cold start in a partition: {cold:.2f} s, an agent's imports {busy:.2f} s; held after its end: {took:.2f} s")
    assert cold < max(COLD, 5 * busy)
    assert took < 3
    until(
        lambda: {f"/orders/{id}" for id in asked} <= set(_paths(mesh)), within=15, what="every record", says=mesh.logs
    )
    twice = [path for path, times in Counter(_paths(mesh)).items() if path.startswith("/orders/cut") and times > 1]
    assert not twice


def test_a_partition_between_two_nodes_is_503_with_its_reason_and_heals_by_itself(
    mesh: NetHosts, record_property: Callable[[str, object], None]
) -> None:
    assert order(mesh, "whole") == 200
    with mesh.lan.parted("a", "b"):
        first = seconds(lambda: mesh.status("front", "http://orders/orders/parted") == 503, 60, "a 503", mesh.logs)
        answer = mesh.call("front", "http://orders/orders/parted-again")
        assert answer.status == 503, answer
        with mesh.tcp("front", "store") as session:
            session.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert session.recv(100) == b""
    took = seconds(lambda: order(mesh, "healed") == 200, 15, "a call that passes again", mesh.logs)
    print(f"first 503: {first:.2f} s; recovery: {took:.2f} s")
    record_property("first 503 after a partition between nodes (s)", first)
    record_property("calls after a partition between nodes (s)", took)
    assert took < 5
    found = until(
        lambda: [r for r in mesh.stored() if r["path"] == "/orders/parted-again"], what="the record", says=mesh.logs
    )
    (record,) = found
    assert (record["node"], record["status"]) == ("a", 503)
    assert record["reason"].startswith("not delivered"), record


def _restarted(mesh: NetHosts, node: str) -> float:
    """Stop a node's host and start it again: seconds from its start to the first call that passes."""
    mesh.stop_host(node)
    began = time.monotonic()
    mesh.join(node)

    def enforces() -> bool:
        try:
            return order(mesh, "cold") == 200
        except (OSError, http.client.HTTPException):
            return False

    until(enforces, within=20, what="a call through a node that was started", says=mesh.logs)
    return time.monotonic() - began


def _import_of_an_agent() -> float:
    """Seconds that this machine takes for it now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import septum.app.agent"], check=True)
    return time.monotonic() - began


def _all_held(mesh: NetHosts) -> bool:
    return all(node["held"] and node["connected"] for node in mesh.nodes_status().values())


def _paths(mesh: NetHosts) -> list[Any]:
    return [record["path"] for record in mesh.stored("--limit", "1000")]


def _frames(tap: socket.socket) -> bytes:
    """Everything that a tap has heard, until it is silent."""
    heard = []
    with contextlib.suppress(TimeoutError):
        while True:
            heard.append(tap.recv(65536))
    return b"".join(heard)
