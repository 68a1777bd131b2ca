from __future__ import annotations

import json
from pathlib import Path

import pytest

import meshes
from command_line import septum, write_mesh
from septum.cli.diagnostics import as_json, as_text, count, from_json
from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.policy.codes import CODES

BROKEN = "allow:\n  - {from: stroefront, to: [ledger, ledger]}\n"


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", meshes.SHOP, orders=meshes.SHOP_RULES)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", meshes.SHOP, orders=BROKEN)


def test_without_findings_it_says_what_there_is(mesh: Path) -> None:
    version = meshes.policy(meshes.SHOP_RULES).version[:12]
    ran = septum("check", cwd=mesh)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"4 workloads, 3 rules, version {version}: no findings\n"


def test_findings_are_shown_with_their_place_and_fail(broken: Path) -> None:
    ran = septum("check", cwd=broken)
    assert ran.status == 1
    assert (
        ran.out
        == """\
error[SEP203]: unknown workload `stroefront`
 --> policy/orders.yaml:2:12
  |
2 |   - {from: stroefront, to: [ledger, ledger]}
  |            ^^^^^^^^^^ no workload has this name
  = help: did you mean `storefront`? it is defined at septum.yaml:9

warning[SEP304]: `ledger` is written twice
 --> policy/orders.yaml:2:37
  |
2 |   - {from: stroefront, to: [ledger, ledger]}
  |                                     ^^^^^^

1 error, 1 warning
"""
    )


GUARANTEES = """\
guarantees:
  - name: the edge never reaches stores
    never: {from: segment:edge, to: segment:data, through: any}
"""
OVERRIDE = "    override: {name: SHOP-42, because: a move, until: %s}\n"


def test_a_broken_guarantee_fails_with_the_chain(tmp_path: Path) -> None:
    mesh = write_mesh(tmp_path, meshes.SHOP, orders=meshes.SHOP_RULES + GUARANTEES)
    ran = septum("check", cwd=mesh)
    assert ran.status == 1
    assert (
        "13 |   - name: the edge never reaches stores\n"
        "   |     ^^^^ this is allowed:\n"
        "   |          storefront -> orders  GET /orders/1  by customers-orders at policy/orders.yaml:2\n"
        "   |          orders -> ledger  connect  by orders->ledger at policy/orders.yaml:10\n"
    ) in ran.out
    assert ran.out.endswith(": 1 error\n")
    (finding,) = json.loads(septum("check", "--format", "json", cwd=mesh).out)
    assert (finding["code"], finding["severity"], finding["span"]["line"]) == ("SEP501", "error", 13)
    (run,) = json.loads(septum("check", "--format", "sarif", cwd=mesh).out)["runs"]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("SEP501", "error")
    assert "\norders -> ledger  connect  by orders->ledger" in result["message"]["text"]


@pytest.mark.parametrize(("until", "status"), [("2099-01-31T00:00:00Z", 0), ("2020-01-31T00:00:00Z", 1)])
def test_an_override_lets_a_broken_guarantee_pass_until_it_ends(tmp_path: Path, until: str, status: int) -> None:
    mesh = write_mesh(tmp_path, meshes.SHOP, orders=meshes.SHOP_RULES + GUARANTEES + OVERRIDE % until)
    ran = septum("check", cwd=mesh)
    assert ran.status == status
    assert ("warning[SEP502]" in ran.out, "error[SEP501]" in ran.out) == (status == 0, status == 1)
    assert until in ran.out


def test_the_summary_counts_guarantees(tmp_path: Path) -> None:
    kept = GUARANTEES.replace(", through: any", "")
    mesh = write_mesh(tmp_path, meshes.SHOP, orders=meshes.SHOP_RULES + kept)
    out = septum("check", cwd=mesh).out
    assert out.startswith("4 workloads, 3 rules, 1 guarantee, version ")
    assert out.endswith(": no findings\n")


def test_warnings_alone_do_not_fail(tmp_path: Path) -> None:
    mesh = write_mesh(tmp_path, meshes.SHOP, a="allow:\n  - {from: orders, to: [ledger, ledger]}\n")
    ran = septum("check", cwd=mesh)
    assert ran.status == 0
    assert ran.out.endswith(": 1 warning\n")


@pytest.mark.parametrize("arguments", [("check", "shop"), ("-C", "shop", "check")])
def test_another_directory_is_named_so_that_a_terminal_opens_its_files(
    broken: Path, arguments: tuple[str, ...]
) -> None:
    ran = septum(*arguments, cwd=broken.parent)
    assert ran.status == 1
    assert " --> shop/policy/orders.yaml:2:12\n" in ran.out


def test_the_mesh_is_looked_for_from_here_up(mesh: Path) -> None:
    ran = septum("check", cwd=mesh / "policy")
    assert ran.status == 0


def test_where_no_mesh_is_the_finding_says_so(tmp_path: Path) -> None:
    ran = septum("check", tmp_path, cwd=tmp_path)
    assert ran.status == 1
    assert (
        ran.out
        == """\
error[SEP208]: there is no septum.yaml here
 --> septum.yaml
  = help: `septum init` writes one, and -C names another directory

1 error
"""
    )


def test_json_is_a_list_of_findings(broken: Path) -> None:
    ran = septum("check", "--format", "json", cwd=broken)
    assert ran.status == 1
    first, second = json.loads(ran.out)
    assert first == {
        "code": "SEP203",
        "message": "unknown workload `stroefront`",
        "span": {"file": "policy/orders.yaml", "line": 2, "column": 12, "end_line": 2, "end_column": 22},
        "label": "no workload has this name",
        "help": "did you mean `storefront`? it is defined at septum.yaml:9",
        "severity": "error",
    }
    assert second["severity"] == "warning"


