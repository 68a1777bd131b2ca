"""`septum test`. What a real proxy has to say is in tests/envoy/test_trial.py."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import meshes
from command_line import Ran, septum, write_mesh
from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.store import Store

SHOP = Path(__file__).parents[3] / "examples" / "shop"
PASSING = """\
- {name: their order, from: storefront, to: orders, http: GET /orders/42, expect: allow, by: customers-orders}
- {from: [storefront, orders], to: payments, grpc: shop.payments.v1.Payments/Refund, expect: deny}
"""
FAILING = """\
- {from: storefront, to: orders, http: PUT /orders/42, expect: allow, because: it is theirs}
- {from: orders, to: ledger, expect: allow}
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    write_mesh(tmp_path, meshes.SHOP, rules=meshes.SHOP_RULES, orders_test=PASSING)
    return tmp_path


def run(mesh: Path, *arguments: str | Path) -> Ran:
    return septum("test", *arguments, cwd=mesh)


def with_failures(mesh: Path) -> Path:
    (mesh / "policy" / "more_test.yaml").write_text(FAILING)
    return mesh


def test_tests_that_pass(mesh: Path) -> None:
    ran = run(mesh)
    assert (ran.status, ran.err) == (0, "")
    first, empty, last = ran.out.splitlines()
    assert (first, empty) == ("policy/orders_test.yaml ..", "")
    assert last.startswith("2 tests (3 requests): 2 passed in ")


def test_a_failure_says_where_it_stands_and_what_came_nearest(mesh: Path) -> None:
    ran = run(with_failures(mesh))
    assert ran.status == 1
    assert ran.out.startswith(
        "policy/more_test.yaml F.\n"
        "policy/orders_test.yaml ..\n"
        "\n"
        "FAILED  policy/more_test.yaml:1  storefront -> orders PUT /orders/42\n"
        "  storefront -> orders  PUT /orders/42: expected allow, decided deny\n"
        "    nearest  customers-orders  policy/rules.yaml:2\n"
        "    reason   method: it allows GET, not PUT\n"
        "    expected because it is theirs\n"
        "\n"
        "4 tests (5 requests): 3 passed, 1 failed in "
    )


def test_files_are_named_as_seen_from_here(mesh: Path) -> None:
    ran = septum("-C", mesh, "test", cwd=mesh.parent)
    assert ran.out.startswith(f"{mesh.name}/policy/orders_test.yaml ..")


def test_each_test_is_shown_to_who_asks(mesh: Path) -> None:
    assert run(with_failures(mesh), "-v").out.splitlines()[1:4] == [
        "policy/more_test.yaml:2  orders -> ledger connect is allowed  PASSED",
        "policy/orders_test.yaml:1  their order  PASSED",
        "policy/orders_test.yaml:2  storefront,orders -> payments shop.payments.v1.Payments/Refund is denied  PASSED",
    ]


def test_pages_have_tests_too(mesh: Path) -> None:
    (mesh / "policy" / "README.md").write_text(f"# Rules\n\n```yaml septum-test\n{FAILING}```\n")
    ran = run(mesh)
    assert ran.status == 1
    assert "policy/README.md F." in ran.out
    assert "FAILED  policy/README.md:4  storefront" in ran.out


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (["policy/orders_test.yaml"], 2),
        (["policy"], 4),
        (["./policy/more_test.yaml"], 2),
        (["policy/more_test.yaml:1"], 1),
        (["policy/more_test.yaml:2"], 1),
        (["policy/more_test.yaml:99"], 1),
        (["policy/more*"], 2),
        (["their order"], 1),
        (["* -> ledger*"], 1),
        (["their order", "policy/more_test.yaml"], 3),
        (["-k", "LEDGER"], 1),
        (["-k", "more_test"], 2),
        (["policy/orders_test.yaml", "-k", "order"], 2),
    ],
    ids=str,
)
def test_tests_are_chosen_by_file_line_and_name(mesh: Path, chosen: list[str], count: int) -> None:
    ran = run(with_failures(mesh), "--json", *chosen)
    assert len(json.loads(ran.out)["tests"]) == count


