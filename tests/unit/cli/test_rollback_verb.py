"""`septum rollback` and `septum confirm`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import septum, write_mesh
from fakes.control_plane import FakeControlPlane, applied
from meshes import SHOP, SHOP_RULES


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    answers = {"rollback": {**applied(), "restored": 3}, "confirm": {"version": "c" * 64, "number": 4}}
    with FakeControlPlane(tmp_path, answers) as plane:
        yield plane


def test_back_to_the_version_before(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = septum("rollback", "-m", "refunds fail", cwd=tmp_path)
    assert ran.status == 0
    first, second = ran.out.splitlines()
    assert (first, second.startswith(f"version {'b' * 12} is held by 1 of 1 nodes")) == ("back to version 3", True)
    (asked,) = plane.asked
    assert (asked["op"], asked["version"], asked["message"]) == ("rollback", "", "refunds fail")
    assert (asked["patience"], asked["allow_lockout"], bool(asked["author"])) == (5.0, False, True)


def test_to_a_version_by_name(plane: FakeControlPlane, tmp_path: Path) -> None:
    septum("rollback", "17", "--allow-lockout", "--wait", "1", cwd=tmp_path)
    (asked,) = plane.asked
    assert (asked["version"], asked["allow_lockout"], asked["patience"]) == ("17", True, 1.0)


def test_what_does_not_work_fails(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["rollback"] = {**applied("rejected"), "restored": 3}
    assert septum("rollback", cwd=tmp_path).status == 1
    ran = septum("rollback", "--json", cwd=tmp_path)
    assert (ran.status, json.loads(ran.out)["outcome"]) == (1, "rejected")
    plane.answers["rollback"] = {"error": "no version is called `17`"}
    ran = septum("rollback", "17", cwd=tmp_path)
    assert (ran.status, ran.err) == (1, "Error: no version is called `17`\n")


def test_confirm(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = septum("confirm", "cccc", cwd=tmp_path)
    assert (ran.status, ran.out) == (0, f"version {'c' * 12} stays\n")
    (asked,) = plane.asked
    assert (asked["op"], asked["version"], bool(asked["author"])) == ("confirm", "cccc", True)
    assert json.loads(septum("confirm", "--json", cwd=tmp_path).out)["number"] == 4
    plane.answers["confirm"] = {"error": "no version awaits its confirmation"}
    assert septum("confirm", cwd=tmp_path).status == 1
