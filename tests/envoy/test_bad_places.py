"""What cannot be read, written, found or opened: `septum up` and its commands say so, and leave nothing behind."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from backends import HttpEcho
from mesh_process import Mesh

pytestmark = pytest.mark.xdist_group("bad places")


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh({"front": {}, "orders": {}}, start=False) as mesh:
        yield mesh


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("not-there")


UNREADABLE = [
    ("septum.yaml", a_directory),
    ("septum.yaml", a_loop),
    ("septum.yaml", a_pipe),
    ("policy/test.yaml", a_loop),
    ("policy/test.yaml", a_pipe),
    ("policy/test.yaml", nowhere),
]


@pytest.mark.parametrize(("file", "becomes"), UNREADABLE)
def test_a_file_that_cannot_be_read(mesh: Mesh, file: str, becomes: Callable[[Path], None]) -> None:
    becomes(mesh.directory / file)
    for verb in ("check", "up"):
        said = mesh.septum(verb)
        assert said.code == 1, said
        assert "SEP109" in said.out + said.err
        assert file in said.out + said.err
        assert "Traceback" not in said.err
    assert mesh.processes() == {}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "SEP202"),
        (b"- a list\n", "SEP204"),
        (b"mesh: [\n", "SEP101"),
        (b"mesh: \xff\n", "SEP106"),
        (b"mesh: a\nmesh: b\n", "SEP102"),
        (b"mesh: &a x\n", "SEP103"),
        (b"#" + b"x" * (5 << 20), "SEP108"),
        (b"mesh: " + b"[" * 100 + b"]" * 100, "SEP107"),
        (b"[" * 10_000, "SEP101"),
    ],
)
def test_a_mesh_file_that_is_none(mesh: Mesh, content: bytes, code: str) -> None:
    (mesh.directory / "septum.yaml").write_bytes(content)
    said = mesh.septum("up")
    assert said.code == 1, said
    assert code in said.err
    assert "nothing is started" in said.err
    assert "Traceback" not in said.err
    assert mesh.processes() == {}


def test_no_mesh_at_all(mesh: Mesh) -> None:
    (mesh.directory / "septum.yaml").unlink()
    for verb in ("up", "check", "apply", "status"):
        said = mesh.septum(verb)
        assert said.code in (1, 2)
        assert "there is no septum.yaml" in said.err + said.out
        assert "septum init" in said.err + said.out


def test_a_state_directory_that_cannot_be_made(mesh: Mesh) -> None:
    mesh.state.write_text("in the way")
    said = mesh.septum("up")
    assert (said.code, "the state cannot be written" in said.err) == (1, True), said
    assert str(mesh.state) in said.err


def test_a_state_that_is_none(mesh: Mesh) -> None:
    mesh.state.mkdir()
    (mesh.state / "state.db").write_bytes(b"not a database, and long enough to be seen as such" * 100)
    up = mesh.start()
    ended = up.event("ended", process="control")
    assert "state.db: file is not a database" in ended["said"]
    assert mesh.stop() == 0


def test_a_state_that_cannot_be_written_any_more(mesh: Mesh) -> None:
    """What cannot be remembered is not enforced: the version before stays, and the author is told."""
    with HttpEcho() as orders:
        mesh.workloads["orders"]["at"] = orders.address
        mesh.write_mesh()
        mesh.start().event("ready")
        alter(mesh, "ALTER TABLE version RENAME TO taken_away")
        mesh.write_policy("allow: [{from: front, to: orders, http: [GET /x]}]\n")
        said = mesh.septum("apply")
        assert (said.code, "nothing changed: " in said.err, "state.db" in said.err) == (1, True, True), said
        assert mesh.status("front", "http://orders/x") == 403
        assert mesh.septum("status").code == 1, "the state is asked for when it was applied"
        alter(mesh, "ALTER TABLE taken_away RENAME TO version")
        assert mesh.septum("apply").code == 0
        assert mesh.status("front", "http://orders/x") == 200
        assert mesh.stop() == 0


def alter(mesh: Mesh, statement: str) -> None:
    with closing(sqlite3.connect(mesh.state / "state.db")) as database:
        database.execute(statement)


def test_a_missing_envoy(mesh: Mesh) -> None:
    said = mesh.septum("up", SEPTUM_ENVOY="/nonexistent/envoy")
    assert said.code == 1
    assert "no Envoy to run at /nonexistent/envoy" in said.err
    assert "SEPTUM_ENVOY" in said.err
    assert mesh.processes() == {}


def test_a_port_in_use_is_named_and_can_be_freed(mesh: Mesh) -> None:
    with socket.create_server(mesh.outbound("front")):
        up = mesh.start()
        said = up.event("not enforced yet", within=30)
        assert "outbound/front" in said["why"]
        assert any("outbound/front" in line and "Address already in use" in line for line in said["refused"])
        status = mesh.septum("status")
        assert (status.code, "refused" in status.out, "Address already in use" in status.out) == (1, True, True)
        assert mesh.septum("apply").code == 1
        assert mesh.status("orders", "http://front/x") == 403, "what could be opened is"
    assert mesh.septum("apply").code == 0
    assert mesh.septum("status").code == 0
    assert mesh.status("front", "http://orders/x") == 403
    assert mesh.stop() == 0


def test_a_mesh_that_is_up_elsewhere_with_the_same_ports(mesh: Mesh) -> None:
    """Two meshes cannot share a port, or one of them would decide the calls of the other."""
    mesh.start().event("ready")
    with Mesh({"front": {"outbound": mesh.workloads["front"]["outbound"]}}, start=False) as other:
        said = other.start().event("not enforced yet", within=30)
        assert any("Address already in use" in line for line in said["refused"])
        assert other.stop() == 0
    assert mesh.stop() == 0
