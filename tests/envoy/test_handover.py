"""One Envoy takes over from another, and nobody who calls notices."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from backends import GREETING, GrpcEcho, HttpEcho, TcpGreeter, echo
from mesh_process import Mesh
from ports import Port
from waiting import until

from septum.envoy.access_log import DECISIONS
from septum.envoy.bootstrap import Start, bootstrap
from septum.node import admin, adopted, handover
from septum.node.binary import find_envoy
from septum.node.handover import RefusedError, Upgraded
from septum.rpc import local

pytestmark = [pytest.mark.xdist_group("handover"), pytest.mark.timeout(240)]

ALLOW = """\
allow:
  - {name: open, from: front, to: orders, http: ["GET,POST /open/**"]}
  - {from: front, to: pay, grpc: [test.Echo/Unary]}
  - {from: front, to: store}
"""
OPEN, CLOSED = "http://orders/open/it", "http://orders/closed"


def slow_or_not(handler: BaseHTTPRequestHandler) -> None:
    """An echo; `/open/slow` takes two seconds."""
    if handler.path == "/open/slow":
        threading.Event().wait(2)
    echo(handler)


@contextmanager
def running(below: str = "") -> Iterator[Mesh]:
    with HttpEcho(slow_or_not) as orders, TcpGreeter() as store, GrpcEcho() as pay:
        workloads = {
            "front": {"dials": ["store"]},
            "orders": {"at": orders.address},
            "pay": {"at": pay.address, "protocol": "grpc"},
            "store": {"at": store.address, "protocol": "tcp"},
        }
        with Mesh(workloads, ALLOW, below=below) as mesh:
            yield mesh


@pytest.fixture
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    with running() as mesh:
        yield mesh
        print("\n".join(map(str, mesh.up.events)), mesh.logs(), sep="\n")  # shown when the test failed


def enforces(mesh: Mesh) -> bool:
    return (mesh.status("front", OPEN), mesh.status("front", CLOSED)) == (200, 403)


def shared_memory(mesh: Mesh) -> Path:
    noted = adopted.read(mesh.state, "envoy")
    assert noted
    return Path(f"/dev/shm/envoy_shared_memory_{10 * (noted.base or 0)}")


def processes(mesh: Mesh, name: str = "envoy") -> list[dict[str, Any]]:
    return [one for one in handover.ps(mesh.state)["processes"] if one["process"] == name]


def envoy_pid(mesh: Mesh) -> int:
    (one,) = [one for one in processes(mesh) if one["state"] == "running"]
    return int(one["pid"])


class Load:
    """Clients that go on calling; each kind counts what went well, and `failures` keeps what did not."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.done, self.failures = mesh, Counter[str](), list[str]()
        self._over = threading.Event()
        kinds: list[Callable[[], None]] = [self.new, self.new, self.kept, self.kept, self.slow, self.rpc, self.tcp]
        kinds.append(self.tunnel)
        self._threads = [threading.Thread(target=self._go_on, args=(kind,), daemon=True) for kind in kinds]

    def _go_on(self, kind: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                kind()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails of it
                self.failures.append(f"{kind.__name__}: {error!r}")

    def new(self) -> None:
        """A request that must not be repeated, on a connection of its own."""
        answer = self.mesh.call("front", OPEN, "POST", b"once")
        assert answer.status == 200, answer
        self.done["new"] += 1

    def kept(self) -> None:
        """The same on one connection, for as long as the other side keeps it."""
        with closing(self.mesh.connection("front")) as connection:
            while not self._over.is_set():
                answer = self.mesh.call("front", OPEN, "POST", b"once", connection=connection)
                assert answer.status == 200, answer
                self.done["kept"] += 1

    def slow(self) -> None:
        assert self.mesh.call("front", "http://orders/open/slow").status == 200
        self.done["slow"] += 1

    def rpc(self) -> None:
        """One HTTP/2 connection."""
        host, port = self.mesh.outbound("front")
        options = [("grpc.default_authority", "pay"), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"{host}:{port}", options=options) as channel:
            unary = channel.unary_unary("/test.Echo/Unary")
            while not self._over.is_set():
                assert unary(b"x", timeout=10) == b"x"
                self._over.wait(0.002)  # it alone would take all the time there is
                self.done["rpc"] += 1

    def tcp(self) -> None:
        """A session that ends within the time that is left to it."""
        with socket.create_connection(self.mesh.dial("front", "store"), 10) as session:
            talk(session)
        self.done["tcp"] += 1

    def tunnel(self) -> None:
        with socket.create_connection(self.mesh.outbound("front"), 10) as session:
            session.sendall(b"CONNECT store:80 HTTP/1.1\r\nhost: store:80\r\n\r\n")
            head = session.recv(65536)
            assert head.startswith(b"HTTP/1.1 200"), head
            talk(session, head.partition(b"\r\n\r\n")[2])
        self.done["tunnel"] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.done) == 6, 20, "every kind of call", lambda: f"{self.done} {self.failures}")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)


