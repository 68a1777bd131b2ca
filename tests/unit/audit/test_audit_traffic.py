"""Paths in use over a window."""

from __future__ import annotations

import pytest

from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.traffic import PathRow, Traffic, collapsed
from septum.model.record import Record


def record(raw: bytes) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read, "n1")


def only(traffic: Traffic, now: float) -> PathRow:
    (row,) = traffic.rows(now)
    return row


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/orders/42", "GET /orders/{id}"),
        ("/orders/4bf92f35-77b3-4da6-a3ce-929d0e0e4736/items", "GET /orders/{id}/items"),
        ("/v1/catalog/shoes", "GET /v1/catalog/shoes"),
        ("/users/u8213kx", "GET /users/{id}"),
        ("/", "GET /"),
        ("/a/b/c/d/e/f/g/h/i", "GET /a/b/c/d/e/f/g/**"),
    ],
)
def test_what_looks_like_an_id_is_collapsed(path: str, shown: str) -> None:
    assert collapsed(record(denied(method="GET", path=path))) == shown


def test_calls_of_one_rule_are_one_path_and_say_how_many_operations_it_has() -> None:
    traffic = Traffic(60)
    traffic.add([record(line(t="100"))._replace(path=path) for path in ("/orders/1", "/orders/2", "/catalog")])
    row = only(traffic, 101)
    assert (row.operation, row.rule, row.allowed) == ("GET /orders/{id} +1", "customers-orders", 3)


def test_denials_are_told_apart_by_operation() -> None:
    traffic = Traffic(60)
    traffic.add([record(denied(t="100", path=path)) for path in ("/a", "/b", "/b")])
    assert {row.operation: row.denied for row in traffic.rows(101)} == {"DELETE /a": 1, "DELETE /b": 2}


def test_would_be_denials_are_allowed_calls_too() -> None:
    traffic = Traffic(60)
    traffic.add([record(line(t="100", mode="observe", ep="septum.observe", sr="denied", path="/x"))])
    row = only(traffic, 101)
    assert (row.allowed, row.denied, row.would_be_denied) == (1, 0, 1)


def test_quantiles_are_at_most_five_percent_too_high() -> None:
    traffic = Traffic(60)
    traffic.add([record(line(t="100"))._replace(duration=float(ms)) for ms in range(1, 101)])
    row = only(traffic, 101)
    assert row.p50 is not None
    assert row.p99 is not None
    assert 50 <= row.p50 <= 50 * 1.05
    assert 99 <= row.p99 <= 99 * 1.05


def test_a_denial_has_no_latency() -> None:
    traffic = Traffic(60)
    traffic.add([record(denied(t="100"))])
    assert (only(traffic, 101).p50, only(traffic, 101).p99) == (None, None)


def test_the_rate_is_over_the_window_or_over_what_there_was() -> None:
    traffic = Traffic(60)
    traffic.add([record(line(t="100")) for _ in range(120)])
    assert only(traffic, 110).rate == 12
    assert only(traffic, 160).rate == 2


def test_what_is_older_than_the_window_is_forgotten() -> None:
    traffic = Traffic(60)
    traffic.add([record(line(t="100")), record(line(t="150"))])
    assert only(traffic, 155).allowed == 2
    assert only(traffic, 170).allowed == 1
    assert traffic.rows(300) == []


def test_a_flood_of_paths_is_bounded() -> None:
    traffic = Traffic(60, most=10)
    one = record(denied(t="100"))
    words = ["".join(chr(97 + (n >> shift) % 26) for shift in (0, 4, 8)) for n in range(500)]
    traffic.add([one._replace(caller=f"c{n % 50}", path="/" + word) for n, word in enumerate(words)])
    rows = traffic.rows(101)
    assert len(rows) <= 21
    assert sum(row.denied for row in rows) == 500


def test_the_newest_policy_version_is_known() -> None:
    traffic = Traffic(60)
    traffic.add([record(line())])
    assert traffic.policy_version == "v" * 64


def test_a_call_that_was_counted_while_it_was_open_is_not_counted_again() -> None:
    traffic = Traffic(60)
    ended = record(line(t="100"))
    traffic.add([ended._replace(open=True), ended])
    row = only(traffic, 101)
    assert (row.allowed, row.p50) == (1, None)
