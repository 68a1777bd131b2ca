from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest
from git_repo import commit, git, repository

import meshes
from command_line import Ran, septum, write_mesh
from fakes.decision_log import line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.store import Store
from septum.control.state import State, Version
from septum.plan.sealed import from_json
from septum.policy.quarantine import quarantined

MESH = meshes.SHOP.replace("enforce: [pci, data]", "enforce: [edge, core, pci, data]")
MORE = meshes.SHOP_RULES + "  - {name: refunds, from: storefront, to: orders, http: 'POST /orders/{id}/refund'}\n"
LESS = meshes.SHOP_RULES.replace(", POST /orders]", "]")


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", MESH, orders=meshes.SHOP_RULES)


@pytest.fixture
def repo(mesh: Path) -> Path:
    """The mesh in a sub-directory of a repository, one commit old."""
    repository(mesh.parent)
    commit(mesh.parent, "one")
    return mesh


def enforce(mesh: Path, rules: str, *shut: str) -> str:
    """Store a version as the control plane does; its digest."""
    policy = quarantined(meshes.policy(rules, MESH), shut)
    files = {"septum.yaml": MESH.encode(), "policy/orders.yaml": rules.encode()}
    (mesh / ".septum").mkdir(exist_ok=True)
    with closing(State(mesh / ".septum" / "state.db")) as state:
        state.enforce(Version(0, policy.version, time.time(), "ada", files, {}, policy.quarantined))
    return policy.version


def record(mesh: Path, *fields: dict[str, object]) -> None:
    """Keep records of requests of storefront to orders, a minute old."""
    read = read_line(line())
    assert isinstance(read, Line)
    made = recorder().record(read, "n1")._replace(time=time.time() - 60, caller="storefront", target="orders")
    (mesh / ".septum" / "records").mkdir(parents=True, exist_ok=True)
    with closing(Store(mesh / ".septum" / "records" / "decisions.db")) as store:
        store.write("n1", [made._replace(request_id=str(n), **of) for n, of in enumerate(fields)], Position(), {})


def write(mesh: Path, rules: str) -> None:
    (mesh / "policy" / "orders.yaml").write_text(rules)


def rows(ran: Ran) -> list[str]:
    return [part for part in ran.out.splitlines() if part.startswith(("  + storefront", "  - storefront"))]


# --- against what is enforced


def test_the_files_are_compared_with_what_is_enforced(mesh: Path) -> None:
    enforce(mesh, meshes.SHOP_RULES)
    write(mesh, MORE)
    ran = septum("plan", cwd=mesh)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("from  enforced (number 1), version ")
    assert rows(ran) == ["  + storefront → orders  POST /orders/{id}/refund"]
    assert "\n      such as storefront → orders  POST /orders/1/refund  by refunds, policy/orders.yaml:12\n" in ran.out
    assert ran.out.endswith("\nrisk  widens\n")


def test_where_nothing_changed_it_says_so(mesh: Path) -> None:
    version = enforce(mesh, meshes.SHOP_RULES)
    ran = septum("plan", "--exit-code", cwd=mesh)
    assert ran.status == 0
    assert f"to    the working tree, version {version[:12]}\n\nnothing changes: both are the same version\n" in ran.out


def test_before_the_first_version_all_of_it_is_new(mesh: Path) -> None:
    ran = septum("plan", "--json", cwd=mesh)
    plan = from_json(ran.out)
    assert (plan.base.version, plan.denied, plan.risk.text) == ("", (), "widens")
    assert len(plan.allowed) == 5


def test_where_no_version_is_enforced_all_of_it_is_new_too(mesh: Path) -> None:
    (mesh / ".septum").mkdir()
    State(mesh / ".septum" / "state.db").close()
    ran = septum("plan", cwd=mesh)
    assert ran.out.startswith("from  nothing, since no version is enforced here yet\n")


def test_who_is_in_quarantine_stays_there(mesh: Path) -> None:
    enforce(mesh, meshes.SHOP_RULES, "storefront")
    write(mesh, MORE)
    plan = from_json(septum("plan", "--json", cwd=mesh).out)
    assert (plan.quarantined, plan.allowed, plan.shifts) == (("storefront",), (), ())
    assert plan.wanted.version == quarantined(meshes.policy(MORE, MESH), ["storefront"]).version


def test_a_plan_is_written_for_apply(mesh: Path) -> None:
    base = enforce(mesh, meshes.SHOP_RULES)
    write(mesh, MORE)
    ran = septum("plan", "--out", "plan.json", "-m", "refunds for support", cwd=mesh)
    assert ran.status == 0
    plan = from_json((mesh / "plan.json").read_text())
    assert (plan.base.version, plan.message) == (base, "refunds for support")
    assert plan.files["policy/orders.yaml"] == MORE


def test_recorded_requests_are_replayed(mesh: Path) -> None:
    enforce(mesh, meshes.SHOP_RULES)
    record(mesh, *({"method": "POST", "path": "/orders", "protocol": "http"} for _ in range(3)))
    write(mesh, LESS)
    ran = septum("plan", "--fail-on", "replay-deny", cwd=mesh)
    assert ran.status == 1
    assert "  denied  storefront → orders  POST /orders  3x  last 60 s ago\n" in ran.out
    assert ", and it goes back no further\n" in ran.out
    assert ran.err == "failed: 3 recorded requests would be denied\n"


