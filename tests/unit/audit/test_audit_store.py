"""The record file: rows and position in one transaction, and nothing when the disk is full."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, Unreadable, read_line
from septum.audit.query import Filter, Reader
from septum.audit.schema import COLUMNS, StoreUnavailable, WrongVersion
from septum.audit.store import Mark, Store, Totals
from septum.model.record import Record


def record(raw: bytes) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read)


def test_the_columns_are_the_fields_of_a_record(tmp_path: Path) -> None:
    columns = [row[1] for row in Store(tmp_path / "d.db").connection.execute("PRAGMA table_info(records)")]
    assert columns == ["seq", *Record._fields] == ["seq", *COLUMNS]


def test_what_was_written_is_read_back_unchanged(tmp_path: Path) -> None:
    written = [record(line(id="a")), record(denied(id="b"))]
    Store(tmp_path / "d.db").write(written, Mark(), {})
    assert [row.record for row in Reader(tmp_path / "d.db").newest(Filter(), 10)] == written


def test_the_mark_and_the_counts_survive(tmp_path: Path) -> None:
    store, mark = Store(tmp_path / "d.db"), Mark(3, 17, b"end", 2)
    store.write([record(line(t="5.5")), Unreadable(b"?", "odd")], mark, {"r": 2})
    store.close()
    again = Store(tmp_path / "d.db")
    assert (again.mark(), again.written(), again.totals) == (mark, {"r": 2}, Totals(1, 1, 5.5))


def test_an_unreadable_line_is_kept_with_its_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db", now=lambda: 9.0)
    store.write([record(line()), Unreadable(b"\xff", "odd"), record(line())], Mark(), {})
    assert store.connection.execute("SELECT after_seq, noted_at, reason, line FROM unreadable").fetchall() == [
        (1, 9.0, "odd", b"\xff")
    ]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    store.write([record(line())], Mark(0, 1), {"r": 1})
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        store.write([record(line()) for _ in range(5000)], Mark(0, 2), {"r": 5001})
    assert (store.mark(), store.written(), store.totals.records) == (Mark(0, 1), {"r": 1}, 1)
    store.connection.execute("PRAGMA max_page_count = 1000000")
    store.write([record(line())], Mark(0, 2), {"r": 2})
    assert store.totals.records == 2


def test_a_mistake_of_the_program_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    bad = Record(*(None for _ in Record._fields))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        store.write([bad], Mark(0, 2), {})
    assert store.mark() == Mark()


def test_a_later_note_of_a_loss_replaces_the_earlier(tmp_path: Path) -> None:
    store = Store(tmp_path / "d.db")
    store.note_loss("r", 10, 7)
    store.note_loss("r", 10, 9)
    assert store.lost() == {"r": 1}


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
    store.write([record(line())], Mark(), {})
    assert Reader(tmp_path / "d.db").last() == 1
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []
