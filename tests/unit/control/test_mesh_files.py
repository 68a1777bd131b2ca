from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import meshes
from command_line import write_mesh
from septum.control.files import read_mesh_dir
from septum.policy.load import load
from septum.policy.text import MAX_BYTES


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, meshes.SHOP, rules="allow: []\n")


def error(mesh: Path, path: str) -> OSError:
    found = read_mesh_dir(mesh)[path]
    assert isinstance(found, OSError)
    assert load(read_mesh_dir(mesh)).policy is None
    return found


def test_the_mesh_and_the_policies_below_it_are_read(mesh: Path) -> None:
    (mesh / "policy" / "team").mkdir()
    (mesh / "policy" / "team" / "b.yaml").write_bytes(b"allow: []\n")
    (mesh / "policy" / "README.md").write_bytes(b"# how we write rules\n")
    (mesh / "other.yaml").write_bytes(b"x: 1\n")
    assert read_mesh_dir(mesh) == {
        "septum.yaml": meshes.SHOP.encode(),
        "policy/rules.yaml": b"allow: []\n",
        "policy/team/b.yaml": b"allow: []\n",
    }


def test_the_files_that_settings_may_name_are_read_at_any_depth(mesh: Path) -> None:
    (mesh / "files" / "keys" / "old").mkdir(parents=True)
    (mesh / "files" / "partner.pem").write_bytes(b"\xff\x00")
    (mesh / "files" / "keys" / "old" / "login.json").write_bytes(b"{}")
    (mesh / "files" / "keys" / ".login.json.swp").write_bytes(b"")
    (mesh / "files" / "login.json~").write_bytes(b"")
    found = read_mesh_dir(mesh)
    assert {path: content for path, content in found.items() if path.startswith("files/")} == {
        "files/keys/old/login.json": b"{}",
        "files/partner.pem": b"\xff\x00",
    }
    assert load(found).diagnostics == ()


def test_what_cannot_be_read_below_files_is_an_error_where_it_is_named_alone(mesh: Path) -> None:
    (mesh / "files").mkdir()
    (mesh / "files" / "gone.json").symlink_to(mesh / "nothing")
    os.mkfifo(mesh / "files" / "pipe")
    (mesh / "files" / "loop").symlink_to(mesh / "policy")
    found = read_mesh_dir(mesh)
    assert all(isinstance(found[f"files/{name}"], OSError) for name in ("gone.json", "pipe", "loop"))
    assert load(found).diagnostics == ()
    issuers = "issuers: {login: {issuer: me, audiences: [shop], jwks: files/gone.json}}\n"
    (mesh / "septum.yaml").write_text(meshes.SHOP + issuers)
    [error] = load(read_mesh_dir(mesh)).diagnostics
    assert (error.code, error.span.file) == ("SEP109", "septum.yaml")


def test_a_mesh_whose_files_is_a_file_has_none(mesh: Path) -> None:
    (mesh / "files").write_bytes(b"x")
    assert load(read_mesh_dir(mesh)).diagnostics == ()


def test_hidden_files_and_backups_are_left_alone(mesh: Path) -> None:
    (mesh / "policy" / ".git").mkdir()
    for name in (".git/a.yaml", ".#rules.yaml", "rules.yaml~", ".rules.yaml.swp", "#rules.yaml#", "rules.yaml.orig"):
        (mesh / "policy" / name).write_bytes(b"allow: []\n")
    assert list(read_mesh_dir(mesh)) == ["septum.yaml", "policy/rules.yaml"]


def test_what_looks_like_policy_is_found_so_that_it_can_be_refused(mesh: Path) -> None:
    for name in ("a.yml", "a.YAML", "a_test.yml", "a.yaml.txt"):
        (mesh / "policy" / name).write_bytes(b"")
    (mesh / "septum.yml").write_bytes(b"")
    found = read_mesh_dir(mesh)
    assert {"septum.yml", "policy/a.yml", "policy/a.YAML", "policy/a_test.yml", "policy/a.yaml.txt"} < found.keys()
    assert len(load(found).errors) == 5


def test_tests_are_read_for_who_asks_for_them_alone(mesh: Path) -> None:
    (mesh / "policy" / "team").mkdir()
    (mesh / "policy" / "team" / "a_test.yaml").write_bytes(b"[]\n")
    (mesh / "policy" / "notes.md").write_bytes(b"# notes\n")
    (mesh / "notes.md").write_bytes(b"# others\n")
    (mesh / "policy" / "gone_test.yaml").symlink_to(mesh / "nothing")
    without = read_mesh_dir(mesh)
    assert list(without) == ["septum.yaml", "policy/rules.yaml"]
    assert load(without).policy is not None
    found = read_mesh_dir(mesh, tests=True)
    assert {path: content for path, content in found.items() if path not in without} == {
        "policy/team/a_test.yaml": b"[]\n",
        "policy/notes.md": b"# notes\n",
        "policy/gone_test.yaml": found["policy/gone_test.yaml"],
    }
    assert isinstance(found["policy/gone_test.yaml"], OSError)
    assert load(found) == load(without), "tests are no part of the policy, whatever state they are in"


def test_without_a_mesh_there_is_nothing(tmp_path: Path) -> None:
    assert read_mesh_dir(tmp_path) == {}
    assert read_mesh_dir(tmp_path / "missing") == {}


def test_links_to_files_are_followed(mesh: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"allow: []\n")
    (mesh / "policy" / "linked.yaml").symlink_to(tmp_path / "elsewhere")
    assert read_mesh_dir(mesh)["policy/linked.yaml"] == b"allow: []\n"


def test_links_into_nowhere_and_links_to_directories_are_errors(mesh: Path) -> None:
    (mesh / "policy" / "gone.yaml").symlink_to(mesh / "nothing")
    (mesh / "policy" / "loop").symlink_to(mesh / "policy")
    assert error(mesh, "policy/gone.yaml").errno == errno.ENOENT
    assert error(mesh, "policy/loop").errno == errno.ELOOP


def test_a_pipe_is_an_error_and_does_not_keep_us_waiting(mesh: Path) -> None:
    os.mkfifo(mesh / "policy" / "pipe.yaml")
    assert error(mesh, "policy/pipe.yaml").strerror == "this is not a file"


def test_a_policy_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "septum.yaml").write_text(meshes.SHOP)
    (tmp_path / "policy").write_bytes(b"allow: []\n")
    assert error(tmp_path, "policy").errno == errno.ENOTDIR


def test_a_directory_named_like_a_policy_is_a_directory(mesh: Path) -> None:
    (mesh / "policy" / "team.yaml").mkdir()
    (mesh / "policy" / "team.yaml" / "a.yaml").write_bytes(b"allow: []\n")
    assert list(read_mesh_dir(mesh)) == ["septum.yaml", "policy/rules.yaml", "policy/team.yaml/a.yaml"]


def test_a_name_that_is_not_utf_8_is_an_error(mesh: Path) -> None:
    (Path(os.fsdecode(os.fsencode(mesh) + b"/policy/\xff.yaml"))).write_bytes(b"allow: []\n")
    assert error(mesh, "policy/\ufffd.yaml").errno == errno.EILSEQ


def test_no_more_is_read_than_the_front_end_takes(mesh: Path) -> None:
    with (mesh / "policy" / "large.yaml").open("wb") as file:
        file.truncate(MAX_BYTES * 100)
    found = read_mesh_dir(mesh)
    content = found["policy/large.yaml"]
    assert isinstance(content, bytes)
    assert len(content) == MAX_BYTES + 1
    assert [d.code for d in load(found).errors] == ["SEP108"]