def test_records_of_another_place_are_replayed_too(mesh: Path, tmp_path: Path) -> None:
    record(mesh, {"method": "POST", "path": "/orders", "protocol": "http"})
    kept = (mesh / ".septum" / "records" / "decisions.db").rename(tmp_path / "kept.db")
    other = write_mesh(tmp_path / "other", MESH, orders=LESS)
    ran = septum("diff", mesh, ".", "--records", kept, cwd=other)
    assert "  denied  storefront → orders  POST /orders  1x" in ran.out


# --- what fails


@pytest.mark.parametrize(
    ("rules", "fatal", "status"),
    [
        (MORE, (), 0),
        (MORE, ("--fail-on", "widen"), 1),
        (MORE, ("--fail-on", "narrow"), 0),
        (LESS, ("--fail-on", "narrow"), 1),
        (LESS, ("--fail-on", "widen"), 0),
        (LESS, ("--fail-on", "widen", "--fail-on", "narrow"), 1),
        (meshes.SHOP_RULES.replace("view", "see"), ("--fail-on", "widen", "--fail-on", "narrow"), 0),
        (meshes.SHOP_RULES.replace("view", "see"), ("--exit-code",), 1),
        (MORE, ("--fail-on", "replay-deny"), 1),  # there is no record that could show that it does not
    ],
)
def test_it_fails_on_what_it_is_told_to(mesh: Path, rules: str, fatal: tuple[str, ...], status: int) -> None:
    enforce(mesh, meshes.SHOP_RULES)
    write(mesh, rules)
    ran = septum("plan", *fatal, cwd=mesh)
    assert ran.status == status
    assert ran.err.startswith("failed: ") == bool(status)


def test_what_cannot_be_told_counts_as_widening_and_as_narrowing(mesh: Path) -> None:
    place = "\nexternal: {partner: {host: a.test, protocol: http}}\n"
    (mesh / "septum.yaml").write_text(MESH + place)
    other = write_mesh(mesh.parent / "other", MESH + place.replace("a.test", "b.test"), orders=meshes.SHOP_RULES)
    for what in ("widen", "narrow"):
        ran = septum("diff", mesh, other, "--fail-on", what, cwd=mesh)
        assert (ran.status, ran.err) == (1, f"failed: it may {what}: it cannot be told\n")


def test_a_broken_guarantee_always_fails(mesh: Path) -> None:
    enforce(mesh, meshes.SHOP_RULES)
    write(mesh, MORE + "guarantees:\n  - {name: shut, never: {from: storefront, to: orders}}\n")
    ran = septum("plan", cwd=mesh)
    assert (ran.status, ran.err) == (1, "failed: the guarantee `shut` is broken\n")
    assert "  the guarantee `shut` is broken: storefront may call orders\n" in ran.out


@pytest.mark.parametrize("form", ["text", "json", "markdown", "sarif"])
def test_a_policy_with_errors_is_said_in_the_form_that_was_asked_for(mesh: Path, form: str) -> None:
    write(mesh, "allow:\n  - {from: stroefront, to: orders, http: GET /}\n")
    ran = septum("plan", "--format", form, cwd=mesh)
    assert ran.status == 1
    assert "unknown workload `stroefront`" in ran.out
    assert ran.err == "failed: the working tree has errors (1 error)\n"
    if form in ("json", "sarif"):
        assert json.loads(ran.out)


def test_errors_in_what_it_is_compared_with_are_another_exit_status(mesh: Path, tmp_path: Path) -> None:
    broken = write_mesh(tmp_path / "old", MESH, orders="allow: nothing\n")
    ran = septum("plan", "--against", broken, cwd=mesh)
    assert ran.status == 2
    assert "has errors, so there is nothing to compare with" in ran.err


# --- what words name


def test_a_revision_is_read_from_the_repository(repo: Path) -> None:
    write(repo, MORE)
    ran = septum("diff", "HEAD", cwd=repo)
    assert ran.out.startswith("from  HEAD, commit ")
    assert rows(ran) == ["  + storefront → orders  POST /orders/{id}/refund"]


def test_branches_tags_and_commits_are_revisions(repo: Path) -> None:
    first = git(repo, "rev-parse", "HEAD")
    git(repo, "tag", "v1")
    git(repo, "switch", "--quiet", "--create", "feature/refunds")
    write(repo, MORE)
    commit(repo, "two")
    for a, b in (("main", "feature/refunds"), ("v1", "HEAD"), (first, "git:HEAD"), (f"git:{first[:8]}", ".")):
        assert rows(septum("diff", a, b, cwd=repo)) == ["  + storefront → orders  POST /orders/{id}/refund"]
    assert rows(septum("diff", "HEAD", "v1", cwd=repo)) == ["  - storefront → orders  POST /orders/{id}/refund"]


