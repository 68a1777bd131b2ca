"""`septum up`, as far as it goes without starting anything."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from command_line import septum, write_mesh
from fakes.control_plane import FakeControlPlane, arrival
from meshes import SHOP, SHOP_RULES
from septum.cli import up
from septum.cli.running import Tell, node_name
from septum.node import supervisor
from septum.node.lock import hold
from septum.node.process import Spec

NODES = "nodes:\n  web: {inbound: 127.0.0.1:7443}\n  app: {inbound: 127.0.0.1:7444}\n"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Spec]]:
    """What would have been run, once for each command that would have run something."""
    runs: list[Sequence[Spec]] = []

    async def supervise(
        specs: Sequence[Spec], tell: Tell, stopping: asyncio.Event, up: Callable[[], Awaitable[None]]
    ) -> None:
        runs.append(specs)

    monkeypatch.setattr(supervisor, "supervise", supervise)
    monkeypatch.setenv("SEPTUM_ENVOY", "/bin/true")
    return runs


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, SHOP, rules=SHOP_RULES)


def test_what_is_started(mesh: Path, started: list[Sequence[Spec]]) -> None:
    ran = septum("up", "--watch", "--node", "My_Host.example", "--concurrency", "1", cwd=mesh)
    assert (ran.status, ran.out, ran.err) == (0, "stopped\n", "")
    ((control, agent, envoy),) = started
    assert [spec.name for spec in (control, agent, envoy)] == ["control", "agent", "envoy"]
    assert {spec.directory for spec in (control, agent, envoy)} == {mesh / ".septum"}
    words = ("--node", "my-host-example", "--watch")
    assert control.command == [sys.executable, "-m", "septum.app.control", str(mesh), *words]
    assert agent.command == [
        *(sys.executable, "-m", "septum.app.agent", "--node", "my-host-example", "--control", "unix:agents.sock")
    ]
    assert (control.output.name, agent.output.name) == ("septum.log", "agent.log")
    assert envoy.command[envoy.command.index("--concurrency") + 1] == "1"
    assert envoy.keeps_running
    assert b"my-host-example" in (mesh / ".septum" / "envoy.pb").read_bytes()


def test_a_control_plane_for_others_too(mesh: Path, started: list[Sequence[Spec]]) -> None:
    septum("up", "--listen", "127.0.0.1:7400", "--metrics", "127.0.0.1:9600", cwd=mesh)
    ((control, agent, _),) = started
    words = ["--node", node_name(None), "--listen", "127.0.0.1:7400", "--metrics", "127.0.0.1:9600"]
    assert control.command[4:] == words
    assert "--metrics" not in agent.command


def test_sockets_that_were_left_are_in_nobody_s_way(mesh: Path, started: list[Sequence[Spec]]) -> None:
    (mesh / ".septum").mkdir()
    for name in ("xds.sock", "agents.sock"):
        (mesh / ".septum" / name).touch()
    septum("up", cwd=mesh)
    assert len(started) == 1
    assert not list((mesh / ".septum").glob("*.sock"))


def test_events_as_json(mesh: Path, started: list[Sequence[Spec]]) -> None:
    ran = septum("up", mesh, "--log-format", "json", "--node", "n", cwd=mesh.parent)
    assert json.loads(ran.out) == {"event": "stopped"}


def test_the_state_is_for_the_owner_alone_and_not_for_git(mesh: Path, started: list[Sequence[Spec]]) -> None:
    septum("up", cwd=mesh)
    for directory in (mesh / ".septum", mesh / ".septum" / "records"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (mesh / ".septum" / ".gitignore").read_text() == "*\n"


def test_files_with_errors_start_nothing_the_first_time(mesh: Path, started: list[Sequence[Spec]]) -> None:
    write_mesh(mesh, SHOP, rules="allow: nonsense\n", more="allow: [{from: x}]\n")
    ran = septum("up", cwd=mesh)
    assert ran.status == 1
    assert "SEP204" in ran.err
    assert "SEP203" in ran.err
    assert "nothing is started: " in ran.err
    assert started == []


def test_files_with_errors_do_not_keep_an_enforced_version_from_going_on(
    mesh: Path, started: list[Sequence[Spec]]
) -> None:
    septum("up", cwd=mesh)
    (mesh / ".septum" / "state.db").touch()
    write_mesh(mesh, SHOP, rules="allow: nonsense\n")
    ran = septum("up", cwd=mesh)
    assert (ran.status, "SEP204" in ran.err, len(started)) == (0, True, 2)


def test_a_second_one_is_refused(mesh: Path, started: list[Sequence[Spec]]) -> None:
    septum("up", cwd=mesh)
    with hold(mesh / ".septum" / "up.lock"):
        ran = septum("up", cwd=mesh)
    assert ran.status == 1
    assert "this mesh is already up (pid " in ran.err
    assert len(started) == 1


def test_no_envoy(mesh: Path, started: list[Sequence[Spec]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPTUM_ENVOY", "/nonexistent")
    ran = septum("up", cwd=mesh)
    assert (ran.status, "/nonexistent" in ran.err, started) == (1, True, [])


def test_a_mesh_of_nodes_has_to_know_this_one(mesh: Path, started: list[Sequence[Spec]]) -> None:
    on_web = SHOP.replace("{segment:", "{node: web, segment:")
    write_mesh(mesh, on_web + NODES)
    ran = septum("up", "--node", "wbe", cwd=mesh)
    assert ran.status == 2
    assert "the mesh has no node `wbe`; say which one this machine is: --node NAME (web, app)" in ran.err
    assert started == []
    assert septum("up", "--node", "web", cwd=mesh).status == 0


def announced(mesh: Path, *ready: Mapping[str, Any], only: str | None = "here") -> list[tuple[str, Mapping[str, Any]]]:
    told: list[tuple[str, Mapping[str, object]]] = []
    with FakeControlPlane(mesh, {"ready": {"nodes": list(ready)}}) as plane:
        asyncio.run(up.announce(mesh / ".septum", lambda event, fields: told.append((event, fields)), only))
    assert [asked["node"] for asked in plane.asked] == [only]
    return told


def test_it_is_ready_when_the_node_holds_what_it_should(mesh: Path) -> None:
    ((event, fields),) = announced(mesh, arrival() | {"resources": 26})
    assert (event, fields["node"], fields["resources"]) == ("ready", "here", 26)


def test_it_is_not_ready_otherwise_and_says_why(mesh: Path) -> None:
    refusal = {"type_url": "x", "name": "outbound/front", "version": "v", "reason": " cannot bind "}
    found = arrival(arrived="refused", why="Listener outbound/front") | {"resources": 26, "refusals": [refusal]}
    ((event, fields),) = announced(mesh, found)
    assert (event, fields["node"], fields["why"]) == ("not enforced yet", "here", "Listener outbound/front")
    assert fields["refused"] == ["outbound/front: cannot bind"]


def test_a_control_plane_without_a_node_is_ready_when_it_answers(mesh: Path) -> None:
    events = announced(mesh, arrival(arrived="missing", why="not connected") | {"resources": 3}, only=None)
    assert [event for event, _ in events] == ["not enforced yet", "ready"]
