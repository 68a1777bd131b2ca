"""Questions to the record file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.query import DIFFERS, Filter, Reader
from septum.audit.store import Store
from septum.model.record import Record


def record(raw: bytes) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read, "n1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "d.db")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    lines = [
        line(t="10.0", id="a", tp=trace, sp="wide", cv="c"),
        denied(t="20.0", id="b", sp="wide", cv="c"),
        line(t="30.0", id="c", mode="observe", ep="septum.observe", sr="denied", path="/admin/50%"),
        denied(
            t="40.0", id="d", caller="spiffe://shop.test/ledger", target="payments", code=404, sp="septum.deny", cv="c"
        ),
    ]
    store.write("n1", [record(raw) for raw in lines], Position(), {})
    return store


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Filter(), "abcd"),
        (Filter(caller="storefront"), "abc"),
        (Filter(target="payments"), "d"),
        (Filter(decision="deny"), "bd"),
        (Filter(decision="allow"), "ac"),
        (Filter(decision="allow", would_be="deny"), "c"),
        (Filter(would_be="deny"), "bcd"),
        (Filter(rule="customers-orders"), "abc"),
        (Filter(status=404), "d"),
        (Filter(path="50%"), "c"),
        (Filter(candidate="allow"), "ab"),
        (Filter(candidate="deny"), "d"),
        (Filter(candidate=DIFFERS), "b"),
        (Filter(path="5_%"), ""),
        (Filter(request_id="b"), "b"),
        (Filter(trace_id="4bf92f3577b34da6a3ce929d0e0e4736"), "a"),
        (Filter(since=20.0, until=40.0), "bc"),
        (Filter(caller="'; DROP TABLE records; --"), ""),
    ],
)
def test_a_filter_finds_what_matches(tmp_path: Path, store: Store, asked: Filter, found: str) -> None:
    reader = Reader(tmp_path / "d.db")
    assert "".join(row.record.request_id for row in reader.newest(asked, 50)) == found
    assert reader.count(asked) == len(found)


def test_the_newest_come_oldest_first(tmp_path: Path, store: Store) -> None:
    assert [row.seq for row in Reader(tmp_path / "d.db").newest(Filter(), 2)] == [3, 4]


def test_a_reader_sees_what_is_written_later(tmp_path: Path, store: Store) -> None:
    reader = Reader(tmp_path / "d.db")
    seen = reader.last()
    store.write("n1", [record(line(id="e"))], Position(), {})
    assert [row.record.request_id for row in reader.after(seen, Filter())] == ["e"]


def test_the_file_is_read_after_its_writer_has_gone(tmp_path: Path, store: Store) -> None:
    store.close()
    assert Reader(tmp_path / "d.db").last() == 4


def test_a_window_begins_at_its_first_record(tmp_path: Path, store: Store) -> None:
    reader = Reader(tmp_path / "d.db")
    assert (reader.before(0), reader.before(25.0), reader.before(99.0)) == (0, 2, 4)


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        (Filter(would_be="deny"), "records_denied"),
        (Filter(decision="deny"), "records_denied"),
        (Filter(since=1.0, until=2.0), "records_time"),
    ],
)
def test_the_common_questions_use_an_index(store: Store, asked: Filter, index: str) -> None:
    where = " AND ".join(text for text, _ in asked.terms())
    values = [value for _, bound in asked.terms() for value in bound]
    plan = store.connection.execute(f"EXPLAIN QUERY PLAN SELECT count(*) FROM records WHERE {where}", values).fetchall()
    assert index in str(plan)
