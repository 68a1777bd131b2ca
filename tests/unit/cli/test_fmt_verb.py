from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from command_line import septum, write_mesh

MESH = """\
mesh: shop
trust_domain: shop.test
segments: {core: null}
workloads:
  orders: {segment: core, at: 127.0.0.1:9102, protocol: http}
"""
WILD = "allow:\n- {to: orders,  from: orders, http: GET /a} # why\n"
TAME = "allow:\n  - {from: orders, to: orders, http: GET /a}  # why\n"


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", MESH, orders=WILD, others=TAME)


def rules(mesh: Path) -> str:
    return (mesh / "policy" / "orders.yaml").read_text(encoding="utf-8")


def test_files_are_laid_out_where_they_are(mesh: Path) -> None:
    (mesh / "policy" / "orders.yaml").chmod(0o640)
    ran = septum("fmt", cwd=mesh)
    assert (ran.status, ran.out) == (0, "")
    assert ran.err == "policy/orders.yaml: laid out anew\n1 laid out anew, 2 as they are\n"
    assert rules(mesh) == TAME
    assert (mesh / "policy" / "orders.yaml").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in (mesh / "policy").iterdir()) == ["orders.yaml", "others.yaml"]
    assert septum("fmt", "--check", cwd=mesh).status == 0


def test_with_check_nothing_is_written(mesh: Path) -> None:
    ran = septum("fmt", "--check", cwd=mesh)
    assert (ran.status, ran.out) == (1, "")
    assert "policy/orders.yaml: would be laid out anew\n" in ran.err
    assert rules(mesh) == WILD


def test_the_patch_is_one_that_git_takes_from_anywhere(mesh: Path) -> None:
    subprocess.run(["git", "init", "-q", mesh.parent], check=True)
    ran = septum("fmt", "--diff", cwd=mesh)
    assert ran.status == 0
    assert ran.out.startswith("diff --git a/shop/policy/orders.yaml b/shop/policy/orders.yaml\n")
    assert rules(mesh) == WILD
    subprocess.run(["git", "apply", "-"], cwd=mesh, input=ran.out.encode(), check=True)
    assert rules(mesh) == TAME


def test_single_files_are_laid_out_by_the_mesh_above_them(mesh: Path) -> None:
    ran = septum("fmt", "shop/policy/others.yaml", "shop/septum.yaml", cwd=mesh.parent)
    assert (ran.status, ran.err) == (0, "2 as they are\n")
    assert rules(mesh) == WILD
    assert septum("-C", "shop", "fmt", "shop/policy/orders.yaml", cwd=mesh.parent).status == 0
    assert rules(mesh) == TAME


def test_tests_are_laid_out_too(mesh: Path) -> None:
    cases = mesh / "policy" / "orders_test.yaml"
    cases.write_text("-  {expect: deny, from: orders, to: orders, http: GET /b}\n", encoding="utf-8")
    assert septum("fmt", cwd=mesh).status == 0
    assert cases.read_text(encoding="utf-8") == "- {from: orders, to: orders, http: GET /b, expect: deny}\n"


def test_a_policy_with_errors_is_laid_out_all_the_same(mesh: Path) -> None:
    (mesh / "policy" / "orders.yaml").write_text(WILD.replace("from: orders", "from: nobody"), encoding="utf-8")
    assert septum("fmt", cwd=mesh).status == 0
    assert rules(mesh) == TAME.replace("from: orders", "from: nobody")


def test_a_file_that_has_no_safe_layout_is_left_and_said(mesh: Path) -> None:
    (mesh / "policy" / "others.yaml").write_text("allow: [\n", encoding="utf-8")
    ran = septum("fmt", cwd=mesh)
    assert ran.status == 1
    assert "left alone: policy/others.yaml:1: it cannot be read" in ran.err
    assert rules(mesh) == TAME


def test_a_link_to_a_file_stays_one(mesh: Path, tmp_path: Path) -> None:
    place = mesh / "policy" / "orders.yaml"
    place.rename(tmp_path / "kept.yaml")
    place.symlink_to(tmp_path / "kept.yaml")
    assert septum("fmt", "policy/orders.yaml", cwd=mesh).status == 0
    assert place.is_symlink()
    assert rules(mesh) == TAME


def test_json_says_what_came_of_each_file(mesh: Path) -> None:
    ran = septum("fmt", "--check", "--json", cwd=mesh)
    assert [(one["file"], one["state"]) for one in json.loads(ran.out)] == [
        ("septum.yaml", "unchanged"), ("policy/orders.yaml", "changed"), ("policy/others.yaml", "unchanged"),
    ]  # fmt: skip


def test_files_of_no_mesh_are_wrong_usage(mesh: Path, tmp_path: Path) -> None:
    stray = tmp_path / "policy.yaml"
    stray.write_text("a: b\n", encoding="utf-8")
    assert septum("fmt", stray, cwd=tmp_path).status == 2
    (mesh / "notes.yaml").write_text("a: b\n", encoding="utf-8")
    assert "no file of a mesh" in septum("fmt", "notes.yaml", cwd=mesh).err
    assert septum("fmt", cwd=tmp_path).status == 2


def test_the_shop_is_laid_out() -> None:
    root = Path(__file__).parents[3]
    ran = septum("fmt", "--check", cwd=root / "examples" / "shop")
    assert ran.status == 0, ran.err
