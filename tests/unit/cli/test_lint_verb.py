from __future__ import annotations

import json
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

import meshes
from command_line import septum, write_mesh
from fakes.decision_log import line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import FILE
from septum.audit.store import Store

RULES = """\
allow:
  - name: everything
    from: storefront
    to: orders
    http: "* /**"
  # the same once more
  - {name: orders, from: storefront, to: orders, http: GET /orders}

  - {name: book, from: orders, to: ledger}
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", meshes.SHOP, orders=RULES)


def rules(mesh: Path) -> str:
    return (mesh / "policy" / "orders.yaml").read_text(encoding="utf-8")


def test_findings_are_shown_and_fail(mesh: Path) -> None:
    ran = septum("lint", cwd=mesh)
    assert ran.status == 1
    assert ran.err == "`septum lint --fix` mends 1 of them\n"
    assert (
        ran.out
        == """\
warning[SEP604]: `* /**` is everything that orders has
 --> policy/orders.yaml:5:11
  |
5 |     http: "* /**"
  |           ^^^^^^^
  = help: name the operations that are needed

warning[SEP601]: everything that `orders` allows, `everything` allows too
 --> policy/orders.yaml:7:6
  |
7 |   - {name: orders, from: storefront, to: orders, http: GET /orders}
  |      ^^^^ at policy/orders.yaml:2
  = help: remove it

2 warnings
"""
    )


def test_check_stays_as_it_is(mesh: Path) -> None:
    assert septum("check", cwd=mesh).out.endswith(": no findings\n")


def test_fix_mends_and_says_what_is_left(mesh: Path) -> None:
    ran = septum("lint", "shop", "--fix", cwd=mesh.parent)
    assert ran.status == 1
    assert ran.err == (
        "mended: shop/policy/orders.yaml:7: SEP601: everything that `orders` allows, `everything` allows too\n"
    )
    assert rules(mesh) == RULES[: RULES.index("  # the same")] + RULES[RULES.index("\n  - {name: book") :]
    again = septum("lint", "--fix", "--ignore", "sep604", cwd=mesh)
    assert (again.status, again.out, again.err) == (0, "no findings\n", "")


def test_the_patch_is_what_fix_does(mesh: Path) -> None:
    subprocess.run(["git", "init", "-q", mesh], check=True)
    ran = septum("lint", "--diff", cwd=mesh)
    assert ran.status == 1
    assert rules(mesh) == RULES
    subprocess.run(["git", "apply", "-"], cwd=mesh, input=ran.out.encode(), check=True)
    patched = rules(mesh)
    (mesh / "policy" / "orders.yaml").write_text(RULES, encoding="utf-8")
    septum("lint", "--fix", cwd=mesh)
    assert rules(mesh) == patched


def test_what_cannot_be_edited_is_said_and_the_rest_is_mended(mesh: Path) -> None:
    tangled = (
        "allow:\n  - {name: t, from: orders, to: orders, http: [GET /a/**, GET /a/b, # of both\n      GET /a/c/**]}\n"
    )
    (mesh / "policy" / "tangled.yaml").write_text(tangled, encoding="utf-8")
    ran = septum("lint", "--fix", "--select", "SEP601,SEP603", cwd=mesh)
    assert ran.status == 1
    assert "not mended: policy/tangled.yaml:2: comments stand between the items" in ran.err
    assert "mended: policy/orders.yaml:7: SEP601" in ran.err
    assert "SEP603" in ran.out


def test_codes_are_chosen(mesh: Path) -> None:
    assert septum("lint", "--select", "SEP605", cwd=mesh).out == "no findings\n"
    assert "SEP601" not in septum("lint", "--ignore", "SEP601", cwd=mesh).out
    wrong = septum("lint", "--select", "SEP203", cwd=mesh)
    assert wrong.status == 2
    assert "lint has no code SEP203; its codes run from SEP601 to SEP610" in wrong.err


def test_what_was_used_of_too_wide_a_rule_is_said(mesh: Path) -> None:
    records = mesh / ".septum" / "records"
    records.mkdir(parents=True)
    read = read_line(line())
    assert isinstance(read, Line)
    one = recorder().record(read, "n1")._replace(rule="everything", time=time.time() - 3 * 86400)
    with closing(Store(records / FILE)) as store:
        store.write("n1", [one._replace(path=f"/orders/{number}") for number in range(3)], Position(), {})
    shown = septum("lint", "--select", "SEP604", cwd=mesh).out
    assert "= help: in the 3 d on record, this was used: GET /orders/{id} (3)\n" in shown


def test_json(mesh: Path) -> None:
    wide, shadowed = json.loads(septum("lint", "--json", cwd=mesh).out)
    assert (wide["code"], wide["rule"], wide["fix"]) == ("SEP604", "everything", False)
    assert (shadowed["code"], shadowed["severity"], shadowed["fix"]) == ("SEP601", "warning", True)


def test_sarif(mesh: Path) -> None:
    [run] = json.loads(septum("lint", "shop", "--format", "sarif", cwd=mesh.parent).out)["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["SEP604", "SEP601"]
    assert {result["level"] for result in run["results"]} == {"warning"}
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "shop/policy/orders.yaml"


def test_a_policy_with_errors_is_not_looked_at_further(mesh: Path) -> None:
    (mesh / "policy" / "orders.yaml").write_text(RULES.replace("to: ledger", "to: leger"), encoding="utf-8")
    ran = septum("lint", "--fix", cwd=mesh)
    assert ran.status == 1
    assert "error[SEP203]" in ran.out
    assert "SEP604" not in ran.out


def test_the_shop_is_clean() -> None:
    root = Path(__file__).parents[3]
    ran = septum("lint", cwd=root / "examples" / "shop")
    assert (ran.status, ran.out) == (0, "no findings\n")
