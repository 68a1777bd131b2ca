"""`septum apply`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, node
from meshes import SHOP, SHOP_RULES
from septum.control.plane import Applied, Outcome
from septum.control.state import StateError
from septum.policy.load import load
from septum.xds.types import Refusal

ROUTE, LISTENER = "type.googleapis.com/x.RouteConfiguration", "type.googleapis.com/x.Listener"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    with FakeControlPlane(tmp_path, {"apply": {}}) as plane:
        yield plane


def apply(plane: FakeControlPlane, mesh: Path, outcome: Outcome, *arguments: str, **fields: Any) -> Ran:
    made = Applied(outcome, **{"version": "b" * 64, "previous": "a" * 64} | fields)
    plane.answers["apply"] = asdict(made)
    return septum("apply", *arguments, cwd=mesh)


def test_held(plane: FakeControlPlane, tmp_path: Path) -> None:
    changed = ((ROUTE, "orders"), (ROUTE, "payments"), (LISTENER, "outbound/x"))
    times = {"check": 1.0, "compile": 2.0, "held": 3.04}
    ran = apply(plane, tmp_path, Outcome.HELD, resources_changed=changed, milliseconds=times)
    assert ran.status == 0
    assert ran.out == f"version {'b' * 12} is held by every node (6.0 ms; 2 RouteConfiguration, 1 Listener sent)\n"


def test_held_without_a_change_on_the_node(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert "nothing to send" in apply(plane, tmp_path, Outcome.HELD).out


def test_unchanged(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.UNCHANGED)
    assert (ran.status, ran.out) == (0, f"version {'b' * 12} is what is enforced already\n")


def test_sent_is_not_held(plane: FakeControlPlane, tmp_path: Path) -> None:
    nodes = (node(held=20), node(node="there", connected=False))
    plane.answers["apply"] = asdict(Applied(Outcome.SENT, "b" * 64, "a" * 64)) | {"nodes": nodes}
    ran = septum("apply", cwd=tmp_path)
    assert ran.status == 1
    assert "was sent, and is not held yet\n  here: 6 resources not acknowledged\n  there: not connected\n" in ran.out


def test_refused(plane: FakeControlPlane, tmp_path: Path) -> None:
    refusals = (Refusal(LISTENER, "outbound/x", "v", "cannot bind"), Refusal(LISTENER, "dial/y", "v", "cannot bind"))
    ran = apply(plane, tmp_path, Outcome.REJECTED, refusals=refusals)
    assert ran.status == 1
    assert f"was refused; {'a' * 12} stays enforced\n  outbound/x, dial/y: cannot bind\n" in ran.out
    assert "nothing stays enforced" in apply(plane, tmp_path, Outcome.REJECTED, previous="").out


def test_invalid(plane: FakeControlPlane, tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP, rules="allow: [{from: nobody, to: noone}]\n")
    files = {"septum.yaml": SHOP.encode(), "policy/rules.yaml": b"allow: [{from: nobody, to: noone}]\n"}
    ran = apply(plane, tmp_path, Outcome.INVALID, version="", diagnostics=load(files).diagnostics)
    assert ran.status == 1
    assert "error[SEP203]: unknown workload `nobody`" in ran.out
    assert "1 | allow: [{from: nobody, to: noone}]" in ran.out
    assert "nothing changed: 2 errors" in ran.out


def test_as_json(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.REJECTED, "--json")
    assert (ran.status, json.loads(ran.out)["outcome"]) == (1, "rejected")


def test_the_files_go_as_they_are(plane: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "policy" / "bytes.yaml").write_bytes(b"\xff\r\n")
    (tmp_path / "policy" / "loop.yaml").symlink_to("loop.yaml")
    apply(plane, tmp_path, Outcome.UNCHANGED, "--wait", "2")
    (asked,) = plane.asked
    texts = {path: text.encode("utf-8", "surrogateescape") for path, text in asked["files"].items()}
    assert texts == {
        "septum.yaml": SHOP.encode(),
        "policy/rules.yaml": SHOP_RULES.encode(),
        "policy/bytes.yaml": b"\xff\r\n",
    }
    assert list(asked["unreadable"]) == ["policy/loop.yaml"]
    assert (asked["patience"], bool(asked["author"])) == (2.0, True)


def test_a_state_that_cannot_be_written(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["apply"] = StateError("state.db: disk full")
    ran = septum("apply", cwd=tmp_path)
    assert (ran.status, ran.err) == (1, "Error: nothing changed: state.db: disk full\n")


def test_a_mesh_that_is_not_up(tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP)
    ran = septum("apply", cwd=tmp_path)
    assert (ran.status, f"septum up {tmp_path}" in ran.err) == (1, True)
