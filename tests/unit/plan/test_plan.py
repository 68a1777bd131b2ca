from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import plans
import pytest

from septum.cli import diagnostics
from septum.cli.plan_markdown import code, plan_markdown, prose
from septum.cli.plan_text import plan_lines
from septum.model.diagnostic import Severity
from septum.plan.findings import plan_findings
from septum.plan.plan import Plan, Risk
from septum.plan.replayed import Replay
from septum.plan.sealed import FORMAT, PlanError, digest_of, from_json, to_json
from septum.plan.stages import Enforce, Expect, Hold, Keep, stage_text, stages
from septum.policy.load import load
from septum.policy.quarantine import quarantined

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plans.plan()


# --- what is shown


def forms(plan: Plan) -> dict[str, str]:
    return {
        "plan.txt": "\n".join(plan_lines(plan, plans.NOW, steps=True)) + "\n",
        "plan.md": plan_markdown(plan, plans.NOW),
        "plan.json": to_json(plan),
        "plan.sarif": results(diagnostics.as_sarif(plan_findings(plan), before="shop/")),
    }


def results(sarif: str) -> str:
    """What a log finds; what its codes mean is in docs/codes.md."""
    (run,) = json.loads(sarif)["runs"]
    return json.dumps(run["results"], indent=1) + "\n"


@pytest.mark.parametrize("name", ["plan.txt", "plan.md", "plan.json", "plan.sarif"])
def test_a_plan_is_shown_as_it_was_reviewed(plan: Plan, name: str) -> None:
    """`REGOLD=1 make test ARGS=tests/unit/plan` writes it anew."""
    shown = forms(plan)[name]
    if os.environ.get("REGOLD"):
        (GOLDEN / name).write_text(shown, encoding="utf-8")
    assert shown == (GOLDEN / name).read_text(encoding="utf-8"), "look at the difference; REGOLD=1 writes it anew"


def test_lists_are_cut_unless_all_is_asked_for(plan: Plan) -> None:
    many = msgspec.structs.replace(plan, allowed=plan.allowed * 30)
    assert any(line.endswith("more: --all shows them") for line in plan_lines(many, plans.NOW))
    assert not any("--all" in line for line in plan_lines(many, plans.NOW, None))


def test_nothing_that_was_written_by_others_is_markup_in_markdown() -> None:
    hostile = "x](http://evil.test) <img src=x> **b** `c` | @all #1 ~~s~~ $e$ \n\n# h\u202e"
    shown = prose(hostile)
    assert not set("<>[]*`|@~$\n\u202e") & set(shown)
    assert "http://" not in shown
    assert code("a|b`c\n<b>") == "`` a|b`c <b> ``"


def test_text_shows_nothing_that_acts_on_a_terminal(plan: Plan) -> None:
    group = msgspec.structs.replace(plan.replay.groups[0], operation="GET /\x1b[31m") if plan.replay else None
    assert group is not None
    acting = msgspec.structs.replace(plan, replay=Replay(0.0, 1.0, 1, (group,)))
    assert not any("\x1b" in line for line in plan_lines(acting, plans.NOW))


def test_findings_have_a_place_each_and_only_broken_guarantees_are_errors(plan: Plan) -> None:
    found = plan_findings(plan)
    assert {d.code for d in found if d.severity is Severity.ERROR} == set()
    assert {d.span.file for d in found} <= set(plan.files)
    assert [d.code for d in found if "orders-" not in d.code].count("SEP701") == len(plan.allowed)


# --- as a file


def test_a_plan_is_read_back_as_it_was(plan: Plan) -> None:
    assert from_json(to_json(plan)) == plan
    assert digest_of(from_json(to_json(plan))) == digest_of(plan)


def test_what_a_plan_holds_is_the_policy_that_it_names(plan: Plan) -> None:
    loaded = load({path: text.encode() for path, text in plan.files.items()}).policy
    assert loaded is not None
    assert quarantined(loaded, plan.quarantined).version == plan.wanted.version


