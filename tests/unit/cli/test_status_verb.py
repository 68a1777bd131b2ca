"""`septum status`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, node, status
from meshes import SHOP, SHOP_RULES, policy
from septum.control.state import StateError

REFUSAL = {"type_url": "type.googleapis.com/x.Listener", "name": "outbound/front", "version": "v", "reason": " in use "}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    enforced = status(version=policy(SHOP_RULES).version)
    with FakeControlPlane(tmp_path, {"status": enforced}) as plane:
        yield plane


def show(plane: FakeControlPlane, mesh: Path, *arguments: str, **differs: object) -> Ran:
    answer = plane.answers["status"]
    assert isinstance(answer, dict)
    plane.answers["status"] = answer | differs
    return septum("status", *arguments, cwd=mesh)


def test_all_is_well(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert f"mesh shop  version {policy(SHOP_RULES).version[:12]}  applied 2026-09-" in ran.out
    assert "by ada" in ran.out
    assert "node here  held  26 resources" in ran.out
    assert "records  7 kept" in ran.out
    assert "\x1b" not in ran.out
    assert [line.split() for line in ran.out.splitlines()[-5:-2]] == [
        ["front", "edge", "observe", "http", "127.0.0.1:9101", "127.0.0.1:9151"],
        ["big-store", "at", "127.0.0.1:9201"],
        ["big-store", "data", "enforce", "tcp", "127.0.0.1:9102", "127.0.0.1:9152"],
    ]


def test_a_refusal_is_shown_with_its_reason(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(held_version=None, rejected=[REFUSAL, REFUSAL | {"name": "b"}])])
    assert ran.status == 1
    assert "node here  refused\n  outbound/front, b: in use\n" in ran.out


def test_a_node_that_holds_a_part(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(held_version=None, held=20)])
    assert (ran.status, "not held  6 resources not acknowledged" in ran.out) == (1, True)


def test_a_node_that_holds_what_is_not_enforced_any_more(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert show(plane, tmp_path, nodes=[node(held_version="v0")]).status == 1


def test_a_node_that_is_not_there(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(connected=False, held_version=None)])
    assert (ran.status, "not held  not connected" in ran.out) == (1, True)


@pytest.mark.parametrize(
    ("records", "said", "code"),
    [
        ({"lost": 3}, "3 decisions were made and could not be written", 1),
        ({"stalled": "No space left on device"}, "not written since: No space left on device", 1),
        ({"unreadable": 2}, "2 lines could not be read", 0),
        ({"disagreements": 1}, "1 times the proxy and the policy disagreed", 0),
    ],
)
def test_records_that_are_not_well(
    plane: FakeControlPlane, tmp_path: Path, records: dict[str, object], said: str, code: int
) -> None:
    ran = show(plane, tmp_path, records={"ingested": 7} | records)
    assert (ran.status, said in ran.out) == (code, True)


def test_files_that_were_not_applied(plane: FakeControlPlane, tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP, rules="allow: []\n")
    ran = show(plane, tmp_path)
    assert (ran.status, "the files differ from what is enforced: septum apply" in ran.out) == (0, True)


def test_files_that_have_errors(plane: FakeControlPlane, tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP, rules="allow: nonsense\n")
    assert "the files have errors: septum check" in show(plane, tmp_path).out


def test_nothing_was_ever_applied(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert "applied never" in show(plane, tmp_path, applied=None, author="", workloads=[], records={}).out


def test_everything_as_json(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, "--json")
    assert json.loads(ran.out) == json.loads(json.dumps({**plane.answers["status"], "files": "enforced"}))


def test_a_state_that_cannot_be_read(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["status"] = StateError("state.db: disk I/O error")
    ran = septum("status", cwd=tmp_path)
    assert (ran.status, "state.db: disk I/O error" in ran.err) == (1, True)


def test_a_mesh_that_is_not_up(tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP)
    ran = septum("status", cwd=tmp_path)
    assert (ran.status, ran.out) == (1, "")
    assert f"septum up {tmp_path}" in ran.err
