"""The benchmarks still run. Their figures are for `make bench` to judge."""

from bench import decision, diff, fleet, nodes, replay, rotation, svids, table, tokens
from bench.report import Effort, Goal, Report, Row, percentile


def test_a_decision_is_measured_beside_no_policy_and_linear_rules():
    report = decision.measure(Effort(quick=True))

    assert [row.what for row in report.rows] == ["no policy", "10 rules", "linear `rules`, 10"]
    assert all(float(row.cells[0]) > 0 for row in report.rows)
    assert report.rows[0].cells[2:] == ("1.00", "1.00")
    assert [row.what for row in report.rows if row.goal] == ["10 rules"]


def test_a_token_that_is_remembered_is_measured_beside_one_that_is_verified_each_time():
    report = tokens.measure(Effort(quick=True))

    assert [row.what.partition(", ")[2] for row in report.rows] == [
        "no rule asks for it", "remembered", "verified each time",
    ]  # fmt: skip
    assert float(report.rows[2].cells[0]) > float(report.rows[0].cells[0]), "a signature is not checked for nothing"


def test_a_call_between_nodes_is_measured_beside_one_hop_and_none():
    report = nodes.measure(Effort(quick=True))

    assert [row.cells[1] for row in report.rows[:2]] == ["", "1.00"]
    assert float(report.rows[2].cells[1]) > 1


def test_certificates_are_counted():
    report = svids.measure(Effort(quick=True))

    assert len(report.rows) == 3
    assert all(row.cells[0].endswith("/s") for row in report.rows)


def test_no_request_fails_while_the_authority_rotates():
    report = rotation.measure(Effort(quick=True))

    assert [row.what for row in report.rows[:-1]] == [
        f"a new {what}: {step}" for what in ("intermediate", "root") for step in rotation.STEPS
    ]
    assert report.rows[-1].cells[1] == "0 failed"


def test_a_fleet_of_simulated_and_real_nodes_holds_what_is_changed():
    report = fleet.measure(Effort(quick=True))

    held = [row.what for row in report.rows if row.what.endswith("held") and "nodes" in row.what]
    assert held == ["8 nodes, one rule, 2 touched: held", "8 nodes, quarantine, 8 touched: held"]


def test_a_missed_goal_is_said_in_both_renderings():
    rows = (Row("kept", ("1 ms",), Goal("< 2 ms", True)), Row("missed", ("3 ms",), Goal("< 2 ms", False)))
    report = Report("Something", ("p99",), rows, ("by hand",))

    assert report.missed == 1
    assert table.text(report).splitlines()[1:4] == [
        "           p99    goal",
        "  kept    1 ms  < 2 ms  pass",
        "  missed  3 ms  < 2 ms  MISS",
    ]
    assert "| missed | 3 ms | < 2 ms | MISS |" in table.markdown(report)


def test_a_percentile_is_a_value_that_was_measured():
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7.0], 0.99) == 7.0


def test_large_policies_are_compared_and_the_rows_are_counted():
    report = diff.measure(Effort(quick=True))

    assert [row.cells[0] for row in report.rows[:2]] == ["1", "0"]
    assert report.rows[3].cells[0] == "400", "each of 200 rules is gone, and another has come"


def test_a_record_is_replayed_where_nothing_some_and_all_of_it_changes():
    report = replay.measure(Effort(quick=True))

    assert [row.cells[0] for row in report.rows] == ["0", "100", "2,000"]
