"""`septum node`, as far as it goes without an Envoy, and what can be asked of one that runs."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum
from septum.cli import node as module
from septum.cli.running import Tell
from septum.identity.authority import Authority
from septum.identity.csr import csr
from septum.identity.names import NodeId
from septum.identity.token import make_token, read_token
from septum.node import supervisor
from septum.node.credentials import Credentials, Member
from septum.node.process import Spec
from septum.rpc import local

NOW = time.time()
STATUS = {
    "node": "web", "good": "0123456789abcdef", "resources": 3, "control": "10.0.0.10:7400", "trouble": "",
    "certificates": [{"identity": "spiffe://shop.test/front", "ends": NOW + 8600, "issuer": "ab"}],
    "records": {}, "envoy_up": True, "troubles": [],
}  # fmt: skip


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Spec]]:
    """What would have been run."""
    runs: list[Sequence[Spec]] = []

    async def supervise(
        specs: Sequence[Spec], tell: Tell, stopping: asyncio.Event, up: Callable[[], Awaitable[None]]
    ) -> None:
        runs.append(specs)

    monkeypatch.setattr(supervisor, "supervise", supervise)
    monkeypatch.setenv("SEPTUM_ENVOY", "/bin/true")
    monkeypatch.delenv("SEPTUM_NODE_STATE", raising=False)
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    return runs


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "shop.test", NOW)


@pytest.fixture
def host(tmp_path: Path, authority: Authority) -> Path:
    """A host that has joined as `web`; the answer is its state directory."""
    credentials = Credentials(tmp_path / "septum-node" / "identity")
    key = credentials.joining_key()
    issued = authority.issue(csr(key), NodeId("shop.test", "web"), 3600, NOW)
    member = Member("web", "shop", "shop.test", "10.0.0.10:7400", "token-1")
    credentials.join(member, issued.chain_pem, key, authority.bundle(NOW).roots_pem)
    return tmp_path / "septum-node"


def node(here: Path, *arguments: str) -> Ran:
    return septum("node", *arguments, cwd=here)


@contextmanager
def answering(state: Path, socket: str, answers: Mapping[str, Any]) -> Iterator[list[Mapping[str, Any]]]:
    """An agent or a supervisor that answers, on its socket; what it was asked."""
    up, asked = threading.Event(), []
    loop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request)
        found: Mapping[str, Any] = answers[request["op"]]
        return found

    async def serve() -> None:
        stop = asyncio.Event()
        loop.append((asyncio.get_running_loop(), stop))
        async with local.serve(state, socket, dict.fromkeys(answers, answer)):
            up.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert up.wait(10)
    yield asked
    ((running, stop),) = loop
    running.call_soon_threadsafe(stop.set)
    thread.join()


# --- starting


def test_a_host_that_joined_starts_by_itself(host: Path, started: list[Sequence[Spec]]) -> None:
    ran = node(host.parent, "--concurrency", "1", "--metrics", "127.0.0.1:9600")
    assert (ran.status, ran.out, ran.err) == (0, "stopped\n", "")
    ((agent, envoy),) = started
    assert agent.command[2:] == [
        *("septum.app.agent", "--node", "web", "--control", "10.0.0.10:7400", "--member"),
        *("--metrics", "127.0.0.1:9600"),
    ]
    assert (agent.name, agent.directory, agent.output) == ("agent", host, host / "agent.log")
    assert (envoy.name, envoy.keeps_running) == ("envoy", True)
    assert envoy.command[envoy.command.index("--concurrency") + 1] == "1"
    assert stat.S_IMODE((host / "records").stat().st_mode) == 0o700


def test_a_host_finds_a_control_plane_that_moved(host: Path, started: list[Sequence[Spec]]) -> None:
    node(host.parent, "--control", "10.0.0.20:7400")
    node(host.parent)
    for agent, _ in started:
        assert agent.command[agent.command.index("--control") + 1] == "10.0.0.20:7400"
    assert len(started) == 2


def test_a_state_elsewhere_and_certificates_from_spire(
    host: Path, tmp_path: Path, started: list[Sequence[Spec]]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = node(elsewhere, "--state", str(host), "--spire", "unix:/run/spire.sock")
    assert ran.status == 0, ran
    ((agent, _),) = started
    assert agent.command[-2:] == ["--spire", "unix:/run/spire.sock"]
    assert list(elsewhere.iterdir()) == []


def test_the_token_by_which_it_joined_is_nothing_new(
    host: Path, started: list[Sequence[Spec]], authority: Authority
) -> None:
    token = host.parent / "web.token"
    token.write_text(make_token(authority, "web", "token-1", 600, time.time()))
    assert node(host.parent, "--join", str(token)).status == 0
    token.write_text("")
    assert node(host.parent, "--join", str(token)).status == 0
    assert len(started) == 2


def test_another_token_joins_again(host: Path, started: list[Sequence[Spec]], authority: Authority) -> None:
    text = make_token(authority, "web", "token-2", 600, time.time())
    assert read_token(text, time.time()).id == "token-2"
    ran = node(host.parent, "--join", text)
    assert (ran.status, "--join needs --control HOST:PORT" in ran.err, started) == (2, True, [])


def test_a_host_that_is_nobody(tmp_path: Path, started: list[Sequence[Spec]]) -> None:
    ran = node(tmp_path)
    assert (ran.status, ran.out, started) == (2, "", [])
    assert "this host is no node yet: --control HOST:PORT --join TOKEN (`septum nodes token NAME` makes one)" in ran.err
    assert list(tmp_path.iterdir()) == [], "and nothing was written"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("septum1.nonsense", "the join token "),
        ("no-such-file", "no join token and no file with one: no-such-file: No such file or directory"),
    ],
)
def test_what_is_no_token(tmp_path: Path, started: list[Sequence[Spec]], token: str, said: str) -> None:
    ran = node(tmp_path, "--control", "127.0.0.1:1", "--join", token)
    assert (ran.status, said in ran.err, started) == (1, True, []), ran


def test_a_control_plane_that_does_not_answer(
    tmp_path: Path, started: list[Sequence[Spec]], authority: Authority
) -> None:
    text = make_token(authority, "web", "t", 600, time.time())
    ran = node(tmp_path, "--control", "127.0.0.1:1", "--join", text)
    assert (ran.status, "the control plane at 127.0.0.1:1 does not answer" in ran.err, started) == (1, True, []), ran


def test_what_it_kept_is_damaged(host: Path, started: list[Sequence[Spec]]) -> None:
    (host / "identity" / "member.json").write_text("{")
    ran = node(host.parent)
    assert (ran.status, "member.json is damaged" in ran.err, started) == (1, True, [])


def test_no_envoy(host: Path, started: list[Sequence[Spec]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPTUM_ENVOY", "/nonexistent")
    ran = node(host.parent)
    assert (ran.status, "/nonexistent" in ran.err, started) == (1, True, [])


# --- what it says when it is up


def announced(state: Path, *answers: Mapping[str, Any]) -> list[tuple[str, Mapping[str, object]]]:
    told: list[tuple[str, Mapping[str, object]]] = []
    turns = iter(answers)

    class Turns(dict[str, Any]):
        def __getitem__(self, op: str) -> Any:
            return next(turns)

    with answering(state, "agent.sock", Turns(status={})):
        asyncio.run(module._announce(state, lambda event, fields: told.append((event, fields)), "web"))
    return told


def test_it_is_ready_when_envoy_holds_a_whole_snapshot(tmp_path: Path) -> None:
    waiting = {**STATUS, "good": "", "trouble": ""}
    events = announced(tmp_path, waiting, waiting, STATUS)
    assert [event for event, _ in events] == ["waiting", "ready"]
    assert events[0][1] == {"node": "web", "for": "the control plane's first snapshot"}
    assert (events[1][1]["snapshot"], events[1][1]["control"]) == (STATUS["good"], STATUS["control"])


def test_it_says_what_it_waits_for(tmp_path: Path) -> None:
    waiting = {**STATUS, "good": "", "trouble": "node web was removed from the mesh"}
    ((_, fields), _) = announced(tmp_path, waiting, STATUS)
    assert fields["for"] == "node web was removed from the mesh"


# --- status


def shown(state: Path, *arguments: str, **differs: Any) -> Ran:
    with answering(state, "agent.sock", {"status": {**STATUS, **differs}}):
        return node(state, "--state", str(state), "status", *arguments)


def test_the_status_of_a_node_that_is_well(tmp_path: Path) -> None:
    ran = shown(tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "node web  enforcing  snapshot 0123456789ab  control plane 10.0.0.10:7400",
        "  spiffe://shop.test/front  2 h left",
    ]
    assert json.loads(shown(tmp_path, "--json").out) == STATUS


def test_a_control_plane_that_is_away_takes_nothing_from_what_is_enforced(tmp_path: Path) -> None:
    ran = shown(tmp_path, control="10.0.0.10:7400 (away)", trouble="failed to connect")
    assert (ran.status, "(away)" in ran.out, "  failed to connect" in ran.out) == (0, True, True)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"good": ""}, "enforcing nothing  snapshot -"),
        ({"troubles": ["no certificate for front: not now"]}, "  no certificate for front: not now"),
    ],
)
def test_the_status_of_a_node_that_is_not_well(tmp_path: Path, differs: dict[str, Any], said: str) -> None:
    ran = shown(tmp_path, **differs)
    assert (ran.status, said in ran.out) == (1, True), ran
    assert shown(tmp_path, "--json", **differs).status == 1


def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    ended = [{"identity": "spiffe://shop.test/front", "ends": NOW - 3 * 86400, "issuer": "ab"}]
    assert "  spiffe://shop.test/front  ended 3 d ago\n" in shown(tmp_path, certificates=ended).out


# --- upgrade and restart


def test_an_upgrade_is_asked_of_the_supervisor(tmp_path: Path) -> None:
    done = {
        "old_pid": 1, "new_pid": 2, "seconds": 0.5, "drained": 1.25, "left": 0,
        "old_version": "1.39.0", "new_version": "1.40.0",
    }  # fmt: skip
    with answering(tmp_path, "node.sock", {"upgrade": done}) as asked:
        ran = node(tmp_path, "--state", str(tmp_path), "upgrade", "--envoy", "/bin/true", "--patience", "5")
    assert (ran.status, ran.err) == (0, "")
    assert "Envoy 1 handed over to 2 (1.39.0 → 1.40.0) in 0.50 s" in ran.out
    assert [(a["op"], a["envoy"], a["patience"]) for a in asked] == [("upgrade", "/bin/true", 5.0)]


def test_a_restart_is_asked_of_the_supervisor(tmp_path: Path) -> None:
    with answering(tmp_path, "node.sock", {"restart": {"old_pid": 1, "new_pid": 2, "seconds": 0.5}}):
        ran = node(tmp_path, "--state", str(tmp_path), "restart")
    assert (ran.status, "Envoy 1 was ended and 2 started after 0.50 s" in ran.out) == (0, True)


@pytest.mark.parametrize("verb", ["upgrade", "restart"])
def test_what_the_supervisor_refuses(tmp_path: Path, verb: str) -> None:
    with answering(tmp_path, "node.sock", {verb: {"refused": "no Envoy runs at this moment"}}):
        ran = node(tmp_path, "--state", str(tmp_path), verb)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "Error: nothing has changed: no Envoy runs at this moment\n"


def test_an_upgrade_to_what_is_not_there(tmp_path: Path) -> None:
    ran = node(tmp_path, "upgrade", "--envoy", "/nonexistent")
    assert (ran.status, "no Envoy to run at /nonexistent" in ran.err) == (1, True)


# --- elsewhere


@pytest.mark.parametrize("verb", ["status", "upgrade", "restart"])
def test_where_no_node_runs(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPTUM_ENVOY", "/bin/true")
    ran = node(tmp_path, verb)
    assert (ran.status, ran.out) == (1, "")
    assert f"`septum node --state {tmp_path / 'septum-node'}` starts it" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [(), ("status",), ("upgrade",), ("restart",)])
def test_help(tmp_path: Path, verb: tuple[str, ...]) -> None:
    ran = node(tmp_path, *verb, "--help")
    assert (ran.status, ran.out.startswith(f"Usage: septum node {' '.join(verb)}".rstrip())) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage(tmp_path: Path) -> None:
    assert node(tmp_path, "sideways").status == 2