def talk(session: socket.socket, had: bytes = b"") -> None:
    """The greeting, and then a few words there and back over half a second."""
    while len(had) < len(GREETING):
        had += received(session)
    assert had == GREETING
    for _ in range(10):
        session.sendall(b"word")
        assert received(session) == b"word"
        threading.Event().wait(0.05)


def received(session: socket.socket) -> bytes:
    data = session.recv(65536)
    assert data, "the session was cut"
    return data


def counts_agree(mesh: Mesh) -> bool:
    """Every run has as many lines as it counted: those that ended, and the one that runs."""
    lines = Counter(line["run"] for line in mesh.lines())
    now = asyncio.run(admin.counter(mesh.state, DECISIONS))
    counted = {**adopted.counts_of(mesh.state, "envoy"), str(adopted.run_of(mesh.state, "envoy")): now}
    return dict(lines) == counted


def test_ten_hand_overs_in_a_row_and_no_call_fails(mesh: Mesh) -> None:
    memory, first = shared_memory(mesh), envoy_pid(mesh)
    assert memory.exists()
    pids, done = [first], []
    with Load(mesh) as load:
        for _ in range(10):
            one = handover.upgrade(mesh.state, patience=20)
            done.append(one)
            assert (one.old_pid, one.left, load.failures[:3]) == (pids[-1], 0, []), one
            pids.append(one.new_pid)
        during = dict(load.done)
    print("calls:", during)
    print("\n".join(map(str, done)))
    assert load.failures == []
    assert len(set(pids)) == 11
    assert [pid for pid in pids if psutil.pid_exists(pid)] == [envoy_pid(mesh)] == pids[-1:]
    assert shared_memory(mesh) == memory, "one lineage has one memory"
    until(lambda: counts_agree(mesh), what="as many lines as decisions, in every run", says=mesh.logs)
    assert len(adopted.counts_of(mesh.state, "envoy")) == 10
    mode = (mesh.state / "admin.sock").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert enforces(mesh)
    assert mesh.apply(ALLOW.replace("/open/", "/closed/"))["outcome"] == "held"
    assert mesh.stop() == 0
    assert not memory.exists()
    assert list(mesh.state.glob("hot_*")) == []


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_envoy_that_cannot_take_over_leaves_the_old_one_alone(mesh: Mesh, tmp_path: Path) -> None:
    """What can be known beforehand, is: nothing is started."""
    before, envoy = envoy_pid(mesh), find_envoy()
    other = script(tmp_path / "other", f'[ "$1" = --hot-restart-version ] && echo 11.105 || exec {envoy} "$@"')
    with pytest.raises(RefusedError, match=r"speaks version 11.105 of hot restart and the running Envoy 11.104"):
        handover.upgrade(mesh.state, other)
    broken = script(tmp_path / "broken", "echo no such library; exit 127")
    with pytest.raises(RefusedError, match="is no Envoy that runs here: no such library"):
        handover.upgrade(mesh.state, broken)
    good = (mesh.state / "envoy.pb").read_bytes()
    (mesh.state / "envoy.pb").write_bytes(b"nonsense")
    with pytest.raises(RefusedError, match="does not accept the bootstrap"):
        handover.upgrade(mesh.state)
    with pytest.raises(RefusedError, match="does not accept the bootstrap"):
        handover.restart(mesh.state)
    assert asyncio.run(admin.request(mesh.state, "GET", "/ready")) == "LIVE\n"
    assert (envoy_pid(mesh), enforces(mesh)) == (before, True)
    (mesh.state / "envoy.pb").write_bytes(good)
    assert handover.upgrade(mesh.state, patience=5).old_pid == before
    assert enforces(mesh)


def test_an_envoy_that_fails_on_its_way_leaves_the_old_one_serving_and_the_next_one_may_come(
    mesh: Mesh, tmp_path: Path
) -> None:
    before, good = envoy_pid(mesh), (mesh.state / "envoy.pb").read_bytes()
    with Port() as taken, socket.create_server(("127.0.0.1", taken.number)):
        (mesh.state / "envoy.pb").write_bytes(with_a_listener_on(taken.number))
        for _ in range(2):
            with pytest.raises(RefusedError, match=r"the new Envoy ended with status 1: .*Address already in use"):
                handover.upgrade(mesh.state)
            assert (envoy_pid(mesh), enforces(mesh)) == (before, True)
    (mesh.state / "envoy.pb").write_bytes(good)
    killed = script(
        tmp_path / "killed", f'case "$*" in *--mode*|*version*) exec {find_envoy()} "$@";; esac; kill -9 $$'
    )
    with pytest.raises(RefusedError, match="the new Envoy ended with status -9"):
        handover.upgrade(mesh.state, killed)
    one = handover.upgrade(mesh.state, patience=5)
    assert (one.old_pid, one.left) == (before, 0)
    assert enforces(mesh)
    assert asyncio.run(admin.request(mesh.state, "GET", "/ready")) == "LIVE\n"
    until(lambda: counts_agree(mesh), what="as many lines as decisions, in every run", says=mesh.logs)


