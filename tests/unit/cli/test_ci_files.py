"""The ready files for CI systems: valid, and the part that is a script does what it says in a real repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_repo import commit, environment, git, repository

import meshes
from command_line import write_mesh

CI = Path(__file__).parents[3] / "examples" / "ci"
SCRIPT = CI / "septum-plan.sh"
MESH = meshes.SHOP.replace("enforce: [pci, data]", "enforce: [edge, core, pci, data]")
MORE = meshes.SHOP_RULES + "  - {name: refunds, from: storefront, to: orders, http: 'POST /orders/{id}/refund'}\n"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a mesh in `shop`, and a branch `feature` that is checked out and one commit ahead of `main`."""
    root = repository(tmp_path / "repo")
    write_mesh(root / "shop", MESH, orders=meshes.SHOP_RULES)
    commit(root, "one")
    git(root, "switch", "--quiet", "--create", "feature")
    return root


def run(repo: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a job does, with this Septum on the path."""
    path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
    command = ["sh", str(SCRIPT), *arguments]
    return subprocess.run(
        command, cwd=repo, env=environment() | {"PATH": path} | more, capture_output=True, text=True, check=False
    )


def policy(repo: Path, rules: str) -> None:
    (repo / "shop" / "policy" / "orders.yaml").write_text(rules)
    commit(repo, "two")


def test_a_branch_is_planned_against_where_it_left(repo: Path) -> None:
    policy(repo, MORE)
    git(repo, "switch", "--quiet", "main")
    policy(repo, "allow: []\n")  # what happened there since is not this branch's doing
    git(repo, "switch", "--quiet", "feature")
    ran = run(repo, "shop", "main")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Newly allowed: 1" in (repo / "plan.md").read_text()
    assert "Newly denied" not in (repo / "plan.md").read_text()
    assert [r["ruleId"] for r in json.loads((repo / "plan.sarif").read_text())["runs"][0]["results"]] == ["SEP701"]


def test_it_fails_on_what_the_job_says_and_leaves_the_comment(repo: Path, tmp_path: Path) -> None:
    policy(repo, MORE)
    ran = run(repo, "shop", "main", SEPTUM_FAIL_ON="narrow widen", SEPTUM_OUT=str(tmp_path))
    assert (ran.returncode, ran.stderr) == (1, "failed: it widens\n")
    assert (tmp_path / "plan.md").read_text().startswith("<!-- septum plan -->\n")


def test_errors_are_in_the_comment_too(repo: Path) -> None:
    policy(repo, "allow:\n  - {from: stroefront, to: orders, http: GET /}\n")
    ran = run(repo, "shop", "main")
    assert ran.returncode == 1
    assert "unknown workload `stroefront`" in ran.stdout
    assert "unknown workload `stroefront`" in (repo / "plan.md").read_text()


def test_a_failed_policy_test_fails(repo: Path) -> None:
    case = "- {from: storefront, to: orders, http: GET /orders/1, expect: deny}\n"
    (repo / "shop" / "policy" / "orders_test.yaml").write_text(case)
    commit(repo, "a test")
    assert run(repo, "shop", "main").returncode == 1
    (repo / "shop" / "policy" / "orders_test.yaml").write_text(case.replace("deny", "allow"))
    assert run(repo, "shop", "main").returncode == 0


def test_without_the_history_it_says_what_to_do(repo: Path, tmp_path: Path) -> None:
    ran = run(repo, "shop", "origin/main")
    assert ran.returncode == 2
    assert "no merge base with origin/main: fetch it, with its history" in ran.stderr


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_files_are_valid_yaml_and_run_the_script(name: str) -> None:
    text = (CI / name).read_text()
    value = yaml.safe_load(text)
    assert isinstance(value, dict)
    assert any("sh ci/septum-plan.sh" in script for script in _scripts(value))


def _scripts(value: Any) -> list[str]:
    """Whatever a CI system would hand to a shell."""
    if isinstance(value, dict):
        own = [value[key] for key in ("run", "script", "before_script", "after_script") if key in value]
        flat = [line for part in own for line in (part if isinstance(part, list) else [part])]
        return [*flat, *(line for part in value.values() for line in _scripts(part))]
    return [line for part in value for line in _scripts(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_their_scripts_are_shell_and_nothing_of_a_request_is_pasted_into_them(name: str) -> None:
    for script in _scripts(yaml.safe_load((CI / name).read_text())):
        subprocess.run(["sh", "-n", "-c", script], check=True)
        assert "${{" not in script, "a branch's name in a script is a way in"


def test_a_job_of_github_has_the_whole_history_and_only_the_rights_that_it_needs() -> None:
    value = yaml.safe_load((CI / "github-actions.yml").read_text())
    checkout = next(s for s in value["jobs"]["plan"]["steps"] if s.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"]["fetch-depth"] == 0
    assert value["permissions"] == {"contents": "read", "pull-requests": "write", "security-events": "write"}
    assert set(value[True]) == {"pull_request"}  # YAML 1.1 reads `on` as true; never pull_request_target
