"""What breaks on a host, at the control plane, or in what they prove: closed, on record, told, and mended by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from backends import HttpEcho, TcpGreeter
from hosts import Hosts
from waiting import until

from septum.control import api
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import Identity, NodeId, WorkloadId
from septum.identity.token import Token, read_token
from septum.model.spiffe import SpiffeId
from septum.node.credentials import NODE, Credential, Credentials
from septum.rpc.client import Calls, ControlRefuses, ControlUnavailable, Tls, control_name, open_channel
from septum.rpc.messages import Enrol, Enrolled, Nothing, Renew, Sign, Signed
from septum.xds import client_wire
from septum.xds.protocol import Subscribe
from septum.xds.types import CLUSTER

pytestmark = pytest.mark.xdist_group("node faults")

DOMAIN = "test.test"
HOUR = 3600.0


def policy(version: str) -> str:
    """Each node has something to say about it: one target is on `a`, one on `b`."""
    return f"""allow:
  - {{name: front-orders, from: front, to: orders, http: ["GET /orders/{{id}}", GET /{version}]}}
  - {{name: front-local, from: front, to: local, http: [GET /always, GET /{version}]}}
  - {{name: front-store, from: front, to: store}}
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Hosts]:
    with HttpEcho() as backend, TcpGreeter() as store:
        a = {"front": {"dials": ["store"]}, "local": {"at": backend.address}}
        b = {"orders": {"at": backend.address}, "store": {"at": store.address, "protocol": "tcp"}}
        with Hosts({"a": a, "b": b}, policy("old")) as made:
            yield made


@pytest.fixture(autouse=True)
def mended(mesh: Hosts) -> Iterator[None]:
    """Nothing of a fault is left for the next test, and nobody had to mend it by hand."""
    yield
    mesh.write_policy(policy("old"))
    until(lambda: mesh.septum("apply").code == 0, within=30, what="the first policy everywhere", says=mesh.logs)
    until(lambda: mesh.status("front", "http://orders/orders/0") == 200, within=15, what="calls", says=mesh.logs)


def status(mesh: Hosts) -> dict[str, Any]:
    return api.call(mesh.state, "status")


def node(mesh: Hosts, name: str) -> dict[str, Any]:
    return next(found for found in status(mesh)["nodes"] if found["node"] == name)


def all_held(mesh: Hosts) -> bool:
    with contextlib.suppress(api.NotRunningError):
        return all(node["held"] and node["connected"] for node in status(mesh)["nodes"])
    return False


def enforced(mesh: Hosts) -> dict[str, str]:
    """Which policy each node enforces, by what passes: `old`, `new`, or a mixture that must not be."""
    seen = {
        target: "+".join(v for v in ("old", "new") if mesh.call("front", f"http://{target}/{v}").status == 200)
        for target in ("local", "orders")
    }
    return {"a": seen["local"], "b": seen["orders"]}


def on_record_once(mesh: Hosts, paths: list[str]) -> None:
    def stored() -> Counter[str]:
        return Counter(r["path"] for r in mesh.stored("--limit", "5000") if r["path"] in set(paths))

    until(lambda: len(stored()) == len(paths), within=30, what="every record", says=mesh.logs)
    assert set(stored().values()) == {1}