def test_json_without_findings_is_an_empty_list(mesh: Path) -> None:
    assert septum("check", "--format", "json", cwd=mesh).out == "[]\n"


def test_json_is_read_back() -> None:
    diagnostic = Diagnostic("SEP203", "m", Span("f", 1, 2, 3, 4), "l", "h", Severity.WARNING)
    assert [from_json(value) for value in json.loads(as_json([diagnostic]))] == [diagnostic]


def test_sarif(broken: Path) -> None:
    ran = septum("check", "shop", "--format", "sarif", cwd=broken.parent)
    assert ran.status == 1
    log = json.loads(ran.out)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "septum"
    assert run["columnKind"] == "unicodeCodePoints"
    assert [rule["id"] for rule in driver["rules"]] == ["SEP203", "SEP304"]
    for rule in driver["rules"]:
        assert rule["shortDescription"] == {"text": CODES[rule["id"]].title}
        assert rule["fullDescription"] == {"text": CODES[rule["id"]].text}
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning")
        assert result["message"]["text"]
    assert run["results"][0]["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "shop/policy/orders.yaml"},
                "region": {"startLine": 2, "startColumn": 12, "endLine": 2, "endColumn": 22},
            }
        }
    ]


def test_sarif_of_a_file_that_is_not_there_has_no_region_and_a_valid_uri(tmp_path: Path) -> None:
    place = tmp_path / "my shop"
    place.mkdir()
    [result] = json.loads(septum("check", "my shop", "--format", "sarif", cwd=tmp_path).out)["runs"][0]["results"]
    location = result["locations"][0]["physicalLocation"]
    assert location == {"artifactLocation": {"uri": "my%20shop/septum.yaml"}}


def test_a_code_is_explained(tmp_path: Path) -> None:
    ran = septum("check", "--explain", "sep203", cwd=tmp_path)
    assert ran.status == 0
    assert ran.out.startswith("SEP203: unknown name\n\nA rule or a setting names")


def test_a_code_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    ran = septum("check", "--explain", "SEP999", cwd=tmp_path)
    assert ran.status == 2
    assert "there is no code SEP999; they run from SEP101 to " + max(CODES) in ran.err


@pytest.mark.parametrize("arguments", [("check", "nowhere"), ("check", "--format", "xml"), ("check", "--nothing")])
def test_wrong_usage_is_two(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert septum(*arguments, cwd=tmp_path).status == 2


# --- how a finding is drawn


def drawn(text: str, span: Span, label: str = "here") -> str:
    return as_text([Diagnostic("SEP203", "m", span, label)], {"f": text.encode()}, colour=False)


def test_marks_stand_below_wide_characters() -> None:
    assert (
        drawn("a: 中文 x", Span("f", 1, 7, 1, 8))
        == """\
error[SEP203]: m
 --> f:1:7
  |
1 | a: 中文 x
  |         ^ here"""
    )


def test_marks_of_a_span_over_lines_end_with_the_line() -> None:
    assert drawn("ab\ncd", Span("f", 1, 2, 2, 2)).endswith("1 | ab\n  |  ^ here")


def test_the_number_of_a_line_moves_the_margin() -> None:
    assert (
        drawn("\n" * 11 + "abc", Span("f", 12, 2, 12, 3))
        == """\
error[SEP203]: m
  --> f:12:2
   |
12 | abc
   |  ^ here"""
    )


def test_a_place_after_the_last_character_is_marked() -> None:
    assert drawn("ab", Span("f", 1, 3, 1, 4)).endswith("1 | ab\n  |   ^ here")


def test_a_long_line_is_shown_around_its_mark() -> None:
    shown = drawn("x" * 500 + "!" + "y" * 500, Span("f", 1, 501, 1, 502)).splitlines()
    assert shown[3] == "1 | " + "x" * 80 + "!" + "y" * 79
    assert shown[4] == "  | " + " " * 80 + "^ here"


def test_nothing_that_a_terminal_acts_on_is_printed() -> None:
    finding = Diagnostic("SEP203", "a\x1b[2Jb", Span("f\x07", 1, 1, 1, 2), "\u202ec", "d\r")
    assert (
        as_text([finding], {"f\x07": b"\x1b]0;x\x07\ty"}, colour=False)
        == """\
error[SEP203]: a\ufffd[2Jb
 --> f\ufffd:1:1
  |
1 | \ufffd]0;x\ufffd\ufffdy
  | ^ \ufffdc
  = help: d\ufffd"""
    )


def test_colour_changes_nothing_but_colour() -> None:
    finding = Diagnostic("SEP203", "m", Span("f", 1, 1, 1, 2), "l", "h")
    plain, coloured = (as_text([finding], {"f": b"x"}, colour=colour) for colour in (False, True))
    assert "\x1b[" in coloured
    assert "\x1b" not in plain
    import click

    assert click.unstyle(coloured) == plain


@pytest.mark.parametrize(
    ("errors", "warnings", "expected"),
    [(0, 0, "no findings"), (1, 0, "1 error"), (3, 1, "3 errors, 1 warning"), (0, 2, "2 warnings")],
)
def test_findings_are_counted(errors: int, warnings: int, expected: str) -> None:
    def some(number: int, severity: Severity) -> list[Diagnostic]:
        return [Diagnostic("SEP203", "m", Span("f", 1, 1, 1, 2), severity=severity)] * number

    assert count(some(errors, Severity.ERROR) + some(warnings, Severity.WARNING)) == expected
