"""`septum shadow`: what it asks of the control plane, and what it says."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, applied, arrival, status
from fakes.decision_log import denied, line, recorder
from meshes import SHOP, SHOP_RULES
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import FILE
from septum.audit.store import Store

CANDIDATE = {
    "version": "c" * 64,
    "targets": ["orders"],
    "author": "ada",
    "since": 1.0,
    "base": "a" * 64,
    "moved": True,
    "rules": 3,
    "files": ["policy/rules.yaml", "septum.yaml"],
    "left_out": ["`ledger` would be observed: a candidate carries nothing out, whatever its mode"],
}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    answers = {
        "shadow.apply": applied(left_out=CANDIDATE["left_out"]),
        "shadow.show": {"candidate": CANDIDATE},
        "shadow.stop": applied(version="c" * 64),
        "shadow.promote": applied(),
        "status": status(candidate=CANDIDATE),
    }
    with FakeControlPlane(tmp_path, answers) as plane:
        yield plane


def shadow(mesh: Path, *arguments: str) -> Ran:
    return septum("shadow", *arguments, cwd=mesh)


def store(mesh: Path, *lines: bytes) -> None:
    (mesh / ".septum" / "records").mkdir(parents=True, exist_ok=True)
    found, records = Store(mesh / ".septum" / "records" / FILE), []
    for raw in lines:
        read = read_line(raw)
        assert isinstance(read, Line)
        records.append(recorder().record(read, "n1"))
    found.write("n1", records, Position(), {})
    found.close()


def test_the_files_of_the_mesh_are_asked_about_all_targets(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = shadow(tmp_path, "apply")
    assert (ran.status, ran.out.splitlines()) == (
        0,
        [
            "candidate bbbbbbbbbbbb is asked about all targets, by every node",
            "of its mesh:",
            "  `ledger` would be observed: a candidate carries nothing out, whatever its mode",
        ],
    )
    (request,) = plane.asked
    assert request["files"] == {"septum.yaml": SHOP, "policy/rules.yaml": SHOP_RULES}
    assert (request["targets"], request["unreadable"]) == (None, {})
    assert request["author"]


def test_another_directory_and_named_targets(plane: FakeControlPlane, tmp_path: Path) -> None:
    other = write_mesh(tmp_path / "other", SHOP, rules="allow: []\n")
    ran = shadow(tmp_path, "apply", "--target", "orders", "--target", "ledger", str(other))
    assert ran.out.startswith("candidate bbbbbbbbbbbb is asked about orders, ledger, by every node\n")
    assert plane.asked[0]["files"]["policy/rules.yaml"] == "allow: []\n"
    assert plane.asked[0]["targets"] == ["orders", "ledger"]


def test_a_git_revision(plane: FakeControlPlane, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@test", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "ca.pem").write_bytes(b"\xc3\xa9\n")
    (tmp_path / "policy" / "orders_test.yaml").write_text("- {}\n")
    (tmp_path / "policy" / "link.yaml").symlink_to("rules.yaml")
    (tmp_path / "README.yaml").write_text("no policy\n")
    (tmp_path / ".gitignore").write_text(".septum\n")
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "policy" / "rules.yaml").write_text("allow: []\n")
    assert shadow(tmp_path, "apply", "main").status == 0
    assert plane.asked[0]["files"] == {
        "septum.yaml": SHOP,
        "policy/rules.yaml": SHOP_RULES,
        "files/ca.pem": "é\n",
    }
    assert plane.asked[0]["unreadable"] == {"policy/link.yaml": "it is a link, which is not followed in a revision"}
    for nothing in ("nowhere", "--help-me", "main:septum.yaml"):
        ran = shadow(tmp_path, "apply", "--", nothing)
        assert ran.status == 2
        assert "is neither a directory with a septum.yaml nor a git revision" in ran.err


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        ("sent", 1, "candidate bbbbbbbbbbbb was sent; some node does not ask it yet about all targets"),
        ("rejected", 1, "candidate bbbbbbbbbbbb was refused; what was asked before still is"),
        ("invalid", 1, "nothing changed: "),
        ("unchanged", 0, "candidate bbbbbbbbbbbb is asked about all targets, by every node"),
    ],
)
def test_what_came_of_it(plane: FakeControlPlane, tmp_path: Path, outcome: str, code: int, said: str) -> None:
    nodes = (arrival(), arrival("db", "missing", "not connected"))
    plane.answers["shadow.apply"] = applied(outcome, *nodes, left_out=[])
    ran = shadow(tmp_path, "apply")
    assert (ran.status, ran.out.splitlines()[0].startswith(said)) == (code, True)
    assert ran.out.splitlines()[-1] == "  db: missing: not connected"
    assert json.loads(shadow(tmp_path, "apply", "--json").out)["outcome"] == outcome


def test_it_is_shown(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = shadow(tmp_path, "show")
    first, *rest = ran.out.splitlines()
    assert ran.status == 0
    assert first.startswith("candidate cccccccccccc is asked about orders, proposed by ada ")
    assert first.endswith(" ago; something else is enforced by now than then")
    assert rest == ["3 rules in policy/rules.yaml, septum.yaml", "of its mesh:", f"  {CANDIDATE['left_out'][0]}"]  # type: ignore[index]
    assert json.loads(shadow(tmp_path, "show", "--json").out) == CANDIDATE
    assert first in septum("status", cwd=tmp_path).out
    plane.answers["shadow.show"] = {"candidate": None}
    ran = shadow(tmp_path, "show")
    assert (ran.status, ran.out) == (1, "no candidate is asked: septum shadow apply\n")


def test_stopping_and_promoting(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert shadow(tmp_path, "stop").out == "the candidate cccccccccccc is not asked any more\n"
    ran = shadow(tmp_path, "promote", "-m", "why", "--confirm", "5m", "--allow-lockout", "--supersede", "--force")
    assert (ran.status, ran.out.startswith("version bbbbbbbbbbbb is held by 1 of 1 nodes")) == (0, True)
    terms = {"message": "why", "confirm": 300.0, "allow_lockout": True, "supersede": True, "force": True}
    assert plane.asked[-1].items() >= terms.items()
    plane.answers["shadow.promote"] = {"error": "no candidate is asked: `septum shadow apply`"}
    ran = shadow(tmp_path, "promote")
    assert (ran.status, "no candidate is asked" in ran.err) == (1, True)


def _calls(now: float) -> list[bytes]:
    asked: dict[str, Any] = {"cv": "c" * 64}
    return [
        line(t=str(now - 7300), sp="customers-orders", **asked),
        line(t=str(now - 1000), path="/orders/1", sp="septum.deny", **asked),
        line(t=str(now - 1000), path="/orders/2", sp="septum.deny", **asked),
        denied(t=str(now - 260), method="GET", path="/\x1b[2Jbasket", sp="wide", **asked),
        line(t=str(now - 260), mode="observe", ep="septum.observe", path="/x", sp="wide", **asked),
        line(t=str(now - 1), sp="septum.deny", cv="d" * 64),
    ]


def test_the_report(plane: FakeControlPlane, tmp_path: Path) -> None:
    store(tmp_path, *_calls(time.time()))
    ran = shadow(tmp_path, "report")
    assert (ran.status, ran.out.splitlines()) == (
        1,
        [
            "candidate cccccccccccc was asked about 5 calls, the first 2 h ago, the last 4 min ago: "
            "it agrees with the policy on 1, and not on 4",
            "",
            "newly denied: 2 calls",
            "  2  storefront → orders  GET /orders/{id}  enforced: allow by customers-orders  candidate: deny  "
            "last 17 min ago",
            "",
            "newly allowed: 2 calls",
            "  1  storefront → orders  GET /\\x1b[2Jbasket  enforced: deny                        "
            "candidate: allow by wide  last 4 min ago",
            "  1  storefront → orders  GET /x              enforced: deny (observed: it passed)  "
            "candidate: allow by wide  last 4 min ago",
        ],
    )


def test_the_report_for_programs(plane: FakeControlPlane, tmp_path: Path) -> None:
    now = time.time()
    store(tmp_path, *_calls(now))
    ran = shadow(tmp_path, "report", "--json", "--since", "5m")
    found = json.loads(ran.out)
    assert (ran.status, found["version"], found["agreed"], found["apart"]) == (1, "c" * 64, 0, 2)
    assert found["newly_denied"] == []
    assert found["newly_allowed"][0] == {
        "caller": "storefront",
        "target": "orders",
        "operation": "GET /\x1b[2Jbasket",
        "mode": "enforce",
        "policy": "deny",
        "rule": "",
        "candidate": "allow",
        "candidate_rule": "wide",
        "calls": 1,
        "last": pytest.approx(now - 260),
    }
    assert 260 <= found["looks_back"] < 320
    other = json.loads(shadow(tmp_path, "report", "--json", "--version", "d" * 64).out)
    assert (other["apart"], other["agreed"]) == (1, 0)


def test_the_report_without_a_control_plane_is_about_the_last_candidate(tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    ran = shadow(tmp_path, "report")
    assert (ran.status, ran.out) == (0, "No candidate was asked about any call on record: septum shadow apply\n")
    store(tmp_path, line(sp="customers-orders", cv="d" * 64))
    ran = shadow(tmp_path, "report")
    assert ran.status == 0
    assert ran.out.startswith("candidate dddddddddddd was asked about 1 call, ")
    assert (
        shadow(tmp_path, "report", "--since", "1m").out
        == "candidate dddddddddddd was asked about no call on record yet\n"
    )


def test_the_record_says_what_the_candidate_would_do(plane: FakeControlPlane, tmp_path: Path) -> None:
    store(tmp_path, *_calls(time.time()))
    shown = septum("audit", "--candidate", "differs", cwd=tmp_path).out.splitlines()
    assert len(shown) == 5
    assert shown[0].endswith("customers-orders [the candidate would deny it]")
    assert shown[2].endswith("[the candidate would allow it by wide]")
    assert septum("audit", "--candidate", "deny", "--count", cwd=tmp_path).out == "3\n"
    agreeing = septum("audit", "--candidate", "allow", "-n", "1", cwd=tmp_path).out
    assert "the candidate would" in agreeing
