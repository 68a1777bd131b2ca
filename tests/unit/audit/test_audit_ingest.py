"""From the log to the store: growth, torn lines, rotation, replacement, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.decision_log import Writer, denied, ingest, line
from septum.audit.ingest import Ingest
from septum.audit.query import Filter, Reader
from septum.audit.schema import StoreUnavailable
from septum.audit.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "d.db")


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def ids(directory: Path) -> str:
    return "".join(row.record.request_id for row in Reader(directory / "d.db").newest(Filter(), 1000))


def drain(reading: Ingest) -> None:
    while reading.advance():
        pass


def test_a_line_is_taken_when_it_is_whole(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading, whole = ingest(tmp_path, store), line(id="a")
    writer.write(whole[:20])
    assert not reading.advance()
    assert reading.behind() == 20
    writer.write(whole[20:])
    assert reading.advance()
    assert not reading.advance()
    assert (ids(tmp_path), reading.behind()) == ("a", 0)


def test_nothing_to_read_is_no_error(tmp_path: Path, store: Store) -> None:
    assert not ingest(tmp_path, store).advance()


def test_a_line_longer_than_a_chunk_is_read_in_full(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a", path="/" + "x" * 5000) + line(id="b"))
    drain(ingest(tmp_path, store, chunk=64))
    assert ids(tmp_path) == "ab"


def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a"))
    drain(ingest(tmp_path, store))
    writer.write(line(id="b"))
    drain(ingest(tmp_path, store))
    assert ids(tmp_path) == "ab"


def test_a_rotated_file_is_read_until_the_writer_has_left_it(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line(id="a"))
    drain(reading)
    reading.rotate(1)
    assert reading.awaits_writer
    writer.write(line(id="b"))
    drain(reading)
    assert (tmp_path / "decisions.0.jsonl").exists()
    writer.write(line(id="c"))
    writer.reopen()
    writer.write(line(id="d"))
    assert not reading.awaits_writer
    drain(reading)
    assert ids(tmp_path) == "abcd"
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["decisions.jsonl"]


def test_a_small_file_is_not_rotated(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line())
    drain(reading)
    reading.rotate(1 << 20)
    assert not reading.awaits_writer


def test_a_rotated_file_that_was_left_over_is_read_first(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a"))
    reading = ingest(tmp_path, store)
    drain(reading)
    writer.write(line(id="b"))
    reading.rotate(1)
    writer.reopen()
    writer.write(line(id="c"))
    drain(ingest(tmp_path, store))
    assert ids(tmp_path) == "abc"


def test_a_file_that_was_read_to_its_end_but_not_removed_is_not_read_again(
    tmp_path: Path, store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line(id="a"))
    drain(reading)
    reading.rotate(1)
    writer.reopen()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            reading.advance()
    assert (tmp_path / "decisions.0.jsonl").exists()
    writer.write(line(id="b"))
    drain(ingest(tmp_path, store))
    assert ids(tmp_path) == "ab"
    assert not (tmp_path / "decisions.0.jsonl").exists()


def test_the_torn_end_of_a_killed_writer_is_kept_apart_from_the_next_run(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    writer.write(line(id="a", run="1") + line(id="x", run="1")[:30])
    writer.reopen()
    writer.write(line(id="b", run="2"))
    reading = ingest(tmp_path, store)
    drain(reading)
    assert (ids(tmp_path), store.totals.unreadable, reading.written) == ("ab", 1, {"1": 2, "2": 1})


def test_the_torn_end_of_a_rotated_file_is_kept(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line(id="a") + b'{"torn')
    drain(reading)
    reading.rotate(1)
    writer.reopen()
    drain(reading)
    assert store.connection.execute("SELECT line FROM unreadable").fetchall() == [(b'{"torn',)]


@pytest.mark.parametrize("cut", [b"", line(id="b")])
def test_a_log_that_something_else_replaced_is_read_from_its_start(
    tmp_path: Path, store: Store, writer: Writer, cut: bytes
) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line(id="a"))
    drain(reading)
    (tmp_path / "decisions.jsonl").unlink()
    writer.write(cut)
    writer.reopen()
    writer.write(line(id="c"))
    drain(reading)
    assert ids(tmp_path) == ("abc" if cut else "ac")


def test_a_log_that_was_cut_is_read_from_its_start(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line(id="a") + line(id="b"))
    drain(reading)
    (tmp_path / "decisions.jsonl").write_bytes(line(id="c"))
    drain(reading)
    assert ids(tmp_path) == "abc"


def test_another_log_under_the_same_name_is_noticed_at_start(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a"))
    drain(ingest(tmp_path, store))
    (tmp_path / "decisions.jsonl").write_bytes(line(id="b", path="/longer/than/the/other") * 3)
    drain(ingest(tmp_path, store))
    assert ids(tmp_path) == "abbb"


def test_a_part_that_was_removed_does_not_stop_the_rest(tmp_path: Path, store: Store, writer: Writer) -> None:
    (tmp_path / "decisions.3.jsonl").write_bytes(line(id="a"))
    writer.write(line(id="b"))
    drain(ingest(tmp_path, store))
    assert ids(tmp_path) == "ab"


def test_a_full_disk_holds_the_position(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading = ingest(tmp_path, store)
    writer.write(line(id="a"))
    drain(reading)
    store.connection.execute(f"PRAGMA max_page_count = {store.connection.execute('PRAGMA page_count').fetchone()[0]}")
    writer.write(line(id="b", path="/" + "x" * 100_000))
    mark = reading.mark
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            reading.advance()
        assert reading.mark == mark
    store.connection.execute("PRAGMA max_page_count = 1000000")
    drain(reading)
    assert ids(tmp_path) == "ab"


def test_disagreements_are_counted_across_restarts(tmp_path: Path, store: Store, writer: Writer) -> None:
    for _ in range(2):
        writer.write(denied(method="GET"))
        reading = ingest(tmp_path, store)
        drain(reading)
    assert reading.mark.disagreements == 2


def test_a_call_that_stays_open_is_recorded_once_when_open_and_once_at_its_end(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    reading, still = ingest(tmp_path, store), line(t="5.5", id="a", type="DownstreamPeriodic")
    writer.write(still + still)
    drain(reading)
    writer.write(still + line(t="5.5", id="a", type="DownstreamEnd"))
    drain(reading)
    rows = Reader(tmp_path / "d.db").newest(Filter(), 10)
    assert [row.record.open for row in rows] == [True, False]
    assert reading.written == {"": 4}, "every line counts"


def test_an_open_call_does_not_hide_another_with_the_same_request_id(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    writer.write(b"".join(line(t=t, id="a", type="DownstreamPeriodic") for t in ("5.5", "6.5")))
    drain(ingest(tmp_path, store))
    assert ids(tmp_path) == "aa"


def test_an_open_call_that_could_not_be_stored_is_stored_later(tmp_path: Path, store: Store, writer: Writer) -> None:
    reading = ingest(tmp_path, store)
    store.connection.execute(f"PRAGMA max_page_count = {store.connection.execute('PRAGMA page_count').fetchone()[0]}")
    writer.write(line(id="a", type="DownstreamPeriodic", path="/" + "x" * 100_000))
    with pytest.raises(StoreUnavailable):
        reading.advance()
    store.connection.execute("PRAGMA max_page_count = 1000000")
    drain(reading)
    assert ids(tmp_path) == "a"
