"""`septum quarantine`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, applied, arrival
from meshes import SHOP


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP)
    answers = {"quarantine": {"applied": applied()}, "quarantined": {"quarantined": []}}
    with FakeControlPlane(tmp_path, answers) as plane:
        yield plane


def quarantine(mesh: Path, *arguments: str) -> Ran:
    return septum("quarantine", *arguments, cwd=mesh)


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        ((), {"release": False, "lasts": None}, "orders is in quarantine: "),
        (("--for", "2h"), {"release": False, "lasts": 7200.0}, "orders is in quarantine for 2h: "),
        (("--release",), {"release": True, "lasts": None}, "orders is released: "),
    ],
)
def test_what_is_asked_and_said(
    plane: FakeControlPlane, tmp_path: Path, words: tuple[str, ...], asked: dict[str, Any], said: str
) -> None:
    ran = quarantine(tmp_path, "orders", *words)
    assert (ran.status, ran.out) == (0, f"{said}held by 1 of 1 nodes after 1.0 ms\n")
    (request,) = plane.asked
    assert request.items() >= {"op": "quarantine", "workload": "orders", **asked}.items()
    assert request["author"]


def test_a_node_that_does_not_hold_it_is_named(plane: FakeControlPlane, tmp_path: Path) -> None:
    nodes = (arrival(), arrival("slow", milliseconds=7.25), arrival("db", "missing", "not connected"))
    plane.answers["quarantine"] = {"applied": applied("sent", *nodes)}
    ran = quarantine(tmp_path, "orders")
    assert ran.status == 1
    assert ran.out.splitlines() == [
        "orders is in quarantine: held by 2 of 3 nodes after 7.2 ms",
        "  db: missing: not connected",
    ]


def test_a_quarantine_that_was_there_already(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["quarantine"] = {"applied": applied("unchanged")}
    assert quarantine(tmp_path, "orders").status == 0


def test_the_result_as_json(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert json.loads(quarantine(tmp_path, "orders", "--json").out) == {"applied": applied()}
    plane.answers["quarantine"] = {"applied": applied("rejected")}
    assert quarantine(tmp_path, "orders", "--json").status == 1


def test_who_is_in_quarantine(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert quarantine(tmp_path).out == "nobody is in quarantine\n"
    entries = [
        {"workload": "orders", "until": None, "since": 1.0, "author": "ada"},
        {"workload": "ledger", "until": time.time() + 601, "since": 1.0, "author": "bob"},
    ]
    plane.answers["quarantined"] = {"quarantined": entries}
    ran = quarantine(tmp_path)
    assert ran.status == 0
    assert ran.out.splitlines() == ["orders  until it is released  by ada", "ledger  for 10 min more  by bob"]
    assert json.loads(quarantine(tmp_path, "--json").out) == entries


def test_a_workload_that_is_not_there(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["quarantine"] = {"error": "no workload is called `ordres`"}
    ran = quarantine(tmp_path, "ordres")
    assert (ran.status, ran.out, ran.err) == (1, "", "Error: no workload is called `ordres`\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("orders", "--release", "--for", "2h"), "--for and --release do not go together"),
        (("orders", "--for", "soon"), "`soon` is no span of time"),
        (("orders", "ledger"), "unexpected extra argument"),
        (("--release",), "name the workload"),
        (("--for", "2h"), "name the workload"),
    ],
)
def test_wrong_usage(plane: FakeControlPlane, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ran = quarantine(tmp_path, *words)
    assert (ran.status, ran.out, said in ran.err) == (2, "", True), ran
    assert plane.asked == []


@pytest.mark.parametrize("words", [(), ("orders",), ("orders", "--json")])
def test_where_there_is_no_mesh_or_nothing_runs(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = quarantine(tmp_path, *words)
    assert (ran.status, "there is no septum.yaml in" in ran.err) == (2, True)
    write_mesh(tmp_path, SHOP)
    ran = quarantine(tmp_path, *words)
    assert (ran.status, ran.out, "start it with `septum up" in ran.err) == (1, "", True)


def test_help(tmp_path: Path) -> None:
    ran = quarantine(tmp_path, "--help")
    assert (ran.status, "septum quarantine orders --for 2h" in ran.out) == (0, True)
