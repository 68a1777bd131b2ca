"""`septum show`: one stored version, with its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stored_versions import Stored

from command_line import septum, write_mesh
from septum.control.state import Version


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, "mesh: x\n")


@pytest.fixture
def stored(mesh: Path) -> Stored:
    stored = Stored(mesh)
    stored.store("allow: []\n", message="nothing yet", commit="c0ffee")
    stored.store("both: 1\n", previous="a" * 64)
    return stored


def test_the_enforced_one_unless_another_is_named(stored: Stored, mesh: Path) -> None:
    shown = septum("show", cwd=mesh)
    assert shown.status == 0
    assert f"version       {'b' * 64}" in shown.out
    assert "state         enforced" in shown.out
    assert f"signature     good (key {stored.signer.fingerprint})" in shown.out
    assert f"before        {'a' * 64}" in shown.out
    assert "policy/a.yaml  8 bytes  sha256 " in shown.out
    older = septum("show", "previous", cwd=mesh)
    assert "because       nothing yet" in older.out
    assert "commit        c0ffee" in older.out
    for ref in ("1", "#1", "aaaa"):
        assert septum("show", ref, cwd=mesh).out == older.out


def test_what_the_files_hold(stored: Stored, mesh: Path) -> None:
    assert "\npolicy/a.yaml\nallow: []\n" in septum("show", "1", "--files", cwd=mesh).out
    alone = septum("show", "1", "--file", "policy/a.yaml", cwd=mesh)
    assert (alone.status, alone.out) == (0, "allow: []\n")
    missing = septum("show", "1", "--file", "policy/b.yaml", cwd=mesh)
    assert missing.status == 2
    assert "it has septum.yaml, policy/a.yaml" in missing.err


def test_as_json(stored: Stored, mesh: Path) -> None:
    shown = json.loads(septum("show", "1", "--json", cwd=mesh).out)
    assert (shown["number"], shown["ended"], "contents" in shown) == (1, "replaced", False)
    whole = json.loads(septum("show", "1", "--json", "--files", cwd=mesh).out)
    assert whole["contents"]["policy/a.yaml"] == "allow: []\n"


@pytest.mark.parametrize("arguments", [(), ("--verify",), ("--json",), ("--file", "policy/a.yaml")])
def test_what_was_tampered_with_is_shown_and_fails(stored: Stored, mesh: Path, arguments: tuple[str, ...]) -> None:
    stored.state.write(("UPDATE version SET files = replace(files, 'both', 'bot')", ()))
    assert septum("show", *arguments, cwd=mesh).status == 1
    assert "signature     BAD" in septum("show", cwd=mesh).out


def test_without_a_signature_it_is_not_verified(mesh: Path) -> None:
    stored = Stored(mesh)
    (mesh / ".septum" / "signing" / "unsigned").write_text("1\n")
    stored.state.enforce(Version(1, "a" * 64, 1.0, "ada", {}, {}))
    assert septum("show", cwd=mesh).status == 0
    assert septum("show", "--verify", cwd=mesh).status == 1


def test_no_such_version(stored: Stored, mesh: Path) -> None:
    ran = septum("show", "17", cwd=mesh)
    assert (ran.status, ran.err) == (1, "Error: no version is called `17`: `septum history` lists them\n")


def test_several_versions(stored: Stored, mesh: Path) -> None:
    stored.store("c: 1", digest="b" * 63 + "c")
    ran = septum("show", "bbbb", cwd=mesh)
    assert (ran.status, "several versions begin with bbbb" in ran.err) == (1, True)
