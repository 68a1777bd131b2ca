"""Two hosts and a control plane as real processes: who belongs, who is served what, and what goes on without whom."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from backends import GREETING, HttpEcho, TcpGreeter
from hosts import Hosts
from waiting import until

pytestmark = pytest.mark.xdist_group("two hosts")

ALLOW = """allow:
  - {name: front-orders, from: front, to: orders, http: ["GET /orders/{id}", POST /orders]}
  - {name: front-store, from: front, to: store}
"""
NARROWER = ALLOW.replace(", POST /orders", "")


@pytest.fixture(scope="module")
def backend() -> Iterator[HttpEcho]:
    with HttpEcho() as echo:
        yield echo


@pytest.fixture(scope="module")
def store() -> Iterator[TcpGreeter]:
    with TcpGreeter() as greeter:
        yield greeter


def made(backend: HttpEcho, store: TcpGreeter) -> Hosts:
    a = {"front": {"dials": ["store"]}, "stranger": {"dials": ["store"]}}
    b = {"orders": {"at": backend.address}, "store": {"at": store.address, "protocol": "tcp"}}
    return Hosts({"a": a, "b": b}, ALLOW)


@pytest.fixture(scope="module")
def shared(backend: HttpEcho, store: TcpGreeter) -> Iterator[Hosts]:
    """For tests that leave all as they found it."""
    with made(backend, store) as mesh:
        yield mesh


@pytest.fixture
def hosts(backend: HttpEcho, store: TcpGreeter) -> Iterator[Hosts]:
    with made(backend, store) as mesh:
        yield mesh


def test_calls_between_hosts_are_decided_and_recorded_once(shared: Hosts) -> None:
    assert shared.call("front", "http://orders/orders/1").status == 200
    assert shared.call("front", "http://orders/orders/1", "DELETE").status == 403
    assert shared.call("stranger", "http://orders/orders/1").status == 403
    with shared.tcp("front", "store") as session:
        assert session.recv(100) == GREETING
    records = until(lambda: [r for r in shared.stored() if r["target"]][3:] and shared.stored(), what="four records")
    seen = [(r["caller"], r["target"], r["method"], r["decision"], r["rule"], r["node"]) for r in records]
    assert sorted(seen) == [
        ("front", "orders", "DELETE", "deny", "", "b"),
        ("front", "orders", "GET", "allow", "front-orders", "b"),
        ("front", "store", "connect", "allow", "front-store", "b"),
        ("stranger", "orders", "GET", "deny", "", "a"),
    ]


def test_apply_says_who_holds_it_and_who_was_last(hosts: Hosts) -> None:
    applied = hosts.apply(NARROWER)
    assert {node["node"]: node["arrived"] for node in applied["nodes"]} == {"a": "held", "b": "held"}
    assert hosts.call("front", "http://orders/orders", "POST", b"x").status == 403
    hosts.write_policy(ALLOW)
    said = hosts.septum("apply").out
    assert "held by 2 of 2 nodes" in said
    assert "the last was" in said
    hosts.stop_host("b")
    hosts.write_policy(NARROWER)
    result = hosts.septum("apply", "--wait", "0.5")
    assert result.code == 1, result
    assert "b: missing: not connected" in result.out


def test_a_token_lets_one_host_in_once(hosts: Hosts) -> None:
    hosts.stop_host("b")
    used = hosts.token("b")
    hosts.forget_host("b")
    hosts.join("b", used).event("ready")
    hosts.stop_host("b")
    hosts.forget_host("b")
    again = hosts.join("b", used)
    assert again.wait() == 1
    assert "was used already" in again.err
    damaged = hosts.join("b", used[:-10])
    assert damaged.wait() == 1
    assert "token" in damaged.err
    short = hosts.token("b", "--for", "1s")
    deadline = time.time() + 1.1
    until(lambda: time.time() > deadline, what="the end of the token")
    late = hosts.join("b", short)
    assert late.wait() == 1
    assert "expired" in late.err


def test_a_host_goes_on_without_the_control_plane_and_starts_without_it(hosts: Hosts) -> None:
    control = hosts._ups[0]
    assert hosts.call("front", "http://orders/orders/1").status == 200
    control.signal(9)
    control.wait()
    hosts.stop_host("b")
    began = time.monotonic()
    hosts.join("b").event("ready")
    assert time.monotonic() - began < 10
    assert hosts.call("front", "http://orders/orders/2").status == 200
    assert hosts.call("front", "http://orders/orders/2", "DELETE").status == 403
    hosts.start().event("ready", after=0)
    hosts.held()
    until(lambda: {"/orders/1", "/orders/2"} <= {r["path"] for r in hosts.stored()}, what="every record")
    paths = [(r["path"], r["method"]) for r in hosts.stored()]
    assert sorted(paths) == sorted(set(paths)), "a record twice"


def test_a_removed_node_is_refused_from_then_on(hosts: Hosts) -> None:
    with hosts.tcp("front", "store") as session:
        assert session.recv(100) == GREETING
        removed = hosts.septum("nodes", "remove", "a", "--yes")
        assert removed.code == 0, removed
        began = time.monotonic()
        session.settimeout(8)
        with suppress(ConnectionResetError):
            assert session.recv(100) == b""
        assert time.monotonic() - began < 5
    assert hosts.status("front", "http://orders/orders/1") in (0, 503)
    assert "removed" in hosts.septum("nodes").out


def greeted(hosts: Hosts) -> socket.socket:
    """A session with the store that was greeted. One that is opened while an earlier change drains may end at once."""
    opened: list[socket.socket] = []

    def greets() -> bool:
        opened.append(hosts.tcp("front", "store"))
        with suppress(ConnectionResetError):
            if opened[-1].recv(100) == GREETING:
                return True
        opened.pop().close()
        return False

    until(greets, what="a session that is greeted")
    return opened[0]


def test_quarantine_ends_what_is_live_and_gives_it_back(shared: Hosts) -> None:
    with greeted(shared) as session:
        result = shared.septum("quarantine", "front", "--for", "1h")
        assert result.code == 0, result
        assert "2 of 2" in result.out
        assert shared.call("front", "http://orders/orders/1").status == 403
        began = time.monotonic()
        session.settimeout(8)
        with suppress(ConnectionResetError):
            assert session.recv(100) == b""
        assert time.monotonic() - began < 5
    assert "front" in shared.septum("quarantine").out
    assert shared.septum("quarantine", "front", "--release").code == 0
    assert shared.call("front", "http://orders/orders/1").status == 200


def test_certificates_rotate_under_load_without_a_failed_request(shared: Hosts) -> None:
    failed: list[object] = []
    done, count = threading.Event(), [0]

    def load() -> None:
        connection: http.client.HTTPConnection | None = None
        while not done.is_set():
            connection = connection or shared.connection("front")
            status = shared.call("front", f"http://orders/orders/{count[0]}", connection=connection).status
            count[0] += 1
            if status != 200:
                failed.append(status)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for step in ("prepare", "activate", "retire"):
            result = shared.septum("ca", "rotate", "--step", step, within=90)
            assert result.code == 0, result
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert count[0] > 100
    assert not failed
    shown = shared.septum("ca", "show", "--json").json
    assert shown["stage"] == "retired" or shown["stage"] == "settled", shown


def test_a_killed_agent_and_a_killed_envoy_come_back(shared: Hosts) -> None:
    agent, envoy = shared.pid_on("b", "agent"), shared.pid_on("b", "envoy")
    os.kill(agent, 9)
    assert shared.call("front", "http://orders/orders/1").status == 200, "Envoy goes on"
    until(lambda: shared.pid_on("b", "agent") != agent, what="another agent")
    shared.apply(NARROWER)
    assert shared.call("front", "http://orders/orders", "POST", b"x").status == 403, "by the other agent"
    shared.apply(ALLOW)
    os.kill(envoy, 9)
    until(lambda: shared.pid_on("b", "envoy") != envoy, what="another Envoy")
    until(lambda: shared.status("front", "http://orders/orders/2") == 200, what="service again")


def test_an_upgraded_envoy_takes_over_without_a_failed_request(shared: Hosts) -> None:
    assert shared.call("front", "http://orders/orders/0").status == 200
    result = shared.node("b", "upgrade", "--patience", "5")
    assert result.code == 0, result
    assert "handed over" in result.out
    assert shared.call("front", "http://orders/orders/1").status == 200
