"""`septum apply`."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane
from meshes import SHOP, SHOP_RULES, policy
from septum.control.applied import Applied, Outcome
from septum.control.arrivals import Arrival, Arrived
from septum.control.guard import Lockout
from septum.control.state import StateError
from septum.plan.made import Planned, plan_of
from septum.plan.sealed import to_json
from septum.policy.load import load
from septum.verify.diff import diff
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


def test_the_terms_go_with_it(plane: FakeControlPlane, tmp_path: Path) -> None:
    apply(plane, tmp_path, Outcome.HELD, "-m", "why", "--confirm", "5m", "--supersede", "--allow-lockout")
    (asked,) = plane.asked
    assert (asked["message"], asked["confirm"]) == ("why", 300.0)
    assert (asked["supersede"], asked["allow_lockout"]) == (True, True)
    assert (asked["base"], asked["commit"]) == (None, "")
    wrong = apply(plane, tmp_path, Outcome.HELD, "--confirm", "soon")
    assert (wrong.status, "`soon` is no span of time" in wrong.err, len(plane.asked)) == (2, True, 1)


def test_what_goes_back_by_itself_is_said(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.HELD, confirm_by=time.time() + 300.5)
    assert (ran.status, "  it goes back by itself in 5 min: `septum confirm` lets it stay" in ran.out) == (0, True)


def test_what_was_planned_against_another_version(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.MOVED, version="")
    assert (ran.status, f"nothing changed: version {'a' * 12} is enforced by now" in ran.out) == (1, True)


def test_what_was_planned_while_something_was_enforced(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.MOVED, version="", previous="")
    assert (ran.status, "nothing changed: nothing is enforced now" in ran.out) == (1, True)


def test_while_another_is_on_trial(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = apply(plane, tmp_path, Outcome.AWAITS, confirm_by=time.time() + 60)
    assert (ran.status, ran.out.splitlines()[0]) == (
        1,
        f"nothing changed: version {'a' * 12} awaits its confirmation",
    )
    assert "goes back by itself" not in ran.out


def test_what_would_be_locked_out(plane: FakeControlPlane, tmp_path: Path) -> None:
    lockout = Lockout("prom", "orders", "GET /metrics", "scrape", time.time() - 3601, "no rule names prom")
    ran = apply(plane, tmp_path, Outcome.LOCKOUT, lockouts=(lockout,))
    assert ran.status == 1
    assert ran.out.splitlines() == [
        "nothing changed: what asks for health or metrics would be denied",
        "  prom -> orders  GET /metrics",
        "    allowed by scrape, last 60 min ago; now no rule names prom",
        "  --allow-lockout applies it all the same",
    ]


class TestPlan:
    """Exactly what was planned is applied, and not what the directory holds by now."""

    WANTED = SHOP_RULES.replace("POST /orders]", "POST /orders, GET /basket]")

    def written(self, mesh: Path, wanted: str = WANTED) -> Path:
        sides = [Planned(name, policy(rules), files(rules)) for name, rules in (("a", SHOP_RULES), ("b", wanted))]
        found = diff(sides[0].policy, sides[1].policy, 1_800_000_000)
        plan = plan_of(*sides, found, 1_800_000_000, message="why", commit="c0ffee")
        path = mesh / "plan.json"
        path.write_text(to_json(plan), encoding="utf-8")
        return path

    def test_its_files_go_with_the_version_that_it_was_made_against(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        path = self.written(tmp_path)
        write_mesh(tmp_path, SHOP, rules="allow: []\n", more="allow: []\n")
        assert apply(plane, tmp_path, Outcome.HELD, str(path), "--confirm", "1m").status == 0
        (asked,) = plane.asked
        assert asked["files"] == {path: content.decode() for path, content in files(self.WANTED).items()}
        assert (asked["base"], asked["confirm"]) == (policy(SHOP_RULES).version, 60.0)
        assert (asked["message"], asked["commit"]) == ("why", "c0ffee")
        apply(plane, tmp_path, Outcome.HELD, str(path), "-m", "another reason")
        assert plane.asked[-1]["message"] == "another reason"

    def test_one_that_changes_nothing_is_sent_all_the_same(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        assert apply(plane, tmp_path, Outcome.UNCHANGED, str(self.written(tmp_path, SHOP_RULES))).status == 0
        (asked,) = plane.asked
        assert (asked["base"], len(asked["files"])) == (policy(SHOP_RULES).version, 2)

    def test_one_that_was_altered_is_not_applied(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        path = self.written(tmp_path)
        path.write_text(path.read_text().replace("GET /basket", "GET /**"))
        ran = apply(plane, tmp_path, Outcome.HELD, str(path))
        assert (ran.status, "this plan was altered" in ran.err, plane.asked) == (1, True, [])

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[]", b'{"format": 99}'])
    def test_what_is_no_plan(self, plane: FakeControlPlane, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "plan.json").write_bytes(content)
        ran = apply(plane, tmp_path, Outcome.HELD, "plan.json")
        assert (ran.status, ran.err.startswith("Error: plan.json: "), plane.asked) == (1, True, [])
        assert septum("apply", "nowhere.json", cwd=tmp_path).status == 2

    def test_one_that_breaks_a_guarantee_is_refused(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        broken = SHOP_RULES + "guarantees: [{name: apart, never: {from: storefront, to: orders}}]\n"
        ran = apply(plane, tmp_path, Outcome.HELD, str(self.written(tmp_path, broken)))
        assert (ran.status, "the policy would break apart; nothing changed" in ran.err, plane.asked) == (1, True, [])


def files(rules: str) -> dict[str, bytes]:
    return {"septum.yaml": SHOP.encode(), "policy/rules.yaml": rules.encode()}


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@shop.test")
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class TestCommit:
    @pytest.fixture
    def commit(self, plane: FakeControlPlane, tmp_path: Path) -> str:
        """The mesh's files, committed."""
        (tmp_path / ".gitignore").write_text(".septum\n")
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", "the mesh")
        return git(tmp_path, "rev-parse", "HEAD")

    def sent(self, plane: FakeControlPlane, mesh: Path) -> str:
        apply(plane, mesh, Outcome.UNCHANGED)
        return str(plane.asked[-1]["commit"])

    def test_the_commit_that_is_checked_out(self, plane: FakeControlPlane, tmp_path: Path, commit: str) -> None:
        (tmp_path / "README").write_text("no part of the mesh")
        assert self.sent(plane, tmp_path) == commit

    def test_a_file_that_differs(self, plane: FakeControlPlane, tmp_path: Path, commit: str) -> None:
        write_mesh(tmp_path, SHOP, rules="allow: []\n")
        assert self.sent(plane, tmp_path) == f"{commit}-dirty"

    def test_a_file_that_git_does_not_know(self, plane: FakeControlPlane, tmp_path: Path, commit: str) -> None:
        (tmp_path / "policy" / "more.yaml").write_text("allow: []\n")
        assert self.sent(plane, tmp_path) == f"{commit}-dirty"

    def test_a_repository_without_a_commit(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        assert self.sent(plane, tmp_path) == ""

    def test_no_git(self, plane: FakeControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert self.sent(plane, tmp_path) == ""


def test_a_state_that_cannot_be_written(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["apply"] = StateError("state.db: disk full")
    ran = septum("apply", cwd=tmp_path)
    assert (ran.status, ran.err) == (1, "Error: nothing changed: state.db: disk full\n")


def test_a_mesh_that_is_not_up(tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP)
    ran = septum("apply", cwd=tmp_path)
    assert (ran.status, f"septum up {tmp_path}" in ran.err) == (1, True)
