"""The record file: rows and position in one transaction, and nothing when the disk is full."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, Unreadable, read_line
from septum.audit.parcel import Position
from septum.audit.query import Filter, Reader
from septum.audit.schema import COLUMNS, StoreUnavailable, WrongVersion
from septum.audit.store import Store, Totals
from septum.model.record import Record


def record(raw: bytes) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read, "n1")


def test_the_columns_are_the_fields_of_a_record(tmp_path: Path) -> None:
    columns = [row[1] for row in Store(tmp_path / "d.db").connection.execute("PRAGMA table_info(records)")]
    assert sorted(columns) == sorted(["seq", *Record._fields]) == sorted(["seq", *COLUMNS])


def test_what_was_written_is_read_back_unchanged(tmp_path: Path) -> None:
    written = [record(line(id="a")), record(denied(id="b"))]
    Store(tmp_path / "d.db").write("n1", written, Position(), {})
    assert [row.record for row in Reader(tmp_path / "d.db").newest(Filter(), 10)] == written


def test_the_mark_and_the_counts_survive(tmp_path: Path) -> None:
    store, position = Store(tmp_path / "d.db"), Position(3, 17, b"end")
    store.write("n1", [record(line(t="5.5")), Unreadable(b"?", "odd")], position, {"r": 2}, disagreements=2)
    store.close()
    again = Store(tmp_path / "d.db")
    assert (again.position("n1"), again.written("n1"), again.totals("n1")) == (position, {"r": 2}, Totals(1, 1, 2, 5.5))


def test_an_unreadable_line_is_kept_with_its_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db", now=lambda: 9.0)
    store.write("n1", [record(line()), Unreadable(b"\xff", "odd"), record(line())], Position(), {})
    assert store.connection.execute("SELECT after_seq, noted_at, reason, line FROM unreadable").fetchall() == [
        (1, 9.0, "odd", b"\xff")
    ]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    store.write("n1", [record(line())], Position(0, 1), {"r": 1})
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        store.write("n1", [record(line()) for _ in range(5000)], Position(0, 2), {"r": 5000})
    assert (store.position("n1"), store.written("n1"), store.totals("n1").records) == (Position(0, 1), {"r": 1}, 1)
    store.connection.execute("PRAGMA max_page_count = 1000000")
    store.write("n1", [record(line())], Position(0, 2), {"r": 1})
    assert store.totals("n1").records == 2


def test_a_mistake_of_the_program_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    bad = Record(*(None for _ in Record._fields))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        store.write("n1", [bad], Position(0, 2), {})
    assert store.position("n1") == Position()


def test_a_later_note_of_a_loss_replaces_the_earlier(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    store.note_loss("n1", "r", 10, 7)
    store.note_loss("n1", "r", 10, 9)
    assert store.lost("n1") == {"r": 1}


def test_nodes_are_kept_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    store.write("n1", [record(line())], Position(1), {"r": 1})
    store.write("n2", [Unreadable(b"?", "odd")], Position(2), {"r": 1}, disagreements=1)
    store.note_loss("n2", "r", 3, 1)
    again = Store(tmp_path / "d.db")
    assert [again.position(node) for node in ("n1", "n2", "n3")] == [Position(1), Position(2), Position()]
    assert (again.totals("n1").records, again.totals("n2"), again.nodes()) == (1, Totals(0, 1, 1), ["n1", "n2"])
    assert (again.lost("n1"), again.lost("n2"), again.written("n3")) == ({}, {"r": 2}, {})
    assert again.connection.execute("SELECT node FROM unreadable").fetchall() == [("n2",)]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    store.connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(WrongVersion, match="99"):
        Store(tmp_path / "d.db")
    with pytest.raises(WrongVersion, match="99"):
        Reader(tmp_path / "d.db")


def test_what_is_no_record_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailable):
        Store(tmp_path / "d.db")
    with pytest.raises(StoreUnavailable):
        Reader(tmp_path / "d.db")


def test_a_file_that_was_not_made_to_its_end_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "d.db.new").write_bytes(b"half")
    (tmp_path / "d.db").touch()
    store = Store(tmp_path / "d.db")
    store.write("n1", [record(line())], Position(), {})
    assert Reader(tmp_path / "d.db").last() == 1
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []
