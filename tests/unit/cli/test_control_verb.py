"""`septum control`, as far as it goes without starting anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from command_line import Ran, septum, write_mesh
from meshes import SHOP, SHOP_RULES
from septum.cli.running import Tell
from septum.node import supervisor
from septum.node.lock import hold
from septum.node.process import Spec

NODES = "nodes: {web: {inbound: 127.0.0.1:7443}}\n"
OF_NODES = SHOP.replace("{segment:", "{node: web, segment:") + NODES


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Spec]]:
    """What would have been run."""
    runs: list[Sequence[Spec]] = []

    async def supervise(
        specs: Sequence[Spec], tell: Tell, stopping: asyncio.Event, up: Callable[[], Awaitable[None]]
    ) -> None:
        runs.append(specs)

    monkeypatch.setattr(supervisor, "supervise", supervise)
    return runs


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, OF_NODES, rules=SHOP_RULES)


def control(mesh: Path, *arguments: str) -> Ran:
    return septum("control", *arguments, cwd=mesh)


def test_what_is_started(mesh: Path, started: list[Sequence[Spec]]) -> None:
    ran = control(mesh, "--listen", "10.0.0.10:7400", "--name", "a.example", "--name", "10.1.1.1", "--watch")
    assert (ran.status, ran.out, ran.err) == (0, "stopped\n", "")
    (((spec),),) = started
    assert (spec.name, spec.directory, spec.keeps_running) == ("control", mesh / ".septum", False)
    assert spec.command[2:] == [
        *("septum.app.control", str(mesh), "--listen", "10.0.0.10:7400", "--watch"),
        *("--name", "a.example", "--name", "10.1.1.1"),
    ]


def test_it_listens_everywhere_unless_it_is_told_where(mesh: Path, started: list[Sequence[Spec]]) -> None:
    control(mesh, "--metrics", "127.0.0.1:9600")
    (((spec),),) = started
    assert spec.command[4:] == ["--listen", "0.0.0.0:7400", "--metrics", "127.0.0.1:9600"]


def test_a_mesh_without_nodes_is_not_for_it(tmp_path: Path, started: list[Sequence[Spec]]) -> None:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    ran = control(tmp_path)
    assert (ran.status, started) == (1, [])
    assert "the mesh lists no nodes: add `nodes:` to septum.yaml" in ran.err
    assert "`septum up`" in ran.err


def test_files_with_errors_start_nothing_the_first_time(mesh: Path, started: list[Sequence[Spec]]) -> None:
    write_mesh(mesh, OF_NODES, rules="allow: nonsense\n")
    ran = control(mesh)
    assert (ran.status, "SEP204" in ran.err, "nothing is started: " in ran.err) == (1, True, True)
    (mesh / ".septum" / "state.db").touch()
    assert (control(mesh).status, len(started)) == (0, 1)


def test_one_is_enough(mesh: Path, started: list[Sequence[Spec]]) -> None:
    control(mesh)
    with hold(mesh / ".septum" / "up.lock"):
        ran = control(mesh)
    assert (ran.status, "this mesh is already up (pid " in ran.err, len(started)) == (1, True, 1)


def test_where_there_is_no_mesh(tmp_path: Path) -> None:
    ran = control(tmp_path)
    assert (ran.status, "there is no septum.yaml in" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_cannot_be_made(mesh: Path, started: list[Sequence[Spec]]) -> None:
    (mesh / ".septum").touch()
    ran = control(mesh)
    assert (ran.status, "the state cannot be written: " in ran.err, started) == (1, True, [])


def test_help(tmp_path: Path) -> None:
    ran = control(tmp_path, "--help")
    assert (ran.status, "septum control --listen 10.0.0.10:7400" in ran.out) == (0, True)
