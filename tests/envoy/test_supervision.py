"""`septum up` as a process tree: it serves, ends cleanly, and goes on enforcing whatever part of it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Iterator

import psutil
import pytest
from backends import HttpEcho, TcpGreeter
from mesh_process import Mesh
from waiting import until

from septum.envoy.access_log import DECISIONS
from septum.node import admin, adopted

pytestmark = pytest.mark.xdist_group("supervision")

ALLOW = """\
allow:
  - {name: open, from: front, to: orders, http: [GET /open]}
  - {from: front, to: store}
"""
OPEN, CLOSED = "http://orders/open", "http://orders/closed"


@pytest.fixture(scope="module")
def orders() -> Iterator[HttpEcho]:
    with HttpEcho() as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(orders: HttpEcho) -> Iterator[Mesh]:
    """One mesh for the tests that leave it as they found it."""
    with TcpGreeter() as store:
        workloads = {
            "front": {"dials": ["store"]},
            "orders": {"at": orders.address},
            "store": {"at": store.address, "protocol": "tcp"},
        }
        with Mesh(workloads, ALLOW) as mesh:
            yield mesh


@pytest.fixture
def alone(orders: HttpEcho) -> Iterator[Mesh]:
    """A mesh that is not started yet."""
    with Mesh(
        {"front": {}, "orders": {"at": orders.address}},
        ALLOW.replace("  - {from: front, to: store}\n", ""),
        start=False,
    ) as mesh:
        yield mesh


def enforces(mesh: Mesh) -> bool:
    return (mesh.status("front", OPEN), mesh.status("front", CLOSED)) == (200, 403)


def test_up_says_when_it_is_ready_and_then_serves(mesh: Mesh) -> None:
    ready = mesh.up.event("ready")
    assert ready["pid"] == mesh.up.pid
    assert enforces(mesh)
    assert mesh.septum("status").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(alone: Mesh, number: signal.Signals) -> None:
    up = alone.start()
    up.event("ready")
    assert len(alone.processes()) == 4  # it, the control plane, the agent and Envoy
    up.signal(number)
    assert up.wait() == 0
    assert up.events[-1]["event"] == "stopped"
    assert not [event for event in up.events if event["event"] in ("ended", "killed")]
    assert alone.processes() == {}
    assert up.err == ""


def test_a_signal_while_it_starts_ends_everything(alone: Mesh) -> None:
    up = alone.start()
    up.event("started", process="control")
    up.signal(signal.SIGINT)
    assert up.wait() == 0
    assert alone.processes() == {}


def test_a_second_up_is_refused_and_names_the_first(mesh: Mesh) -> None:
    refused = mesh.septum("up")
    assert refused.code == 1
    assert f"already up (pid {mesh.up.pid})" in refused.err
    assert enforces(mesh)


def test_envoy_killed_is_started_again_with_its_configuration(mesh: Mesh) -> None:
    before, seen = mesh.pid("envoy"), len(mesh.up.events)
    os.kill(before, signal.SIGKILL)
    assert mesh.up.event("ended", process="envoy", after=seen)["status"] == -signal.SIGKILL
    assert mesh.up.event("started", process="envoy", after=seen)["pid"] != before
    until(lambda: enforces(mesh), what="both verdicts", says=mesh.logs)
    assert mesh.septum("status").code == 0


def test_envoy_enforces_while_the_control_plane_is_dead(mesh: Mesh) -> None:
    control, seen = mesh.pid("control"), len(mesh.up.events)
    mesh.up.signal(signal.SIGSTOP)  # nobody starts it again, so the gap is as long as the test needs it
    try:
        until(lambda: psutil.Process(mesh.up.pid).status() == psutil.STATUS_STOPPED, what="the supervisor stands still")
        os.kill(control, signal.SIGKILL)
        until(lambda: control not in mesh.processes(), what="the end of the control plane")
        assert enforces(mesh)
        gone = mesh.septum("apply")
        assert (gone.code, "no control plane answers" in gone.err) == (1, True)
    finally:
        mesh.up.signal(signal.SIGCONT)
    mesh.up.event("started", process="control", after=seen)
    assert enforces(mesh)
    until(lambda: mesh.septum("status").code == 0, what="the control plane is back", says=mesh.logs)
    assert mesh.apply(ALLOW.replace("/open", "/closed"))["outcome"] == "held"
    assert mesh.status("front", CLOSED) == 200
    assert mesh.apply(ALLOW)["outcome"] == "held"


def test_the_admin_is_a_socket_for_the_owner_alone(mesh: Mesh) -> None:
    mode = (mesh.state / "admin.sock").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert stat.S_IMODE((mesh.state / "control.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(mesh.state.stat().st_mode) == 0o700


def test_the_admin_counts_what_is_on_record(mesh: Mesh) -> None:
    """What the account of lost records rests on."""
    assert mesh.status("front", CLOSED) == 403
    run = str(adopted.run_of(mesh.state, "envoy"))

    def agree() -> bool:
        counted = asyncio.run(admin.counter(mesh.state, DECISIONS))
        return counted is not None and counted == [line["run"] for line in mesh.lines()].count(run) > 0

    until(agree, what="as many lines as decisions", says=mesh.logs)


def test_the_log_is_opened_anew_when_it_was_moved(mesh: Mesh) -> None:
    log = mesh.state / "records" / "decisions.jsonl"
    mesh.record(path="/closed")
    log.rename(log.with_name("moved.jsonl"))
    asyncio.run(admin.reopen_logs(mesh.state))
    assert mesh.status("front", CLOSED) == 403
    assert mesh.record(path="/closed")


def test_nothing_listens_but_the_listeners_of_the_mesh(mesh: Mesh) -> None:
    """SECURITY row 35: no open control surface."""
    expected = {mesh.outbound(name) for name in mesh.workloads} | {mesh.dial("front", "store")}
    found = set()
    for pid in mesh.processes():
        for connection in psutil.Process(pid).net_connections("inet"):
            if not connection.raddr:
                found.add((connection.laddr.ip, connection.laddr.port))
    assert found == expected