def altered(plan: Plan) -> list[dict[str, Any]]:
    """The plan with something else in each of its parts."""
    found = []
    for key, value in json.loads(to_json(plan)).items():
        if key == "format":
            continue
        other = {**value, "x": "y"} if isinstance(value, dict) else [] if value else "other"
        found.append({**json.loads(to_json(plan)), key: other})
    return found


def test_a_plan_that_was_altered_is_refused_in_each_of_its_parts(plan: Plan) -> None:
    for value in (*altered(plan), {**json.loads(to_json(plan)), "also": 1}):
        with pytest.raises(PlanError, match="altered"):
            from_json(json.dumps(value))


def test_one_letter_of_a_file_counts(plan: Plan) -> None:
    with pytest.raises(PlanError, match="altered"):
        from_json(to_json(plan).replace("from: storefront", "from: payments", 1))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "no plan"),
        ("{}", "no plan"),
        (json.dumps({"format": FORMAT + 1}), f"has format {FORMAT + 1}, and this Septum reads {FORMAT}"),
        (json.dumps({"format": FORMAT}), "altered"),
    ],
)
def test_what_is_no_plan_of_this_format_is_refused(text: str, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        from_json(text)


def test_a_file_that_is_no_text_is_left_out_since_nothing_names_it() -> None:
    of = plans.files(plans.MESH, plans.RULES) | {"files/picture": b"\xff\xfe", "policy/README.md": b"x"}
    before = plans.policy(of)
    made = plans.plan_of(
        plans.Planned("a", before, of), plans.Planned("b", before, of), plans.diff(before, before, 0), 0
    )
    assert sorted(made.files) == ["policy/orders.yaml", "septum.yaml"]


# --- as stages


def test_a_plan_is_carried_out_in_stages(plan: Plan) -> None:
    version = plan.wanted.version
    assert stages(plan) == (
        Expect(plan.base.version),
        Keep(2, ()),
        Enforce(version, plan.files, ("payments",), "refunds", "0123456789abcdef-dirty"),
        Hold(version, ("",)),
    )
    assert [stage_text(stage) for stage in stages(plan)] == [
        f"expect that {plan.base.version[:12]} is still what is enforced",
        "keep 2 guarantees",
        f"store 2 files as version {version[:12]}, and send it",
        "wait until it is held",
    ]


def test_where_nothing_changes_there_is_nothing_to_do() -> None:
    same = plans.plan(plans.MESH, plans.RULES)
    assert same.changes_nothing
    assert stages(same) == ()
    assert "nothing changes: both are the same version" in plan_lines(same, plans.NOW)


def test_a_broken_guarantee_is_refused_and_says_so() -> None:
    opened = plans.RULES.replace("allow:\n", "allow:\n  - {name: oops, from: storefront, to: ledger}\n")
    broken = plans.plan(plans.MESH, opened)
    assert [(one.name, one.held) for one in broken.broken] == [("the edge never reaches stores", True)]
    assert stage_text(stages(broken)[1]) == "refused: the edge never reaches stores would be broken"
    assert any(d.severity is Severity.ERROR for d in plan_findings(broken))
    said = "  the guarantee `the edge never reaches stores` is broken: storefront may call ledger"
    assert said in plan_lines(broken, plans.NOW)


def test_a_risk_that_cannot_be_told_is_said_first(plan: Plan) -> None:
    risky = msgspec.structs.replace(
        plan, risk=Risk("cannot tell: the keys changed", True, False, ("the keys changed",))
    )
    assert plan_lines(risky, plans.NOW)[-1] == "risk  cannot tell: the keys changed"
    assert "### Septum: cannot tell: the keys changed" in plan_markdown(risky, plans.NOW)


def test_a_span_keeps_its_place(plan: Plan) -> None:
    row = next(row for row in plan.allowed if row.rule == "support")
    assert row.place is not None
    assert replace(row.place).place == "policy/orders.yaml:7"
