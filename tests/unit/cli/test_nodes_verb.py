"""`septum nodes`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, applied, arrival, node, status
from meshes import SHOP

TOKEN = {"token": "septum1.abc", "node": "web", "workloads": ["front"], "expires": 1.0, "listen": "10.0.0.10:7400"}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP)
    with FakeControlPlane(tmp_path, {"status": status(), "token": TOKEN, "drain": {}, "remove": {}}) as plane:
        yield plane


def nodes(mesh: Path, *arguments: str) -> Ran:
    return septum("nodes", *arguments, cwd=mesh)


# --- the list


def test_every_node_is_a_row(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["status"] = status(nodes=[node(), node(node="web", standing="removed", held=False)])
    ran = nodes(tmp_path)
    assert (ran.status, ran.err) == (0, "")
    head, *rows = (line.split() for line in ran.out.splitlines())
    assert head[:3] == ["node", "state", "holds"]
    assert [row[:3] for row in rows] == [["here", "held", "0123456789ab"], ["web", "removed", "0123456789ab"]]


def test_a_node_that_does_not_hold_what_it_should(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["status"] = status(nodes=[node(), node(node="web", held=False)])
    assert nodes(tmp_path).status == 1
    assert nodes(tmp_path, "--json").status == 1


def test_no_node_at_all(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["status"] = status(nodes=[])
    ran = nodes(tmp_path)
    assert (ran.status, len(ran.out.splitlines())) == (0, 1)


def test_the_list_as_json(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert json.loads(nodes(tmp_path, "--json").out) == [node()]


# --- tokens


def test_the_token_alone_goes_to_standard_output(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = nodes(tmp_path, "token", "web", "--for", "30m")
    assert (ran.status, ran.out) == (0, "septum1.abc\n")
    assert "for web (front), once, within 30m" in ran.err
    assert "septum node --control 10.0.0.10:7400 --join TOKEN" in ran.err
    assert "\x1b" not in ran.err
    (asked,) = plane.asked
    assert (asked["node"], asked["workloads"], asked["lifetime"]) == ("web", None, 1800.0)


def test_a_token_names_the_workloads_that_are_given(plane: FakeControlPlane, tmp_path: Path) -> None:
    nodes(tmp_path, "token", "web", "--workloads", "front, back,")
    nodes(tmp_path, "token", "web", "--workloads", "")
    assert [asked["workloads"] for asked in plane.asked] == [["front", "back"], []]


def test_a_control_plane_that_nobody_can_reach_is_said(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["token"] = TOKEN | {"listen": "", "workloads": []}
    ran = nodes(tmp_path, "token", "web")
    assert (ran.status, ran.out) == (0, "septum1.abc\n")
    assert "(no workload yet)" in ran.err
    assert "takes no calls from other hosts: start it with --listen" in ran.err


def test_a_token_as_json(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = nodes(tmp_path, "token", "web", "--json")
    assert (ran.status, json.loads(ran.out), ran.err) == (0, TOKEN, "")


@pytest.mark.parametrize("lifetime", ["", "0s", "-1h", "soon", "1y", "1h 30m"])
def test_a_lifetime_that_is_none(plane: FakeControlPlane, tmp_path: Path, lifetime: str) -> None:
    ran = nodes(tmp_path, "token", "web", "--for", lifetime)
    assert (ran.status, ran.out, plane.asked) == (2, "", [])
    assert "is no span of time: write 30s, 10m, 2h or 7d" in ran.err


def test_a_token_that_is_refused(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["token"] = {"error": "the mesh has no node `wbe`"}
    ran = nodes(tmp_path, "token", "wbe")
    assert (ran.status, ran.out, ran.err) == (1, "", "Error: the mesh has no node `wbe`\n")


# --- drain and remove


@pytest.mark.parametrize(
    ("answer", "said", "code"),
    [
        ({"drained": True, "connections": 0}, "web is drained: no connection is left\n", 0),
        ({"drained": False, "connections": 3}, "web is draining: 3 connections are left\n", 1),
    ],
)
def test_draining(plane: FakeControlPlane, tmp_path: Path, answer: dict[str, object], said: str, code: int) -> None:
    plane.answers["drain"] = answer
    ran = nodes(tmp_path, "drain", "web", "--wait", "2.5")
    assert (ran.status, ran.out) == (code, said)
    (asked,) = plane.asked
    assert (asked["node"], asked["drain"], asked["patience"]) == ("web", True, 2.5)


def test_back_into_service(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["drain"] = {"drained": False, "connections": 3}
    ran = nodes(tmp_path, "drain", "web", "--undo")
    assert (ran.status, ran.out) == (0, "web is back in service\n")
    assert [asked["drain"] for asked in plane.asked] == [False]


def test_removing(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["remove"] = {"revoked": 3, "applied": applied("held", arrival("app"))}
    ran = nodes(tmp_path, "remove", "web", "--yes")
    assert (ran.status, ran.out) == (0, "web is removed; 3 certificates are refused\n")


def test_removing_says_who_does_not_know_it_yet(plane: FakeControlPlane, tmp_path: Path) -> None:
    away = arrival("db", "missing", "not connected")
    plane.answers["remove"] = {"revoked": 3, "applied": applied("sent", arrival("app"), away)}
    ran = nodes(tmp_path, "remove", "web", "--yes")
    assert (ran.status, ran.out.splitlines()[1:]) == (1, ["  db does not know that yet"])


def test_removing_asks_first(plane: FakeControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    ran = nodes(tmp_path, "remove", "web")
    assert (ran.status, ran.out, plane.asked) == (1, "", [])


# --- elsewhere


WORDS = [(), ("token", "web"), ("drain", "web"), ("remove", "web", "--yes")]


@pytest.mark.parametrize("words", WORDS)
def test_where_there_is_no_mesh(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = nodes(tmp_path, *words)
    assert (ran.status, ran.out) == (2, "")
    assert "there is no septum.yaml in" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", WORDS)
def test_where_no_control_plane_runs(tmp_path: Path, words: tuple[str, ...]) -> None:
    write_mesh(tmp_path, SHOP)
    ran = nodes(tmp_path, *words)
    assert (ran.status, ran.out) == (1, "")
    assert f"start it with `septum up {tmp_path}`" in ran.err


@pytest.mark.parametrize("words", [("token",), ("drain",), ("remove",), ("token", "a", "b"), ("sideways",)])
def test_wrong_usage(plane: FakeControlPlane, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert (nodes(tmp_path, *words).status, plane.asked) == (2, [])


@pytest.mark.parametrize("verb", [(), ("token",), ("drain",), ("remove",)])
def test_help(tmp_path: Path, verb: tuple[str, ...]) -> None:
    ran = nodes(tmp_path, *verb, "--help")
    assert (ran.status, ran.out.startswith(f"Usage: septum nodes {' '.join(verb)}".rstrip())) == (0, True)
