"""`septum apply`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane
from meshes import SHOP, SHOP_RULES
from septum.control.arrivals import Arrival, Arrived
from septum.control.plane import Applied, Outcome
from septum.control.state import StateError
from septum.policy.load import load
from septum.xds.types import Refusal

HERE, THERE = Arrival("here", Arrived.HELD, milliseconds=3.0), Arrival("there", Arrived.HELD, milliseconds=4.25)
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
    changed = (("here", ROUTE, "orders"), ("here", ROUTE, "payments"), ("here", LISTENER, "outbound/x"))
    times = {"check": 1.0, "compile": 2.0, "held": 3.04}
    ran = apply(plane, tmp_path, Outcome.HELD, resources_changed=changed, milliseconds=times, nodes=(HERE,))
    assert ran.status == 0
    sent = "2 RouteConfiguration, 1 Listener sent"
    assert ran.out == f"version {'b' * 12} is held by 1 of 1 nodes (6.0 ms; {sent})\n"


def test_held_by_several_says_who_was_last(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.HELD, nodes=(THERE, HERE))
    assert ran.status == 0
    assert "held by 2 of 2 nodes" in ran.out
    assert "; the last was there, 4.2 ms after sending)" in ran.out


def test_held_without_a_change_on_the_node(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert "nothing to send" in apply(plane, tmp_path, Outcome.HELD, nodes=(HERE,)).out


def test_unchanged(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.UNCHANGED)
    assert (ran.status, ran.out) == (0, f"version {'b' * 12} is what is enforced already\n")


def test_sent_is_not_held(plane: FakeControlPlane, tmp_path: Path) -> None:
    away, slow = Arrival("away", Arrived.MISSING, "not connected"), Arrival("slow", Arrived.MISSING, "no answer yet")
    ran = apply(plane, tmp_path, Outcome.SENT, nodes=(away, HERE, slow))
    assert ran.status == 1
    said, *others = ran.out.splitlines()
    assert said.startswith(f"version {'b' * 12} was sent; it is held by 1 of 3 nodes (")
    assert others == ["  away: missing: not connected", "  slow: missing: no answer yet"]


def test_refused(plane: FakeControlPlane, tmp_path: Path) -> None:
    refusals = (Refusal(LISTENER, "outbound/x", "v", "cannot bind"), Refusal(LISTENER, "dial/y", "v", "cannot bind"))
    refused = Arrival("there", Arrived.REFUSED, str(refusals[0]), 2.0, refusals)
    ran = apply(plane, tmp_path, Outcome.REJECTED, nodes=(HERE, refused))
    assert ran.status == 1
    said, *others = ran.out.splitlines()
    assert said == f"version {'b' * 12} was refused; {'a' * 12} stays enforced"
    assert others == ["  there: refused: outbound/x, dial/y: cannot bind"]
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