def with_a_listener_on(port: int) -> bytes:
    """A bootstrap that is valid, and that only fails when it is run."""
    from envoy.config.listener.v3.listener_pb2 import Listener

    made = bootstrap(Start("node", "test", "xds.sock", "admin.sock"))
    listener = Listener(name="taken")
    listener.address.socket_address.address, listener.address.socket_address.port_value = "127.0.0.1", port
    listener.enable_reuse_port.value = False
    listener.filter_chains.add().filters.add(
        name="echo"
    ).typed_config.type_url = "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"
    made.static_resources.listeners.append(listener)
    return bytes(made.SerializeToString())


def test_without_its_agent_nobody_takes_over_and_without_the_control_plane_one_does(mesh: Mesh) -> None:
    before, agent, control = envoy_pid(mesh), mesh.pid("agent"), mesh.pid("control")
    os.kill(agent, signal.SIGSTOP)
    try:
        answer = local.call(mesh.state, "node.sock", "upgrade", within=2, patience=5)
        assert answer["refused"].startswith("the new Envoy did not serve within 2 seconds")
        assert (envoy_pid(mesh), enforces(mesh)) == (before, True)
    finally:
        os.kill(agent, signal.SIGCONT)
    os.kill(control, signal.SIGSTOP)
    try:
        assert handover.upgrade(mesh.state, patience=5).old_pid == before
        assert enforces(mesh)
    finally:
        os.kill(control, signal.SIGCONT)


@contextmanager
def leaving(mesh: Mesh, patience: float = 60) -> Iterator[tuple[socket.socket, Future[Upgraded]]]:
    """A hand-over under way, that waits for the end of one session."""
    with socket.create_connection(mesh.dial("front", "store"), 10) as session, ThreadPoolExecutor(1) as pool:
        assert received(session) == GREETING
        upgrading = pool.submit(handover.upgrade, mesh.state, patience=patience)
        mesh.up.event("handed over")
        yield session, upgrading


def test_what_is_open_at_the_end_of_its_patience_is_closed(mesh: Mesh) -> None:
    with leaving(mesh, patience=4) as (session, upgrading):
        assert [one["state"] for one in processes(mesh)] == ["running", "leaving"]
        with pytest.raises(RefusedError, match="just being replaced"):
            handover.upgrade(mesh.state)
        session.sendall(b"word")
        assert received(session) == b"word"
        done = upgrading.result(20)
        assert done.left == 1
        assert "1 connection was closed" in str(done)
        session.settimeout(5)
        assert session.recv(1) == b""
    assert mesh.up.event("left")["connections"] == 1
    assert enforces(mesh)


def test_a_change_reaches_also_the_one_that_is_leaving(mesh: Mesh) -> None:
    """What was allowed on a connection that is still open, and is not any more, ends with the rule."""
    with closing(mesh.connection("front")) as kept:
        assert mesh.call("front", OPEN, connection=kept).status == 200
        with leaving(mesh) as (session, upgrading):
            mesh.apply(ALLOW.replace("/open/", "/else/"))
            until(lambda: mesh.status("front", OPEN) == 403, what="the new one's verdict")
            old = processes(mesh)[1]
            assert (old["state"], mesh.call("front", OPEN, connection=kept).status) == ("leaving", 403)
            assert mesh.record(path="/open/it", run=old["run"], er="denied")
            session.sendall(b"word")
            assert received(session) == b"word"
            mesh.workloads["front"]["dials"] = {}  # a listener less: Envoy ends what it had opened
            mesh.write_mesh()
            mesh.apply(ALLOW.replace("  - {from: front, to: store}\n", ""))
            session.settimeout(8)
            assert session.recv(1) == b"", "the session goes on, though nothing allows it"
            assert upgrading.result(30).left == 1


def test_a_supervisor_that_is_killed_meanwhile_is_followed_by_one_that_sees_it_through(mesh: Mesh) -> None:
    with leaving(mesh, patience=12) as (session, upgrading):
        old, new = (one["pid"] for one in reversed(processes(mesh)))
        mesh.up.signal(signal.SIGKILL)
        mesh.up.wait()
        with pytest.raises(local.NotRunningError):
            upgrading.result(20)
        up = mesh.start()
        assert up.event("taken over", process="envoy")["pid"] == new
        up.event("ready")
        session.sendall(b"word")
        assert received(session) == b"word"
        assert [(one["pid"], one["state"]) for one in processes(mesh)] == [(new, "running"), (old, "leaving")]
    assert mesh.up.event("left", within=30)["pid"] == old
    assert enforces(mesh)
    assert handover.upgrade(mesh.state, patience=5).old_pid == new