def test_a_file_is_also_named_from_where_one_is(mesh: Path) -> None:
    ran = septum("test", "orders_test.yaml", "--json", cwd=mesh / "policy")
    assert len(json.loads(ran.out)["tests"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no test is called `nothing`, and no file with tests"),
        (["policy/orders_test.yaml", "policy/gone_test.yaml"], "no test is called `policy/gone_test.yaml`"),
        (["-k", "nothing"], "no test contains `nothing`"),
        (["policy/rules.yaml"], "no test is called `policy/rules.yaml`"),
        (["--since", "long"], "is no span of time"),
        (["--fail-under", "101"], "101"),
    ],
    ids=str,
)
def test_what_is_not_run_is_no_success(mesh: Path, arguments: list[str], said: str) -> None:
    ran = run(mesh, *arguments)
    assert ran.status == 2
    assert said in ran.err


def test_a_mesh_without_tests_says_where_they_would_be(tmp_path: Path) -> None:
    ran = run(write_mesh(tmp_path, meshes.SHOP, rules=meshes.SHOP_RULES))
    assert ran.status == 2
    assert "files that end in `_test.yaml`, and blocks `yaml septum-test` in *.md" in ran.err


def test_with_errors_nothing_is_tested_and_all_of_them_are_shown(mesh: Path) -> None:
    (mesh / "policy" / "rules.yaml").write_text("allow: [{from: nobody, to: ledger}]\n")
    (mesh / "policy" / "more_test.yaml").write_text("- {from: storefront, to: ordrs, http: GET /, expect: deny}\n")
    ran = run(mesh)
    assert ran.status == 1
    assert "unknown workload `nobody`" in ran.out
    assert "unknown workload `ordrs`" in ran.out
    assert "unknown rule `customers-orders`" in ran.out
    assert ran.err == "nothing was tested: 3 errors\n"
    found = json.loads(run(mesh, "--json").out)
    assert [one["code"] for one in found] == ["SEP203"] * 3


def test_check_finds_what_is_wrong_with_tests(mesh: Path) -> None:
    assert septum("check", cwd=mesh).status == 0
    (mesh / "policy" / "more_test.yaml").write_text("- {from: storefront, to: ordrs, http: GET /, expect: deny}\n")
    ran = septum("check", cwd=mesh)
    assert ran.status == 1
    assert "policy/more_test.yaml:1:26" in ran.out


def test_results_as_json(mesh: Path) -> None:
    ran = run(with_failures(mesh), "--json")
    assert ran.status == 1
    value = json.loads(ran.out)
    assert (value["passed"], value["failed"]) == (3, 1)
    failed = value["tests"][0]
    assert (failed["file"], failed["line"], failed["outcome"]) == ("policy/more_test.yaml", 1, "failed")
    assert failed["because"] == "it is theirs"
    assert failed["why"][1] == "  nearest  customers-orders  policy/rules.yaml:2"
    assert failed["requests"] == [
        {
            "from": "storefront",
            "to": "orders",
            "operation": "PUT /orders/42",
            "decision": "deny",
            "rule": None,
            "nearest": {"id": "customers-orders", "file": "policy/rules.yaml", "line": 2},
            "reason": "method: it allows GET, not PUT",
        }
    ]
    assert "coverage" not in value