@contextlib.contextmanager
def disk_full(pid: int) -> Iterator[None]:
    """No file of this process grows while the block runs: writes fail with EFBIG, as on a full disk with ENOSPC."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


# The control plane is killed


def test_killed_at_any_moment_of_a_change_all_nodes_hold_one_version_of_it(mesh: Hosts) -> None:
    control, ended, took = mesh._ups[0], Counter[str](), []
    for step in range(10):
        wanted = "new" if step % 2 == 0 else "old"
        mesh.write_policy(policy(wanted))
        files = {str(p.relative_to(mesh.directory)): p.read_text() for p in mesh.directory.rglob("*.yaml")}
        applying = threading.Thread(target=_apply, args=(mesh, files))
        pid = control.pid_of("control")
        applying.start()
        # The change takes about 15 ms; the sweep begins before it is read and ends after it is stored.
        applying.join(0.003 * step)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        applying.join()
        until(
            lambda pid=pid: all_held(mesh) and control.pid_of("control") != pid,
            within=30,
            what="two nodes that hold",
            says=mesh.logs,
        )
        took.append(time.monotonic() - killed)
        found = enforced(mesh)
        assert found in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"}), (step, found)
        versions = {node["version"] for node in status(mesh)["nodes"]}
        assert versions == {status(mesh)["version"]}, (step, versions)
        said = mesh.septum("status", "--json").json
        assert (said["files"] == "enforced") == (found["a"] == wanted), (step, said["files"], found)
        ended["done" if found["a"] == wanted else "as before"] += 1
    print(f"control plane killed 10 times: {dict(ended)}; held again after {min(took):.2f} to {max(took):.2f} s")
    assert len(ended) == 2, "the sweep has moments before and after the change"


def _apply(mesh: Hosts, files: dict[str, str]) -> None:
    with contextlib.suppress(api.NotRunningError):
        api.call(mesh.state, "apply", files=files, author="test", patience=5.0)


def test_a_state_that_cannot_be_written_changes_nothing_and_says_so(mesh: Hosts) -> None:
    control = mesh._ups[0].pid_of("control")
    assert mesh.septum("quarantine", "local", "--for", "3s").code == 0
    began = time.monotonic()
    with disk_full(control):
        mesh.write_policy(policy("new"))
        refused = mesh.septum("apply")
        assert refused.code == 1
        assert "nothing changed" in refused.err
        assert "state.db" in refused.err
        token = mesh.septum("nodes", "token", "b")
        assert token.code == 1
        assert "state.db" in token.err
        assert mesh.call("front", "http://orders/old").status == 200
        assert mesh.call("front", "http://orders/new").status == 403
        with pytest.raises((ControlRefuses, ControlUnavailable), match=r"state\.db"):
            ask(mesh, "b", lambda calls: calls.call("Sign", Sign("orders", csr(new_key())), Signed))
        until(lambda: status(mesh)["records"].get("stalled"), within=20, what="records that wait", says=mesh.logs)
        until(lambda: mesh.septum("status").code == 1, within=15, what="a status that says so", says=mesh.logs)
        # The quarantine is over and cannot be given back; to try in vain ends nothing.
        until(lambda: time.monotonic() > began + 5, what="some tries")
        assert status(mesh)["quarantined"] == ["local"]
    assert mesh._ups[0].pid_of("control") == control, "the control plane goes on"
    until(lambda: mesh.status("front", "http://local/old") == 200, within=10, what="the end of the quarantine")
    assert mesh.septum("apply").code == 0
    assert enforced(mesh) == {"a": "new", "b": "new"}
    until(lambda: not status(mesh)["records"].get("stalled"), within=20, what="records again")


def _log(mesh: Hosts) -> str:
    return (mesh.state / "septum.log").read_text()


# A host fails


def test_a_host_with_a_full_disk_enforces_what_is_applied_and_says_what_it_cannot_keep(mesh: Hosts) -> None:
    agent = mesh.pid_on("b", "agent")
    with disk_full(agent):
        assert mesh.apply(policy("new"))["outcome"] == "held"
        assert enforced(mesh) == {"a": "new", "b": "new"}
        until(lambda: "is not stored" in "".join(node(mesh, "b")["troubles"]), what="the trouble", says=mesh.logs)
        for told in (mesh.septum("nodes").out, mesh.septum("status").out, mesh.node("b", "status").out):
            assert "the last good snapshot" in told
        assert mesh.node("b", "status").code == 1
        control = mesh._ups[0]
        began = len(control.events)
        os.kill(control.pid_of("control"), signal.SIGKILL)  # what the agent has to say of it cannot be logged
        control.event("started", after=began, process="control")
        until(lambda: all_held(mesh), within=30, what="both nodes", says=mesh.logs)
    until(lambda: mesh.node("b", "status").code == 0, within=20, what="an end of the trouble", says=mesh.logs)
    assert mesh.pid_on("b", "agent") == agent, "it never fell over"
    until(lambda: not node(mesh, "b")["troubles"], what="what the control plane was told", says=mesh.logs)


class Load:
    """Calls, one after the other, while the block runs: the paths of those that passed, and the other answers."""

    def __init__(self, mesh: Hosts, name: str) -> None:
        self.passed: list[str] = []
        self.failed: Counter[int] = Counter()
        self._mesh, self._name, self._over = mesh, name, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def goes_on(self, within: float = 15) -> None:
        """Wait for more calls that pass."""
        before = len(self.passed)
        until(lambda: len(self.passed) > before + 10, within, "calls that pass", self._mesh.logs)

    def _run(self) -> None:
        while not self._over.wait(0.005):
            path = f"/orders/{self._name}-{len(self.passed)}"
            code = self._mesh.status("front", f"http://orders{path}")
            if code == 200:
                self.passed.append(path)
            else:
                self.failed[code] += 1

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_killed_agent_and_a_killed_supervisor_are_nothing_to_calls_and_records(mesh: Hosts) -> None:
    up, envoy = mesh.hosts["b"], mesh.pid_on("b", "envoy")
    with Load(mesh, "kill") as load:
        _kill_agent(mesh, "b")
        killed = time.monotonic()
        until(lambda: all_held(mesh), within=20, what="the agent back", says=mesh.logs)
        print(f"agent killed: back after {time.monotonic() - killed:.2f} s")
        up.signal(signal.SIGKILL)
        up.wait()
        load.goes_on()
        mesh.join("b").event("taken over", process="envoy")
        until(lambda: all_held(mesh), within=20, what="the agent back", says=mesh.logs)
    assert not load.failed
    assert mesh.pid_on("b", "envoy") == envoy
    on_record_once(mesh, load.passed)


def test_a_killed_envoy_is_back_by_itself_and_open_to_nobody_meanwhile(mesh: Hosts) -> None:
    with Load(mesh, "before") as before:
        before.goes_on()
    on_record_once(mesh, before.passed)
    with Load(mesh, "after") as after:
        os.kill(mesh.pid_on("b", "envoy"), signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: after.failed, what="calls that find nobody")
        after.goes_on()
        print(f"Envoy killed: calls pass after {time.monotonic() - killed:.2f} s; meanwhile {dict(after.failed)}")
    assert set(after.failed) == {503}
    on_record_once(mesh, after.passed[-10:])
    assert not status(mesh)["records"].get("lost"), "of what was counted nothing is missing"


# What is proved


def _issued(
    mesh: Hosts, identity: Identity, begins: float, ends: float, authority: Authority | None = None
) -> Credential:
    """A certificate from now + `begins` to now + `ends` (seconds), of this mesh's authority or another one."""
    signer, key = authority or Authority.open(mesh.state / "ca", DOMAIN), new_key()
    made = signer.issue(csr(key), identity, ends - begins, time.time() + begins)
    return Credential.of(made.chain_pem, key)