def test_a_supervisor_that_is_killed_while_one_comes_leaves_one_that_serves(mesh: Mesh) -> None:
    before, agent = envoy_pid(mesh), mesh.pid("agent")
    os.kill(agent, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        upgrading = pool.submit(handover.upgrade, mesh.state)
        coming = until(lambda: adopted.find(mesh.state, "envoy.coming"), what="the new one")
        until(
            lambda: b"shutting down admin" in (mesh.state / "envoy.log").read_bytes(), what="its start", says=mesh.logs
        )
        mesh.up.signal(signal.SIGKILL)
        mesh.up.wait()
        os.kill(agent, signal.SIGKILL)
        assert upgrading.exception(20)
    up = mesh.start()
    assert up.event("taken over", process="envoy")["pid"] == before
    up.event("ready")
    assert coming not in mesh.processes()
    assert enforces(mesh)


@pytest.mark.parametrize("which", ["new", "old"])
def test_one_that_dies_meanwhile_does_not_take_the_other_along(mesh: Mesh, which: str) -> None:
    with leaving(mesh, patience=3) as (_, upgrading):
        pids = dict(zip(("new", "old"), (one["pid"] for one in processes(mesh)), strict=True))
        seen = len(mesh.up.events)
        os.kill(pids[which], signal.SIGKILL)
        if which == "new":
            mesh.up.event("started", process="envoy", after=seen)
        upgrading.result(30)
    until(lambda: enforces(mesh), what="both verdicts", says=mesh.logs)
    if which == "old":  # whom the new one tells to end once its time is up, and nobody is there to hear
        until(lambda: uptime(mesh) > 20, 40, "the time at which it is told", mesh.logs)
        assert envoy_pid(mesh) == pids["new"]
    assert handover.upgrade(mesh.state, patience=5).left == 0


def uptime(mesh: Mesh) -> float:
    return time.time() - psutil.Process(envoy_pid(mesh)).create_time()


def test_everything_ends_in_the_middle_of_a_hand_over(mesh: Mesh) -> None:
    memory = shared_memory(mesh)
    with leaving(mesh) as (_, upgrading):
        assert mesh.stop() == 0
        wait([upgrading], 20)
    assert mesh.processes() == {}
    assert not memory.exists()


def test_two_meshes_hand_over_at_once_also_where_paths_are_long() -> None:
    below = "/".join(["a-directory-with-a-long-name"] * 8)
    with running() as one, running(below) as other, ThreadPoolExecutor(2) as pool:
        assert len(str(other.state)) > 107
        for _ in range(2):
            done = list(pool.map(lambda mesh: handover.upgrade(mesh.state, patience=5), (one, other)))
            assert [each.left for each in done] == [0, 0]
            assert enforces(one)
            assert enforces(other)


def test_both_open_the_log_anew(mesh: Mesh) -> None:
    log = mesh.state / "records" / "decisions.jsonl"
    with closing(mesh.connection("front")) as kept, leaving(mesh) as (session, upgrading):
        runs = [one["run"] for one in processes(mesh)]
        assert mesh.call("front", CLOSED).status == 403
        log.rename(log.with_name("moved.jsonl"))
        asyncio.run(admin.reopen_logs(mesh.state))
        assert mesh.call("front", CLOSED, connection=kept).status == 403
        session.close()
        upgrading.result(30)
        until(lambda: {line["run"] for line in mesh.lines()} == set(runs), what="lines of both", says=mesh.logs)


def test_a_plain_restart_starts_another_one(mesh: Mesh) -> None:
    before = envoy_pid(mesh)
    done = handover.restart(mesh.state)
    assert (done.old_pid, done.new_pid) == (before, envoy_pid(mesh))
    until(lambda: enforces(mesh), what="both verdicts", says=mesh.logs)
    assert not [event for event in mesh.up.events if event["event"] in ("ended", "killed")]


def test_the_processes_are_listed(mesh: Mesh) -> None:
    listed = handover.ps(mesh.state)
    assert listed["pid"] == mesh.up.pid
    control, agent, envoy = listed["processes"]
    assert (agent["process"], agent["state"], agent["pid"]) == ("agent", "running", mesh.pid("agent"))
    assert (control["process"], control["pid"], control["version"]) == ("control", mesh.pid("control"), "")
    assert (envoy["process"], envoy["state"], envoy["starts"]) == ("envoy", "running", 1)
    assert envoy["run"] == adopted.run_of(mesh.state, "envoy")
    assert envoy["version"].startswith("1.")
    assert stat.S_IMODE((mesh.state / "node.sock").stat().st_mode) == 0o600
