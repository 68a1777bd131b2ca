"""`septum history`: the versions, who made them and why, and what became of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from stored_versions import Stored

from command_line import septum, write_mesh
from septum.control.state import End, Fate, Version
from septum.control.versions import AUTOMATIC


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, "mesh: x\n")


@pytest.fixture
def stored(mesh: Path) -> Stored:
    return Stored(mesh)


def lines(mesh: Path, *arguments: str) -> list[str]:
    ran = septum("history", *arguments, cwd=mesh)
    assert ran.status == 0, ran
    return [" ".join(line.split()) for line in ran.out.splitlines()]


def at(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def test_what_became_of_each(stored: Stored, mesh: Path) -> None:
    stored.store("a: 1", message="the first", commit="0123456789abcdef0123-dirty")
    stored.store("b: 1", end=End(Fate.REFUSED, 2.0, "n1: no such cluster"))
    stored.store("c: 1")
    stored.store("a: 1", restores=1, author=AUTOMATIC, message="it was not confirmed in time")
    assert lines(mesh) == [
        "version applied by signed what became of it",
        f"4 aaaaaaaaaaaa {at(4)} septum, by itself good enforced",
        "back to version 1; it was not confirmed in time",
        f"3 cccccccccccc {at(3)} ada good rolled back {at(4)} by septum, by itself: it was not confirmed in time",
        f"2 bbbbbbbbbbbb {at(2)} ada good refused: n1: no such cluster",
        f"1 aaaaaaaaaaaa {at(1)} ada good replaced {at(3)}",
        "the first; commit 0123456789ab-dirty",
    ]
    assert len(lines(mesh, "-n", "1")) == 3


def test_what_is_on_trial_and_what_was_confirmed(stored: Stored, mesh: Path) -> None:
    stored.store("a: 1")
    tried = stored.store("b: 1", confirm_by=time.time() + 100, falls_back=1)
    assert "enforced, goes back in" in lines(mesh)[1]
    stored.confirm(tried, "bob")
    assert lines(mesh)[1].endswith("good enforced, confirmed")


def test_as_json(stored: Stored, mesh: Path) -> None:
    stored.store("a: 1", message="why", commit="c0ffee")
    stored.store("b: 1", quarantined=frozenset({"orders"}), previous="a" * 64)
    newest, oldest = json.loads(septum("history", "--json", cwd=mesh).out)
    assert (newest["number"], newest["ended"], newest["quarantined"]) == (2, "enforced", ["orders"])
    assert newest["signature"] == {"standing": "good", "key": stored.signer.fingerprint, "why": ""}
    assert (oldest["message"], oldest["commit"]) == ("why", "c0ffee")
    assert (oldest["ended_at"], oldest["ended_by"]) == (2.0, "ada")
    assert set(oldest["files"]) == {"septum.yaml", "policy/a.yaml"}


def test_a_version_that_is_not_what_was_stored_is_said(stored: Stored, mesh: Path) -> None:
    stored.store("a: 1")
    stored.state.write(("UPDATE version SET author = 'eve'", ()))
    ran = septum("history", cwd=mesh)
    assert ran.status == 1
    assert "BAD" in ran.out
    assert f"the key {stored.signer.fingerprint} has not signed what stands there" in ran.out


def test_versions_from_before_there_were_signatures(mesh: Path) -> None:
    stored = Stored(mesh)
    (mesh / ".septum" / "signing" / "unsigned").write_text("1\n")
    stored.state.enforce(Version(1, "a" * 64, 1.0, "ada", {}, {}))
    assert "unsigned enforced" in lines(mesh)[1]


def test_what_people_wrote_cannot_move_the_cursor(stored: Stored, mesh: Path) -> None:
    stored.store("a: 1", message="\x1b[2Jgone", author="eve\x07")
    out = septum("history", cwd=mesh).out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_the_keys(stored: Stored, mesh: Path) -> None:
    (line,) = lines(mesh, "--keys")
    path = mesh / ".septum" / "signing" / f"{stored.signer.fingerprint}.pub"
    assert line == f"{stored.signer.fingerprint} signs now {path}"
    assert "BEGIN PUBLIC KEY" in path.read_text()
    (key,) = json.loads(septum("history", "--keys", "--json", cwd=mesh).out)
    assert key == {"key": stored.signer.fingerprint, "path": str(path), "current": True}


def test_nothing_was_ever_applied(mesh: Path) -> None:
    ran = septum("history", cwd=mesh)
    assert (ran.status, "nothing was ever applied" in ran.err) == (1, True)


def test_a_state_of_another_release(stored: Stored, mesh: Path) -> None:
    stored.state.write(("PRAGMA user_version = 99", ()))
    ran = septum("history", cwd=mesh)
    assert (ran.status, "was written by a newer Septum" in ran.err) == (1, True)