def test_results_as_junit(mesh: Path) -> None:
    named = FAILING.replace("- {from: orders", '- {name: "<&\\u000b>", from: orders')
    (mesh / "policy" / "more_test.yaml").write_text(named.replace("\\u000b", ""))
    ran = run(mesh, "--junit", "out.xml")
    assert ran.status == 1
    root = ET.parse(mesh / "out.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "4", "1", "0")
    more, orders = root
    assert (more.get("name"), orders.get("name")) == ("policy/more_test.yaml", "policy/orders_test.yaml")
    failed, passed = more
    assert (passed.get("name"), len(passed)) == ("<&>", 0)
    [failure] = failed
    assert failure.tag == "failure"
    assert failure.get("message") == "storefront -> orders  PUT /orders/42: expected allow, decided deny"
    assert "nearest  customers-orders" in (failure.text or "")


def test_junit_that_cannot_be_written(mesh: Path) -> None:
    ran = run(mesh, "--junit", "none/out.xml")
    assert ran.status == 1
    assert "cannot write none/out.xml: No such file or directory" in ran.err


def test_coverage_shows_what_no_test_has_touched(mesh: Path) -> None:
    ran = run(mesh, "--coverage")
    assert ran.status == 0
    assert (
        "coverage: tests touch 1 of 5 operations (20 %), and 1 of 3 rules\n"
        "  rule                    operation                            tests\n"
        "  customers-orders        GET,HEAD /catalog/**                 none\n"
        "  customers-orders        POST /orders                         none\n"
        "  orders->ledger          connect                              none\n"
        "  segment:core->payments  shop.payments.v1.Payments/Authorize  none\n"
    ) in ran.out
    assert "  customers-orders        GET /orders/{id}                     1\n" in run(mesh, "--coverage", "-v").out
    value = json.loads(run(mesh, "--coverage", "--json").out)["coverage"]
    assert (value["percent"], value["touched"]) == (20.0, 1)
    assert value["untouched_rules"] == ["orders->ledger", "segment:core->payments"]
    assert value["operations"][0] == {
        "rule": {"id": "customers-orders", "file": "policy/rules.yaml", "line": 2},
        "operation": "GET /orders/{id}",
        "tests": 1,
    }


def test_coverage_shows_what_no_traffic_has_touched(mesh: Path) -> None:
    now = time.time()
    (mesh / ".septum" / "records").mkdir(parents=True)
    store = Store(mesh / ".septum" / "records" / "decisions.db")
    lines = [
        line(t=f"{now - 4000:.6f}", id="a"),
        line(t=f"{now - 3000:.6f}", id="a", type="DownstreamPeriodic"),
        line(t=f"{now - 3000:.6f}", id="b", path="/orders/43"),
        line(t=f"{now - 90000:.6f}", id="c", method="POST", path="/orders"),
        line(t=f"{now - 100:.6f}", id="d", method="CONNECT", target="ledger", ep="orders->ledger", path=None),
        line(t=f"{now - 100:.6f}", id="e", ep="a rule of long ago"),
        line(t=f"{now - 100:.6f}", id="f", path="/not/any/more"),
        denied(t=f"{now - 50:.6f}", id="g"),
    ]
    records = [recorder().record(read, "n1") for raw in lines if isinstance(read := read_line(raw), Line)]
    store.write("n1", records, Position(), {})
    store.close()
    ran = run(mesh, "--coverage", "--since", "2h", "-v")
    assert (ran.status, ran.err) == (0, "")
    assert (
        "  rule                    operation                            tests  traffic, 2 h\n"
        "  customers-orders        GET /orders/{id}                     1      2, last 50 min ago\n"
        "  customers-orders        GET,HEAD /catalog/**                 none   none\n"
        "  customers-orders        POST /orders                         none   none\n"
        "  orders->ledger          connect                              none   1, last 100 s ago\n"
    ) in ran.out
    longer = run(mesh, "--coverage").out
    assert "tests  traffic, 25 h\n" in longer, "the record begins no earlier"
    assert "POST /orders                         none   1, last 25 h ago\n" in longer
    assert "GET /orders/{id}" not in longer, "both have touched it"
    value = json.loads(run(mesh, "--coverage", "--since", "2h", "--json").out)["coverage"]
    assert value["traffic_seconds"] == 7200
    assert [one["traffic"] for one in value["operations"]] == [2, 0, 0, 1, 0]
    assert value["operations"][3]["last_used"] == pytest.approx(now - 100, abs=1)


def test_a_record_that_cannot_be_read_is_no_reason_to_fail(mesh: Path) -> None:
    (mesh / ".septum" / "records").mkdir(parents=True)
    (mesh / ".septum" / "records" / "decisions.db").write_bytes(b"this is no database" * 100)
    ran = run(mesh, "--coverage")
    assert ran.status == 0
    assert ran.err.startswith("traffic is not shown: ")
    assert "coverage: tests touch 1 of 5 operations" in ran.out


def test_too_little_coverage_fails(mesh: Path) -> None:
    assert run(mesh, "--fail-under", "20").status == 0
    ran = run(mesh, "--fail-under", "20.5")
    assert ran.status == 1
    assert ran.err == "coverage is 20.0 %, less than the 20.5 % asked for\n"


def test_the_example_shop_passes(tmp_path: Path) -> None:
    shutil.copytree(SHOP, tmp_path / "shop", ignore=shutil.ignore_patterns(".septum"))
    ran = septum("-C", "shop", "test", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert "shop/policy/README.md" in ran.out
