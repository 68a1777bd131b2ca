"""`septum up`, as far as it goes without starting anything."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from command_line import septum, write_mesh
from fakes.control_plane import FakeControlPlane, node
from meshes import SHOP, SHOP_RULES
from septum.cli import up
from septum.node.lock import hold


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been run."""
    calls: list[dict[str, Any]] = []

    async def run(mesh: Path, name: str, binary: Path, concurrency: int, arguments: list[str], tell: up.Tell) -> int:
        calls.append({"mesh": mesh, "node": name, "arguments": arguments, "concurrency": concurrency})
        tell("ready", {"node": name})
        return 0

    monkeypatch.setattr(up, "_run", run)
    monkeypatch.setenv("SEPTUM_ENVOY", "/bin/true")
    return calls


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, SHOP, rules=SHOP_RULES)


def test_what_is_started(mesh: Path, started: list[dict[str, Any]]) -> None:
    ran = septum("up", "--watch", "--node", "My_Host.example", "--concurrency", "1", cwd=mesh)
    assert (ran.status, ran.out, ran.err) == (0, "ready  node=my-host-example\n", "")
    (call,) = started
    assert (call["mesh"], call["node"], call["concurrency"]) == (mesh, "my-host-example", 1)
    assert call["arguments"][1:] == ["-m", "septum.app", str(mesh), "my-host-example", "--watch"]


def test_events_as_json(mesh: Path, started: list[dict[str, Any]]) -> None:
    ran = septum("up", mesh, "--log-format", "json", "--node", "n", cwd=mesh.parent)
    assert json.loads(ran.out) == {"event": "ready", "node": "n"}


def test_the_state_is_for_the_owner_alone_and_not_for_git(mesh: Path, started: list[dict[str, Any]]) -> None:
    septum("up", cwd=mesh)
    for directory in (mesh / ".septum", mesh / ".septum" / "records"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (mesh / ".septum" / ".gitignore").read_text() == "*\n"


def test_files_with_errors_start_nothing_the_first_time(mesh: Path, started: list[dict[str, Any]]) -> None:
    write_mesh(mesh, SHOP, rules="allow: nonsense\n", more="allow: [{from: x}]\n")
    ran = septum("up", cwd=mesh)
    assert ran.status == 1
    assert "SEP204" in ran.err
    assert "SEP203" in ran.err
    assert "nothing is started: " in ran.err
    assert started == []


def test_files_with_errors_do_not_keep_an_enforced_version_from_going_on(
    mesh: Path, started: list[dict[str, Any]]
) -> None:
    septum("up", cwd=mesh)
    (mesh / ".septum" / "state.db").touch()
    write_mesh(mesh, SHOP, rules="allow: nonsense\n")
    ran = septum("up", cwd=mesh)
    assert (ran.status, "SEP204" in ran.err) == (0, True)


def test_a_second_one_is_refused(mesh: Path, started: list[dict[str, Any]]) -> None:
    septum("up", cwd=mesh)
    with hold(mesh / ".septum" / "up.lock"):
        ran = septum("up", cwd=mesh)
    assert ran.status == 1
    assert "this mesh is already up (pid " in ran.err
    assert len(started) == 1


def test_no_envoy(mesh: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPTUM_ENVOY", "/nonexistent")
    ran = septum("up", cwd=mesh)
    assert (ran.status, "/nonexistent" in ran.err, started) == (1, True, [])


def announced(mesh: Path, ready: Mapping[str, Any]) -> tuple[str, Mapping[str, object]]:
    told: list[tuple[str, Mapping[str, object]]] = []
    with FakeControlPlane(mesh, {"ready": ready}):
        asyncio.run(up._announce(mesh / ".septum", lambda event, fields: told.append((event, fields))))
    ((event, fields),) = told
    return event, fields


def test_it_is_ready_when_the_node_holds_what_it_should(mesh: Path) -> None:
    event, fields = announced(mesh, node())
    assert (event, fields["node"], fields["resources"]) == ("ready", "here", 26)


def test_it_is_not_ready_otherwise_and_says_why(mesh: Path) -> None:
    refusal = {"type_url": "x", "name": "outbound/front", "version": "v", "reason": "cannot bind"}
    event, fields = announced(mesh, node(held_version=None, rejected=[refusal]))
    assert (event, fields["connected"]) == ("not enforced yet", True)
    assert fields["refused"] == ["outbound/front: cannot bind"]
