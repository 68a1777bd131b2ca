"""The benchmarks still run. Their figures are for `make bench` to judge."""

from bench import decision, table
from bench.report import Effort, Goal, Report, Row, percentile


def test_a_decision_is_measured_beside_no_policy_and_linear_rules():
    report = decision.measure(Effort(quick=True))

    assert [row.what for row in report.rows] == ["no policy", "10 rules", "linear `rules`, 10"]
    assert all(float(row.cells[0]) > 0 for row in report.rows)
    assert report.rows[0].cells[2:] == ("1.00", "1.00")
    assert [row.what for row in report.rows if row.goal] == ["10 rules"]


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