def test_a_revision_in_which_there_was_no_mesh_is_nothing(repo: Path) -> None:
    git(repo.parent, "switch", "--quiet", "--orphan", "before")
    (repo.parent / "README").write_text("before")
    before = commit(repo.parent, "before")
    git(repo.parent, "switch", "--quiet", "main")
    ran = septum("diff", before, cwd=repo)
    assert ran.status == 0
    assert f"from  commit {before[:12]}, which has no mesh here\n" in ran.out


def test_the_commit_of_the_files_is_kept_and_whether_they_differ(repo: Path) -> None:
    head = git(repo, "rev-parse", "HEAD")
    assert from_json(septum("plan", "--json", cwd=repo).out).commit == head
    write(repo, MORE)
    assert from_json(septum("plan", "--json", cwd=repo).out).commit == f"{head}-dirty"


def test_directories_and_the_working_tree(mesh: Path, tmp_path: Path) -> None:
    other = write_mesh(tmp_path / "other", MESH, orders=MORE)
    for a, b in ((".", other), (".", "../other"), ("dir:.", "dir:../other")):
        assert rows(septum("diff", a, b, cwd=mesh)) == ["  + storefront → orders  POST /orders/{id}/refund"]


def test_stored_versions_by_number_digest_and_name(mesh: Path) -> None:
    first, second = enforce(mesh, meshes.SHOP_RULES), enforce(mesh, MORE)
    for a, b in (("1", "2"), ("#1", "enforced"), (first[:8], second), ("previous", f"version:{second[:6]}")):
        assert rows(septum("diff", a, b, cwd=mesh)) == ["  + storefront → orders  POST /orders/{id}/refund"], (a, b)


def test_a_version_has_its_own_quarantine(mesh: Path) -> None:
    enforce(mesh, meshes.SHOP_RULES, "storefront")
    enforce(mesh, meshes.SHOP_RULES)
    ran = septum("diff", "1", "2", cwd=mesh)
    assert "  ~ storefront is out of quarantine: its rules count again\n" in ran.out
    assert ran.out.endswith("\nrisk  widens\n")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("nosuch", "neither a directory with a septum.yaml nor a git revision"),
        ("nosuch", "it is in no git repository that can be read"),
        ("dir:nowhere", "there is no septum.yaml in nowhere"),
        ("version:7", "there is no version"),
        ("previous", "there is no version"),
        ("git:-x", "names no policy"),
        ("git:", "names no policy"),
    ],
)
def test_a_word_that_names_nothing_is_wrong_usage(mesh: Path, word: str, why: str) -> None:
    ran = septum("diff", word, cwd=mesh)
    assert ran.status == 2
    assert why in " ".join(ran.err.split())


def test_a_version_that_is_not_stored(mesh: Path) -> None:
    enforce(mesh, MORE)
    ran = septum("diff", "version:7", cwd=mesh)
    assert ran.status == 2
    assert "there is no version `7` here: `septum history` lists those that there are" in " ".join(ran.err.split())


def test_a_shallow_clone_says_how_to_get_the_rest(repo: Path, tmp_path: Path) -> None:
    old = git(repo, "rev-parse", "HEAD")
    write(repo, MORE)
    commit(repo, "two")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repo.parent}", "clone")
    ran = septum("diff", old, cwd=tmp_path / "clone" / "shop")
    assert ran.status == 2
    assert "the clone is shallow: `git fetch --unshallow`" in " ".join(ran.err.split())
    assert "fetch-depth: 0" in ran.err


def test_without_git_it_is_said(mesh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    ran = septum("diff", "HEAD", cwd=mesh)
    assert ran.status == 2
    assert "git is needed to read a revision, and there is none" in ran.err
    write(mesh, MORE)
    assert septum("plan", cwd=mesh).status == 0  # which needs none


# --- the forms


def test_markdown_is_for_a_pull_request(mesh: Path) -> None:
    enforce(mesh, meshes.SHOP_RULES)
    write(mesh, MORE)
    ran = septum("plan", "--format", "markdown", cwd=mesh)
    assert ran.out.startswith("<!-- septum plan -->\n### Septum: widens\n")
    assert "| storefront | orders | `POST /orders/{id}/refund` | `refunds` `policy/orders.yaml:12` |" in ran.out


def test_sarif_has_the_place_of_each_row_as_seen_from_here(repo: Path) -> None:
    write(repo, MORE)
    ran = septum("-C", "shop", "plan", "--against", "HEAD", "--format", "sarif", cwd=repo.parent)
    log = json.loads(ran.out)
    (run,) = log["runs"]
    (result,) = run["results"]
    assert log["version"] == "2.1.0"
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "SEP701"
    location = result["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "shop/policy/orders.yaml"
    assert location["region"]["startLine"] == 12


def test_there_is_no_colour_without_a_terminal(mesh: Path) -> None:
    assert "\x1b" not in septum("plan", cwd=mesh).out


def test_help_has_examples_and_says_what_the_exit_status_is() -> None:
    for verb in ("plan", "diff"):
        ran = septum(verb, "--help", cwd=Path.cwd())
        assert "Examples:" in ran.out
        assert "Exit status 0, whatever changes; 1 when" in " ".join(ran.out.split())
