"""The hooks that pre-commit reads: each runs, in a repository of which the mesh is the root or a part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import meshes
from command_line import septum, write_mesh
from septum.cli.main import VERBS

HOOKS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[3] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
)
RULES = "allow:\n  - {from: orders, to: ledger}\n"
CASES = "- {from: orders, to: ledger, expect: allow}\n"


def test_there_is_a_hook_for_each_of_four_verbs() -> None:
    assert [hook["id"] for hook in HOOKS] == ["septum-check", "septum-fmt", "septum-lint", "septum-test"]
    assert all(hook["id"].removeprefix("septum-") in VERBS for hook in HOOKS)


def run(hook: dict[str, Any], root: Path, args: list[str], files: list[str]) -> int:
    """Run a hook as pre-commit does: in the root of the repository, with the files that it is about."""
    program, *words = [*hook["entry"].split(), *args]
    assert program == "septum"
    chosen = [file for file in files if re.search(hook["files"], file)]
    assert chosen
    return septum(*words, *(chosen if hook.get("pass_filenames", True) else []), cwd=root).status


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
@pytest.mark.parametrize("below", ["", "deploy/mesh"])
def test_a_hook_passes_on_a_mesh_in_order_and_fails_on_one_that_is_not(
    tmp_path: Path, hook: dict[str, Any], below: str
) -> None:
    mesh = write_mesh(tmp_path / below, meshes.SHOP, orders=RULES, orders_test=CASES)
    assert septum("fmt", cwd=mesh).status == 0
    files = [path.relative_to(tmp_path).as_posix() for path in mesh.rglob("*.yaml")]
    args = hook.get("args", [])
    args = ["-C", below, *args] if below and args else args
    assert run(hook, tmp_path, args, files) == 0
    twice = f"{RULES}  - {{from: orders, to: nobody}}\n" if hook["id"] == "septum-check" else f"{RULES}{RULES[7:]}"
    wrong = {"septum-fmt": "allow: [\n", "septum-test": "allow: []\n"}.get(hook["id"], twice)
    (mesh / "policy" / "orders.yaml").write_text(wrong, encoding="utf-8")
    assert run(hook, tmp_path, args, files) == 1
