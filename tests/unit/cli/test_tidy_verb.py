from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

import meshes
from command_line import Ran, septum, write_mesh
from fakes.decision_log import line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import FILE
from septum.audit.store import Store
from septum.control.state import State, Version

DAY = 86400
RULES = """\
allow:
  # what the shop reads
  - name: shop
    from: storefront
    to: orders
    http:
      - GET /orders/{id}
      - POST /orders  # never
  # nobody does
  - {name: book, from: orders, to: ledger}
  - {name: moved, from: orders, to: payments, grpc: a.B/C, until: 2020-01-31T00:00:00Z}
"""
TIDY = """\
allow:
  # what the shop reads
  - name: shop
    from: storefront
    to: orders
    http:
      - GET /orders/{id}
"""


class World:
    """A mesh with its record and its versions, told in days before now."""

    def __init__(self, directory: Path) -> None:
        self.mesh = write_mesh(directory / "shop", meshes.SHOP, orders=RULES)
        self.state = self.mesh / ".septum"
        (self.state / "records").mkdir(parents=True)
        read = read_line(line())
        assert isinstance(read, Line)
        self._record = recorder().record(read, "n1")

    @property
    def rules(self) -> str:
        return (self.mesh / "policy" / "orders.yaml").read_text(encoding="utf-8")

    def records(self, *, rule: str, paths: Iterable[str], days: float) -> None:
        with closing(Store(self.state / "records" / FILE)) as store:
            at = time.time() - days * DAY
            made = [self._record._replace(rule=rule, path=path, time=at) for path in paths]
            store.write("n1", made, Position(), {})

    def enforced(self, days: float, rules: str = RULES, shut: Iterable[str] = ()) -> None:
        files = {"septum.yaml": meshes.SHOP.encode(), "policy/orders.yaml": rules.encode()}
        with closing(State(self.state / "state.db")) as state:
            at, number = time.time() - days * DAY, state.next_number()
            state.enforce(Version(number, f"{number:064}", at, "ada", files, {}, frozenset(shut)))

    def tidy(self, *arguments: str) -> Ran:
        return septum("tidy", *arguments, cwd=self.mesh)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def used(world: World) -> World:
    """The record and the versions go back 40 days, and orders are read."""
    world.enforced(40)
    world.records(rule="shop", paths=["/orders/1", "/orders/2"], days=40)
    world.records(rule="shop", paths=["/orders/1"], days=3)
    return world


def test_what_nothing_used_goes_as_a_patch(used: World) -> None:
    subprocess.run(["git", "init", "-q", used.mesh], check=True)
    ran = used.tidy()
    assert ran.status == 1
    assert used.rules == RULES
    assert re.sub(r"ended \d+ d ago", "ended long ago", ran.err).splitlines() == [
        "1 record of the last 30 d; the oldest of all began 40 d ago",
        "remove  policy/orders.yaml:10  book  (not used in 30 d; enforced since 40 d ago at least)",
        "remove  policy/orders.yaml:11  moved  (ended long ago)",
        "remove  policy/orders.yaml:3  shop: POST /orders  (not used in 30 d; enforced since 40 d ago at least)",
        "3 could go, 1 kept, of 4 operations",
    ]
    subprocess.run(["git", "apply", "-"], cwd=used.mesh, input=ran.out.encode(), check=True)
    assert used.rules == TIDY


def test_with_write_it_is_done(used: World) -> None:
    ran = used.tidy("--write")
    assert (ran.status, ran.out) == (0, "")
    assert "removed  policy/orders.yaml:10  book" in ran.err
    assert used.rules == TIDY
    again = used.tidy()
    assert (again.status, again.out) == (0, "")


def test_what_is_used_is_told_when_it_is_asked_for(used: World) -> None:
    used.records(rule="shop", paths=["/orders/1"], days=2)
    assert "keep  policy/orders.yaml:3  shop: GET /orders/{id}  (used 2 times, first 3 d ago, last 2 d ago)" in (
        used.tidy("--all").err
    )


def test_a_record_that_does_not_go_back_far_enough_proposes_nothing_but_what_is_over(world: World) -> None:
    world.enforced(40)
    world.records(rule="shop", paths=["/orders/1"], days=3)
    ran = world.tidy()
    assert ran.status == 1
    assert "nothing is proposed: the record goes back 3 d, so nobody can say what was not used in 30 d" in ran.err
    assert "-  - {name: moved" in ran.out
    assert "book" not in ran.err
    assert "-  - {name: book" in world.tidy("--anyway").out
    assert "-  - {name: book" in world.tidy("--since", "2d").out


def test_without_a_record_nothing_is_known(world: World) -> None:
    ran = world.tidy()
    assert ran.status == 1
    assert "nothing is on record, so nobody can say what was not used in 30 d" in ran.err


def test_what_is_newer_is_kept(used: World) -> None:
    new = RULES.replace("GET /orders/{id}\n", "GET /orders/{id}\n      - GET /new\n")
    used.enforced(10, new)
    (used.mesh / "policy" / "orders.yaml").write_text(
        new + "  - {name: newest, from: storefront, to: ledger}\n", encoding="utf-8"
    )
    said = used.tidy().err
    assert "keep  policy/orders.yaml:3  shop: GET /new  (newer than 30 d: since 10 d ago)" in said
    assert "newest  (newer than 30 d: not enforced yet)" in said
    assert "remove  policy/orders.yaml:11  book" in said


def test_without_versions_that_cannot_be_told_and_is_said(world: World) -> None:
    world.records(rule="shop", paths=["/orders/1"], days=40)
    ran = world.tidy()
    assert "no versions are kept here" in ran.err
    assert "-  - {name: book" in ran.out


def test_a_grant_that_began_lately_and_who_is_quarantined_are_kept(used: World) -> None:
    begins = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 2 * DAY))
    waiting = f"  - {{name: late, from: storefront, to: ledger, from_time: {begins}}}\n"
    used.enforced(39, RULES + waiting, shut=["ledger"])
    (used.mesh / "policy" / "orders.yaml").write_text(RULES + waiting, encoding="utf-8")
    said = used.tidy().err
    assert "book  (`ledger` is quarantined, and could use nothing)" in said
    assert "late  (began less than 30 d ago, or has not begun)" in said


def test_what_a_guarantee_needs_is_kept(used: World) -> None:
    always = "guarantees:\n  - {name: books, always: {from: orders, to: ledger}}\n"
    (used.mesh / "policy" / "always.yaml").write_text(always, encoding="utf-8")
    ran = used.tidy("--write")
    assert "keep  policy/orders.yaml:10  book  (not used, and the guarantee `books` needs it)" in ran.err
    assert "{name: book" in used.rules
    assert septum("check", cwd=used.mesh).status == 0


def test_json(used: World) -> None:
    found = json.loads(used.tidy("--json").out)
    assert found["nothing_proposed"] == ""
    assert found["patch"].startswith("diff --git a/policy/orders.yaml b/policy/orders.yaml\n")
    by_operation = {(one["rule"], one["operation"]): one for one in found["operations"]}
    assert {key: one["fate"] for key, one in by_operation.items()} == {
        ("book", "connect"): "unused",
        ("moved", "a.B/C"): "ended",
        ("shop", "GET /orders/{id}"): "used",
        ("shop", "POST /orders"): "unused",
    }
    shop = next(one for one in found["rules"] if one["rule"] == "shop")
    assert (shop["hits"], shop["place"]) == (1, "policy/orders.yaml:3")
    assert found["record"]["records"] == 1
