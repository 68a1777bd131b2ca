"""`septum grant` and `septum grants`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, applied, status
from meshes import SHOP, SHOP_RULES, policy
from septum.control.files import read_mesh_dir
from septum.model.window import time_text
from septum.policy.grants import described, grants
from septum.policy.load import load

GRANT = ("storefront", "ledger", "connect", "--because", "INC-1042")


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, SHOP, rules=SHOP_RULES)


@pytest.fixture
def plane(mesh: Path) -> Iterator[FakeControlPlane]:
    answers: dict[str, Any] = {"status": status(version=policy(SHOP_RULES).version), "apply": applied()}
    with FakeControlPlane(mesh, answers | {"grants": {"grants": []}}) as plane:
        yield plane


def grant(mesh: Path, *arguments: str) -> Ran:
    return septum("grant", *arguments, cwd=mesh)


def written(mesh: Path) -> Path:
    return mesh / "policy" / "grants.yaml"


def sent(plane: FakeControlPlane) -> list[dict[str, Any]]:
    return [dict(request) for request in plane.asked if request["op"] == "apply"]


def test_it_is_applied_and_then_written_and_says_who_may_do_what_until_when(
    plane: FakeControlPlane, mesh: Path
) -> None:
    ran = grant(mesh, *GRANT, "--until", "2099-01-01T00:00:00Z", "--from", "2098-12-31T00:00:00Z")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[:3] == [
        "storefront -> ledger  connect",
        "  from 2098-12-31T00:00:00Z until 2099-01-01T00:00:00Z (24 h), by the rule grant-storefront-ledger",
        "  it ends by itself, also without a control plane; before that, when the rule is taken out and applied",
    ]
    assert "is held by 1 of 1 nodes" in ran.out
    (request,) = sent(plane)
    assert request["files"]["policy/grants.yaml"] == written(mesh).read_text()
    assert request["files"]["policy/rules.yaml"] == SHOP_RULES
    assert (request["base"], request["message"]) == (
        policy(SHOP_RULES).version,
        "grant grant-storefront-ledger: INC-1042",
    )


def test_for_counts_from_now_or_from_when_it_begins(mesh: Path) -> None:
    now = time.time()
    made = json.loads(grant(mesh, *GRANT, "--for", "2h", "--no-apply", "--json").out)["grant"]
    assert now + 7200 <= made["until"] <= time.time() + 7201
    assert made["from_time"] is None
    later = json.loads(
        grant(mesh, *GRANT, "--for", "2h", "--from", "2098-12-31T00:00:00+01:00", "--no-apply", "--json").out
    )["grant"]
    assert (time_text(later["from_time"]), time_text(later["until"])) == (
        "2098-12-30T23:00:00Z", "2098-12-31T01:00:00Z",
    )  # fmt: skip


def test_dry_run_is_a_patch_and_nothing_else(plane: FakeControlPlane, mesh: Path) -> None:
    ran = grant(mesh, *GRANT, "--for", "2h", "--dry-run")
    assert ran.status == 0
    assert ran.out.startswith("diff --git a/policy/grants.yaml b/policy/grants.yaml\nnew file mode 100644\n")
    assert "+  - name: grant-storefront-ledger\n" in ran.out
    assert not written(mesh).exists()
    assert sent(plane) == []


def test_without_a_control_plane_it_can_be_written(mesh: Path) -> None:
    ran = grant(mesh, *GRANT, "--for", "2h")
    assert (ran.status, "septum up" in ran.err, written(mesh).exists()) == (1, True, False)
    ran = grant(mesh, *GRANT, "--for", "2h", "--no-apply")
    assert (ran.status, ran.out.splitlines()[-1]) == (
        0,
        "written to policy/grants.yaml; `septum apply` makes it hold",
    )
    loaded = load(read_mesh_dir(mesh)).policy
    assert loaded is not None
    assert [rule.id for rule in grants(loaded)] == ["grant-storefront-ledger"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a grant ends: say when"),
        (("--for", "2h", "--until", "2099-01-01T00:00:00Z"), "a grant ends: say when"),
        (("--for", "31d"), "say --long if it is meant"),
        (("--until", "2099-01-01T00:00:00Z"), "say --long if it is meant"),
        (("--until", "2001-01-01T00:00:00Z"), "it would be over already: it ends at 2001-01-01T00:00:00Z"),
        (("--until", "2099-01-01", "--from", "2099-01-02"), "it would end before it begins"),
        (("--until", "tomorrow"), "`tomorrow` is no moment"),
        (("--for", "tomorrow"), "`tomorrow` is no span of time"),
        (("--for", "2h", "--file", "policy/grants.yml"), "`policy/grants.yml` is no policy file"),
        (("--for", "2h", "--file", "../grants.yaml"), "`../grants.yaml` is no policy file"),
        (("--for", "2h", "--file", "policy/../../grants.yaml"), "is no policy file"),
        (("--for", "2h", "--name", "a\nb"), "a line of text"),
    ],
)
def test_what_is_no_grant_is_refused(mesh: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = grant(mesh, *GRANT, *arguments, "--no-apply")
    assert (ran.status, said in " ".join(ran.err.split())) == (2, True), ran.err
    assert sorted(path.name for path in (mesh / "policy").iterdir()) == ["rules.yaml"]


def test_a_long_one_is_possible_where_it_is_meant(mesh: Path) -> None:
    assert grant(mesh, *GRANT, "--for", "90d", "--long", "--no-apply").status == 0


def test_because_is_required(mesh: Path) -> None:
    ran = grant(mesh, "storefront", "ledger", "connect", "--for", "2h")
    assert (ran.status, "--because" in ran.err) == (2, True)


def test_what_is_allowed_already_is_not_granted(mesh: Path) -> None:
    ran = grant(mesh, "storefront", "orders", "GET /orders/7", "--for", "2h", "--because", "x", "--no-apply")
    assert (ran.status, ran.err) == (1, "nothing granted: customers-orders allows all of it already\n")
    assert not written(mesh).exists()


def test_a_mistake_is_shown_where_it_would_stand(mesh: Path) -> None:
    ran = grant(mesh, "storefrnt", "ledger", "connect", "--for", "2h", "--because", "x", "--no-apply")
    assert ran.status == 1
    assert "error[SEP203]: unknown workload `storefrnt`" in ran.err
    assert "--> policy/grants.yaml:4:11" in ran.err
    assert "did you mean `storefront`?" in ran.err


def test_a_guarantee_that_it_would_break_keeps_it_out(mesh: Path) -> None:
    never = "guarantees:\n  - {name: apart, never: {from: segment:edge, to: segment:data}}\n"
    (mesh / "policy" / "apart.yaml").write_text(never)
    ran = grant(mesh, *GRANT, "--for", "2h", "--no-apply")
    assert (ran.status, "nothing granted: a guarantee would not hold any more" in ran.err) == (1, True)
    assert "apart" in ran.err
    assert not written(mesh).exists()


def test_files_that_are_not_what_is_enforced_are_not_applied_with_it(plane: FakeControlPlane, mesh: Path) -> None:
    plane.answers["status"] = status(version="another")
    ran = grant(mesh, *GRANT, "--for", "2h")
    assert (ran.status, "the files differ from what is enforced" in ran.err) == (1, True)
    assert (sent(plane), written(mesh).exists()) == ([], False)


@pytest.mark.parametrize("outcome", ["rejected", "moved", "lockout", "invalid", "awaits"])
def test_what_is_not_enforced_is_not_written(plane: FakeControlPlane, mesh: Path, outcome: str) -> None:
    plane.answers["apply"] = applied(outcome)
    ran = grant(mesh, *GRANT, "--for", "2h")
    assert ran.status == 1
    assert len(sent(plane)) == 1
    assert sorted(path.name for path in (mesh / "policy").iterdir()) == ["rules.yaml"]


def test_what_was_only_sent_is_written_and_is_not_done(plane: FakeControlPlane, mesh: Path) -> None:
    plane.answers["apply"] = applied("sent")
    assert (grant(mesh, *GRANT, "--for", "2h").status, written(mesh).exists()) == (1, True)


def test_a_file_that_is_there_keeps_its_comments_and_its_mode(plane: FakeControlPlane, mesh: Path) -> None:
    before = "# ours\nallow:\n  - {name: mine, from: orders, to: storefront, http: [GET /x]}  # why\n"
    written(mesh).write_text(before)
    written(mesh).chmod(0o640)
    plane.answers["status"] = status(version=load(read_mesh_dir(mesh)).policy.version)  # type: ignore[union-attr]
    assert grant(mesh, *GRANT, "--for", "2h").status == 0
    assert written(mesh).read_text().startswith(before)
    assert written(mesh).stat().st_mode & 0o777 == 0o640


# --- the list


def of_mesh(mesh: Path) -> list[dict[str, Any]]:
    loaded = load(read_mesh_dir(mesh)).policy
    assert loaded is not None
    return [described(rule) for rule in grants(loaded)]


def with_grants(mesh: Path) -> None:
    now = int(time.time())
    ends = {"over": now - 7200, "soon": now + 3600, "holds": now + 5 * 86400}
    rules = [f"  - {{name: {n}, from: orders, to: ledger, until: {time_text(end)}}}" for n, end in ends.items()]
    later = f"from_time: {time_text(now + 7200)}, until: {time_text(now + 9000)}"
    rules += [f"  - {{name: later, from: orders, to: ledger, {later}}}", "  - {name: always, from: orders, to: ledger}"]
    written(mesh).write_text("\n".join(["allow:", *rules, ""]))


def test_the_list_says_how_each_stands(plane: FakeControlPlane, mesh: Path) -> None:
    with_grants(mesh)
    plane.answers["grants"] = {"grants": of_mesh(mesh)}
    ran = septum("grants", cwd=mesh)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()[1:]
    said = {"over": "ended 2 h ago", "soon": "60 min left", "later": "begins in 120 min", "holds": "5 d left"}
    assert [line.split()[0] for line in lines] == list(said)
    assert [text in line for line, text in zip(lines, said.values(), strict=True)] == [True] * 4, lines
    told = json.loads(septum("grants", "--json", cwd=mesh).out)
    assert told["of"] == "enforced"
    assert [(one["rule"], one["stands"]) for one in told["grants"]] == [
        ("over", "ended"), ("soon", "ends soon"), ("later", "to begin"), ("holds", "holds"),
    ]  # fmt: skip
    assert told["grants"][0]["remaining"] == 0


def test_without_a_control_plane_the_list_is_of_the_files(mesh: Path) -> None:
    assert septum("grants", cwd=mesh).out == "no rule ends\n"
    with_grants(mesh)
    ran = septum("grants", cwd=mesh)
    assert (ran.status, ran.err) == (0, "no control plane answers: these are the grants in the files\n")
    assert json.loads(septum("grants", "--json", cwd=mesh).out)["of"] == "files"


def test_status_shows_what_ends_soon_and_what_is_over(plane: FakeControlPlane, mesh: Path) -> None:
    with_grants(mesh)
    plane.answers["grants"] = {"grants": of_mesh(mesh)}
    shown = septum("status", cwd=mesh)
    assert "grant soon ends soon: orders -> ledger, 60 min left\n" in shown.out
    assert "the grant over has ended: `septum tidy` takes out what is over\n" in shown.out
    told = json.loads(septum("status", "--json", cwd=mesh).out)
    assert [one["stands"] for one in told["grants"]] == ["ended", "ends soon", "to begin", "holds"]
