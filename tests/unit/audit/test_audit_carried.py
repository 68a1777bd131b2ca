"""From the log to the store: growth, torn lines, rotation, replacement, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.decision_log import Carrier, Writer, denied, line
from septum.audit.files import LogFiles
from septum.audit.parcel import MOST, Parcel, Position
from septum.audit.query import Filter, Reader
from septum.audit.reading import Reading
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


def test_a_line_is_taken_when_it_is_whole(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier, whole = Carrier(tmp_path, store), line(id="a")
    writer.write(whole[:20])
    assert not carrier.advance()
    assert carrier.reading.behind() == 20
    writer.write(whole[20:])
    assert carrier.advance()
    assert not carrier.advance()
    assert (ids(tmp_path), carrier.reading.behind()) == ("a", 0)


def test_nothing_to_read_is_no_error(tmp_path: Path, store: Store) -> None:
    assert not Carrier(tmp_path, store).advance()


def test_a_line_longer_than_a_chunk_is_read_in_full(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a", path="/" + "x" * 5000) + line(id="b"))
    Carrier(tmp_path, store, chunk=64).drain()
    assert ids(tmp_path) == "ab"


def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a"))
    Carrier(tmp_path, store).drain()
    writer.write(line(id="b"))
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "ab"


def test_a_rotated_file_is_read_until_the_writer_has_left_it(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line(id="a"))
    carrier.drain()
    carrier.reading.rotate(1)
    assert carrier.reading.awaits_writer
    writer.write(line(id="b"))
    carrier.drain()
    assert (tmp_path / "decisions.0.jsonl").exists()
    writer.write(line(id="c"))
    writer.reopen()
    writer.write(line(id="d"))
    assert not carrier.reading.awaits_writer
    carrier.drain()
    assert ids(tmp_path) == "abcd"
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["decisions.jsonl"]


def test_a_small_file_is_not_rotated(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line())
    carrier.drain()
    carrier.reading.rotate(1 << 20)
    assert not carrier.reading.awaits_writer


def test_a_rotated_file_that_was_left_over_is_read_first(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a"))
    carrier = Carrier(tmp_path, store)
    carrier.drain()
    writer.write(line(id="b"))
    carrier.reading.rotate(1)
    writer.reopen()
    writer.write(line(id="c"))
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "abc"


def test_a_file_that_was_read_to_its_end_but_not_removed_is_not_read_again(
    tmp_path: Path, store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line(id="a"))
    carrier.drain()
    carrier.reading.rotate(1)
    writer.reopen()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            carrier.advance()
    assert (tmp_path / "decisions.0.jsonl").exists()
    writer.write(line(id="b"))
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "ab"
    assert not (tmp_path / "decisions.0.jsonl").exists()


def test_the_torn_end_of_a_killed_writer_is_kept_apart_from_the_next_run(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    writer.write(line(id="a", run="1") + line(id="x", run="1")[:30])
    writer.reopen()
    writer.write(line(id="b", run="2"))
    carrier = Carrier(tmp_path, store)
    carrier.drain()
    assert (ids(tmp_path), store.totals("n1").unreadable, carrier.inbox.written) == ("ab", 1, {"1": 2, "2": 1})


def test_the_torn_end_of_a_rotated_file_is_kept(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line(id="a") + b'{"torn')
    carrier.drain()
    carrier.reading.rotate(1)
    writer.reopen()
    carrier.drain()
    assert store.connection.execute("SELECT line FROM unreadable").fetchall() == [(b'{"torn',)]


@pytest.mark.parametrize("cut", [b"", line(id="b")])
def test_a_log_that_something_else_replaced_is_read_from_its_start(
    tmp_path: Path, store: Store, writer: Writer, cut: bytes
) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line(id="a"))
    carrier.drain()
    (tmp_path / "decisions.jsonl").unlink()
    writer.write(cut)
    writer.reopen()
    writer.write(line(id="c"))
    carrier.drain()
    assert ids(tmp_path) == ("abc" if cut else "ac")


def test_a_log_that_was_cut_is_read_from_its_start(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line(id="a") + line(id="b"))
    carrier.drain()
    (tmp_path / "decisions.jsonl").write_bytes(line(id="c"))
    carrier.drain()
    assert ids(tmp_path) == "abc"


def test_another_log_under_the_same_name_is_noticed_at_start(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a"))
    Carrier(tmp_path, store).drain()
    (tmp_path / "decisions.jsonl").write_bytes(line(id="b", path="/longer/than/the/other") * 3)
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "abbb"


def test_a_part_that_was_removed_does_not_stop_the_rest(tmp_path: Path, store: Store, writer: Writer) -> None:
    (tmp_path / "decisions.3.jsonl").write_bytes(line(id="a"))
    writer.write(line(id="b"))
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "ab"


def test_a_full_disk_holds_the_position(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier = Carrier(tmp_path, store)
    writer.write(line(id="a"))
    carrier.drain()
    store.connection.execute(f"PRAGMA max_page_count = {store.connection.execute('PRAGMA page_count').fetchone()[0]}")
    writer.write(line(id="b", path="/" + "x" * 100_000))
    mark = carrier.inbox.position
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            carrier.advance()
        assert carrier.inbox.position == mark
    store.connection.execute("PRAGMA max_page_count = 1000000")
    carrier.drain()
    assert ids(tmp_path) == "ab"


def test_disagreements_are_counted_across_restarts(tmp_path: Path, store: Store, writer: Writer) -> None:
    for _ in range(2):
        writer.write(denied(method="GET"))
        carrier = Carrier(tmp_path, store)
        carrier.drain()
    assert store.totals("n1").disagreements == 2


def test_a_call_that_stays_open_is_recorded_once_when_open_and_once_at_its_end(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    carrier, still = Carrier(tmp_path, store), line(t="5.5", id="a", type="DownstreamPeriodic")
    writer.write(still + still)
    carrier.drain()
    writer.write(still + line(t="5.5", id="a", type="DownstreamEnd"))
    carrier.drain()
    rows = Reader(tmp_path / "d.db").newest(Filter(), 10)
    assert [row.record.open for row in rows] == [True, False]
    assert carrier.inbox.written == {"": 4}, "every line counts"


def test_an_open_call_does_not_hide_another_with_the_same_request_id(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    writer.write(b"".join(line(t=t, id="a", type="DownstreamPeriodic") for t in ("5.5", "6.5")))
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "aa"


def test_an_open_call_that_could_not_be_stored_is_stored_later(tmp_path: Path, store: Store, writer: Writer) -> None:
    carrier = Carrier(tmp_path, store)
    store.connection.execute(f"PRAGMA max_page_count = {store.connection.execute('PRAGMA page_count').fetchone()[0]}")
    writer.write(line(id="a", type="DownstreamPeriodic", path="/" + "x" * 100_000))
    with pytest.raises(StoreUnavailable):
        carrier.advance()
    store.connection.execute("PRAGMA max_page_count = 1000000")
    carrier.drain()
    assert ids(tmp_path) == "a"


def test_a_line_longer_than_a_parcel_is_kept_in_pieces_and_the_next_is_read(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    writer.write(b"x" * (2 * MOST - 1) + b"\n" + line(id="b"))
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "b"
    assert store.totals("n1").unreadable == 2
    assert store.connection.execute("SELECT sum(length(line)) FROM unreadable").fetchone()[0] == 2 * MOST - 1


def test_a_log_is_not_set_aside_before_its_number_is_known(tmp_path: Path, writer: Writer) -> None:
    writer.write(line())
    reading = Reading(LogFiles(tmp_path))
    reading.rotate(1)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["decisions.jsonl"]
    reading.resume(Position(7))
    reading.rotate(1)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["decisions.7.jsonl"]


def test_a_log_is_set_aside_again_and_again_while_nothing_is_taken(
    tmp_path: Path, store: Store, writer: Writer
) -> None:
    reading = Reading(LogFiles(tmp_path))
    reading.resume(Position())
    for name in "abc":
        writer.write(line(id=name))
        reading.rotate(1)
        reading.rotate(1)
        writer.reopen()
    assert reading.behind() == 3 * len(line(id="a"))
    again = Reading(LogFiles(tmp_path))  # an agent that has not heard from the store yet
    writer.write(line(id="d"))
    again.rotate(1)
    writer.reopen()
    Carrier(tmp_path, store).drain()
    assert ids(tmp_path) == "abcd"


def test_a_store_that_was_set_back_gets_the_rest_again(tmp_path: Path, store: Store, writer: Writer) -> None:
    writer.write(line(id="a") + line(id="b"))
    reading = Reading(LogFiles(tmp_path), chunk=1)
    reading.resume(Position())
    first = reading.next()
    assert first
    reading.resume(first.end)
    assert reading.next()
    reading.resume(first.start)
    assert reading.next() == first


def test_what_lay_in_a_gap_is_said_to_be_lost(tmp_path: Path, store: Store, writer: Writer) -> None:
    (tmp_path / "decisions.3.jsonl").write_bytes(line(id="a"))
    reading = Reading(LogFiles(tmp_path))
    reading.resume(Position(1, 2, b"xx"))
    assert reading.next() == Parcel(
        Position(1, 2, b"xx"), b"", Position(3), gap="a part of the decision log was removed"
    )