WRONG: dict[str, tuple[float, float, bool]] = {
    "expired": (-3 * HOUR, -HOUR, False),
    "not yet valid": (HOUR + 600, 3 * HOUR, False),
    "of another authority": (0, HOUR, True),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_node_that_cannot_prove_itself_keeps_to_what_it_has_and_says_why(
    mesh: Hosts, tmp_path: Path, what: str
) -> None:
    begins, ends, foreign = WRONG[what]
    other = Authority.create(tmp_path / "ca", DOMAIN, time.time()) if foreign else None
    identity = Credentials(mesh.host("b") / "identity")
    good = identity.of(NODE)
    assert good
    identity.keep(NODE, _issued(mesh, NodeId(DOMAIN, "b"), begins, ends, other))
    try:
        _kill_agent(mesh, "b")
        until(lambda: not node(mesh, "b")["connected"], within=20, what="a node that is not let in", says=mesh.logs)
        mesh.write_policy(policy("new"))
        sent = mesh.septum("apply", "--wait", "0.5")
        assert sent.code == 1
        assert "b: missing: not connected" in sent.out
        assert enforced(mesh) == {"a": "new", "b": "old"}
        said = until(lambda: _if_told(mesh, "b"), within=15, what="a reason on the host", says=mesh.logs)
        assert "(away)" in said
        assert "not connected" in mesh.septum("nodes").out
    finally:
        identity.keep(NODE, good)
    began = time.monotonic()
    until(lambda: all_held(mesh), within=15, what="the node back with its own certificate", says=mesh.logs)
    print(f"{what}: back {time.monotonic() - began:.2f} s after its certificate")
    assert enforced(mesh) == {"a": "new", "b": "new"}
    until(lambda: identity.of(NODE) != good, within=15, what="a new one in place of what was wrong", says=mesh.logs)


def _if_told(mesh: Hosts, name: str) -> str:
    """What a node's host shows, once it says that the two do not come to trust each other."""
    shown = mesh.node(name, "status").out
    reasons = ("no TLS with the control plane", "does not take this node's certificate")
    return shown if any(reason in shown for reason in reasons) else ""


def _kill_agent(mesh: Hosts, name: str) -> None:
    agent = mesh.pid_on(name, "agent")
    os.kill(agent, signal.SIGKILL)
    until(lambda: mesh.pid_on(name, "agent") != agent, what="another agent")


@pytest.mark.parametrize("what", WRONG)
def test_a_workload_whose_certificate_is_not_good_reaches_nobody(mesh: Hosts, tmp_path: Path, what: str) -> None:
    begins, ends, foreign = WRONG[what]
    other = Authority.create(tmp_path / "ca", DOMAIN, time.time()) if foreign else None
    identity = Credentials(mesh.host("a") / "identity")
    control = mesh._ups[0]
    os.kill(control.pid_of("control"), signal.SIGSTOP)  # nobody is there to give it another one
    try:
        identity.keep("front", _issued(mesh, WorkloadId(SpiffeId(DOMAIN, "front")), begins, ends, other))
        _kill_agent(mesh, "a")
        os.kill(mesh.pid_on("a", "envoy"), signal.SIGKILL)  # its connections were made with the good one
        until(lambda: mesh.status("front", "http://local/always") == 200, within=15, what="Envoy", says=mesh.logs)
        until(
            lambda: mesh.status("front", "http://orders/orders/bad") == 503, within=15, what="no call", says=mesh.logs
        )
        assert mesh.status("front", "http://local/always") == 200, "a call within the node needs no certificate"
    finally:
        os.kill(control.pid_of("control"), signal.SIGCONT)
    began = time.monotonic()
    until(lambda: mesh.status("front", "http://orders/orders/good") == 200, within=20, what="calls", says=mesh.logs)
    print(f"{what}: calls pass {time.monotonic() - began:.2f} s after there is somebody to sign")
    bad = until(lambda: [r for r in mesh.stored() if r["path"] == "/orders/bad"], what="the record", says=mesh.logs)
    assert {(r["node"], r["status"]) for r in bad} == {("a", 503)}
    assert all(r["reason"] for r in bad), bad


# Who asks


def ask(mesh: Hosts, name: str, question: Callable[[Calls], Coroutine[Any, Any, Any]], tls: Tls | None = None) -> Any:
    """A call of the control plane, with a node's own certificate unless `tls` is given."""

    async def asked() -> Any:
        channel = open_channel(mesh.listen, tls or proof(mesh, name))
        try:
            return await question(Calls(channel, name))
        finally:
            await channel.close()

    return asyncio.run(asked())


def proof(mesh: Hosts, name: str) -> Tls:
    credentials = Credentials(mesh.host(name) / "identity")
    own = credentials.of(NODE)
    assert own
    return Tls(credentials.roots(), own.chain, own.key, control_name(DOMAIN))


def snapshot_of(mesh: Hosts, name: str, tls: Tls) -> list[bytes]:
    """What a stream gets that says it is from a node."""

    async def asked() -> list[bytes]:
        channel = open_channel(mesh.listen, tls)
        method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
        call = channel.stream_stream(method)()
        try:
            await call.write(client_wire.write(Subscribe(CLUSTER, ("*",)), name))
            async with asyncio.timeout(10):
                return [await call.read()]
        finally:
            call.cancel()
            await channel.close()

    return asyncio.run(asked())


def test_a_node_gets_nothing_of_another_one(mesh: Hosts) -> None:
    own = ask(mesh, "a", lambda calls: calls.call("Sign", Sign("front", csr(new_key())), Signed))
    assert b"BEGIN CERTIFICATE" in own.chain, "the same call, for what is its own"
    with pytest.raises(ControlRefuses, match="node a does not front orders"):
        ask(mesh, "a", lambda calls: calls.call("Sign", Sign("orders", csr(new_key())), Signed))
    with pytest.raises(ControlRefuses, match="node a does not front orders"):  # whatever name the call is made under
        ask(mesh, "b", lambda calls: calls.call("Sign", Sign("orders", csr(new_key())), Signed), proof(mesh, "a"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        snapshot_of(mesh, "b", proof(mesh, "a"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "not the certificate of 'b'" in str(refused.value.details())
    assert '"workload": "orders"' in _log(mesh)
    assert "TurnedAway" in _log(mesh)
    until(lambda: all_held(mesh), what="the node that was impersonated, undisturbed")


def _token(mesh: Hosts, name: str) -> Token:
    return read_token(mesh.token(name), time.time())


def _as_bearer(token: Token) -> Tls:
    return Tls(token.roots_pem, token.chain_pem, token.key_pem, control_name(DOMAIN))


def test_a_join_token_is_for_one_key_once_and_for_nothing_but_joining(mesh: Hosts) -> None:
    token = _token(mesh, "b")
    bearer = _as_bearer(token)
    for question in (Sign("orders", csr(new_key())), Renew(csr(new_key())), Nothing()):
        method = {Sign: "Sign", Renew: "Renew", Nothing: "Position"}[type(question)]
        with pytest.raises(ControlRefuses, match="a join certificate is not for this call"):
            ask(mesh, "b", lambda calls, m=method, q=question: calls.call(m, q, Signed), bearer)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        snapshot_of(mesh, "b", bearer)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    key = new_key()
    joined = ask(mesh, "a", lambda calls: calls.call("Enrol", Enrol(csr(key)), Enrolled), bearer)
    assert joined.node == "b", "whoever shows it, and whatever it says, is the node that the token is for"
    again = ask(mesh, "b", lambda calls: calls.call("Enrol", Enrol(csr(key)), Enrolled), bearer)
    assert again.node == "b", "its answer may have been lost"
    with pytest.raises(ControlRefuses, match="used already"):
        ask(mesh, "b", lambda calls: calls.call("Enrol", Enrol(csr(new_key())), Enrolled), bearer)
    assert "a join token was refused" in _log(mesh)
    first, second = _token(mesh, "b"), _token(mesh, "b")
    with pytest.raises(ControlRefuses, match="a newer one was made"):
        ask(mesh, "b", lambda calls: calls.call("Enrol", Enrol(csr(new_key())), Enrolled), _as_bearer(first))
    assert second.node == "b"


def test_who_has_no_certificate_of_this_mesh_is_not_answered(mesh: Hosts, tmp_path: Path) -> None:
    def signed_for(tls: Tls) -> Any:
        return ask(mesh, "a", lambda calls: calls.call("Sign", Sign("front", csr(new_key())), Signed), tls)

    good = proof(mesh, "a")
    assert signed_for(good).chain, "the same call, with what the node was given"
    other = Authority.create(tmp_path / "ca", DOMAIN, time.time())
    mine = _issued(mesh, NodeId(DOMAIN, "a"), -HOUR, HOUR)
    strangers = {
        "another authority": _issued(mesh, NodeId(DOMAIN, "a"), 0, HOUR, other),
        "expired": _issued(mesh, NodeId(DOMAIN, "a"), -3 * HOUR, -HOUR),
        "not yet valid": _issued(mesh, NodeId(DOMAIN, "a"), HOUR + 600, 3 * HOUR),
    }
    for why, credential in strangers.items():
        with pytest.raises(ControlUnavailable):
            pytest.fail(f"{why}: {signed_for(Tls(good.roots, credential.chain, credential.key, good.name))}")
    # Of this authority, in time, for this very node, and yet never handed to it by the control plane.
    with pytest.raises(ControlRefuses, match="not valid any more"):
        signed_for(Tls(good.roots, mine.chain, mine.key, good.name))
    workload = Credentials(mesh.host("a") / "identity").of("front")
    assert workload
    with pytest.raises(ControlRefuses, match="is not a node"):
        signed_for(Tls(good.roots, workload.chain, workload.key, good.name))
