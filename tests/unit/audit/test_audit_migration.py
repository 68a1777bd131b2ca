"""A record file of an earlier version is brought up to date in place.

That of version 1 has a place in one log, which goes to whose log it is.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fakes.decision_log import Carrier, Writer, line
from septum.audit.parcel import Position
from septum.audit.query import Filter, Reader
from septum.audit.schema import UNCLAIMED, StoreUnavailable, WrongVersion
from septum.audit.store import Store, Totals

# As it was made.
VERSION_1 = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL, request_id TEXT NOT NULL, trace_id TEXT NOT NULL, node TEXT NOT NULL,
    caller TEXT NOT NULL, target TEXT NOT NULL, protocol TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    decision TEXT NOT NULL, mode TEXT NOT NULL, would_be TEXT NOT NULL, rule TEXT NOT NULL, nearest TEXT NOT NULL,
    reason TEXT NOT NULL, policy_version TEXT NOT NULL,
    status INTEGER NOT NULL, flags TEXT NOT NULL, bytes_received INTEGER NOT NULL, bytes_sent INTEGER NOT NULL,
    duration REAL NOT NULL, upstream TEXT NOT NULL, upstream_duration REAL NOT NULL,
    open INTEGER NOT NULL
);
-- Almost ascending, so it costs little; and the few rows that people look for first.
CREATE INDEX records_time ON records (time);
CREATE INDEX records_denied ON records (seq) WHERE would_be = 'deny';
CREATE TABLE unreadable (
    id INTEGER PRIMARY KEY, after_seq INTEGER NOT NULL, noted_at REAL NOT NULL, reason TEXT NOT NULL, line BLOB NOT NULL
);
-- A run is one life of an Envoy process.
CREATE TABLE runs (run TEXT PRIMARY KEY, written INTEGER NOT NULL);
CREATE TABLE losses (
    run TEXT PRIMARY KEY, expected INTEGER NOT NULL, written INTEGER NOT NULL, noted_at REAL NOT NULL
);
CREATE TABLE tail (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL, offset INTEGER NOT NULL, before BLOB NOT NULL, disagreements INTEGER NOT NULL
);
INSERT INTO tail VALUES (1, 0, 0, x'', 0);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""
VERSION_2 = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL, request_id TEXT NOT NULL, trace_id TEXT NOT NULL, node TEXT NOT NULL,
    caller TEXT NOT NULL, target TEXT NOT NULL, protocol TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    decision TEXT NOT NULL, mode TEXT NOT NULL, would_be TEXT NOT NULL, rule TEXT NOT NULL, nearest TEXT NOT NULL,
    reason TEXT NOT NULL, policy_version TEXT NOT NULL,
    status INTEGER NOT NULL, flags TEXT NOT NULL, bytes_received INTEGER NOT NULL, bytes_sent INTEGER NOT NULL,
    duration REAL NOT NULL, upstream TEXT NOT NULL, upstream_duration REAL NOT NULL,
    open INTEGER NOT NULL,
    jwt_issuer TEXT NOT NULL DEFAULT '', jwt_subject TEXT NOT NULL DEFAULT ''
);
-- Almost ascending, so it costs little; and the few rows that people look for first.
CREATE INDEX records_time ON records (time);
CREATE INDEX records_denied ON records (seq) WHERE would_be = 'deny';
CREATE TABLE unreadable (
    id INTEGER PRIMARY KEY, after_seq INTEGER NOT NULL, noted_at REAL NOT NULL, reason TEXT NOT NULL,
    line BLOB NOT NULL, node TEXT NOT NULL DEFAULT ''
);
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    generation INTEGER NOT NULL, offset INTEGER NOT NULL, before BLOB NOT NULL,
    records INTEGER NOT NULL, unreadable INTEGER NOT NULL, disagreements INTEGER NOT NULL, last REAL
);
-- A run is one life of an Envoy process.
CREATE TABLE runs (node TEXT NOT NULL, run TEXT NOT NULL, written INTEGER NOT NULL, PRIMARY KEY (node, run));
CREATE TABLE losses (
    node TEXT NOT NULL, run TEXT NOT NULL,
    expected INTEGER NOT NULL, written INTEGER NOT NULL, noted_at REAL NOT NULL,
    PRIMARY KEY (node, run)
);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 2;
"""
_RECORD = (
    1764000000.5, "a", "", "old", "storefront", "orders", "http", "GET", "/orders/1", "allow", "enforce", "allow",
    "customers-orders", "", "", "v", 200, "", 0, 0, 1.5, "127.0.0.1:9102", 1.0, 0,
)  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> bytes:
    """A file in which the first line of a log is, which has one more; returns the first."""
    first = line(id="a", run="r")
    (tmp_path / "decisions.jsonl").write_bytes(first + line(id="b", run="r"))
    with closing(sqlite3.connect(tmp_path / "d.db")) as connection:
        connection.executescript(VERSION_1)
        connection.execute(f"INSERT INTO records VALUES (NULL, {', '.join('?' * len(_RECORD))})", _RECORD)
        connection.execute("INSERT INTO unreadable VALUES (1, 1, 9.0, 'odd', x'ff')")
        connection.execute("INSERT INTO runs VALUES ('q', 7), ('r', 1)")
        connection.execute("INSERT INTO losses VALUES ('q', 9, 7, 9.0)")
        connection.execute(
            "UPDATE tail SET generation = 4, offset = ?, before = ?, disagreements = 2", (len(first), first[-64:])
        )
        connection.commit()
    return first


def tables(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        found = [(name, *(row[1:] for row in connection.execute(f"PRAGMA table_info({name})"))) for name in names]
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY 1").fetchall()
        return [*found, *indexes, *connection.execute("PRAGMA user_version").fetchall()]


def test_it_becomes_what_a_new_file_is_and_keeps_all_it_has(tmp_path: Path, old: bytes) -> None:
    store = Store(tmp_path / "d.db")
    Store(tmp_path / "new.db").close()
    assert tables(tmp_path / "d.db") == tables(tmp_path / "new.db")
    assert store.totals(UNCLAIMED) == Totals(1, 1, 2, 1764000000.5)
    assert (store.written(UNCLAIMED), store.lost(UNCLAIMED), store.nodes()) == ({"q": 7, "r": 1}, {"q": 2}, [])
    rows = Reader(tmp_path / "d.db").newest(Filter(), 10)
    assert [(row.seq, row.record.request_id, row.record.node, row.record.jwt_subject) for row in rows] == [
        (1, "a", "old", "")
    ]


def test_the_node_whose_log_goes_on_there_takes_the_place_over(tmp_path: Path, old: bytes) -> None:
    store = Store(tmp_path / "d.db")
    Carrier(tmp_path, store, "alpha").drain()
    assert [row.record.request_id for row in Reader(tmp_path / "d.db").newest(Filter(), 10)] == ["a", "b"]
    assert (store.written("alpha"), store.lost("alpha"), store.nodes()) == ({"q": 7, "r": 2}, {"q": 2}, ["alpha"])
    assert store.totals("alpha").records == 2
    assert store.position("beta") == Position(), "nothing is left to claim"


def test_a_node_with_another_log_does_not(tmp_path: Path, old: bytes) -> None:
    (tmp_path / "new").mkdir()
    writer = Writer(tmp_path / "new")
    writer.write(line(id="c", node="beta"))
    store = Store(tmp_path / "d.db")
    Carrier(tmp_path / "new", store, "beta").drain()
    Carrier(tmp_path, store, "alpha").drain()
    ids = [row.record.request_id for row in Reader(tmp_path / "d.db").newest(Filter(), 10)]
    assert ids == ["a", "c", "b"]
    assert (store.totals("beta").records, store.lost("beta"), store.lost("alpha")) == (1, {}, {"q": 2})


def test_claiming_is_done_once_also_when_the_store_ends_right_after(tmp_path: Path, old: bytes) -> None:
    store = Store(tmp_path / "d.db")
    assert store.claim("alpha")
    again = Store(tmp_path / "d.db")
    assert not again.claim("beta")
    Carrier(tmp_path, again, "alpha").drain()
    assert [row.record.request_id for row in Reader(tmp_path / "d.db").newest(Filter(), 10)] == ["a", "b"]


def test_a_full_disk_leaves_it_as_it_was(tmp_path: Path, old: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables(tmp_path / "d.db")
    real = sqlite3.connect

    def small(*arguments: object, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*arguments, **named)  # type: ignore[call-overload]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        with pytest.raises(StoreUnavailable, match="full"):
            Store(tmp_path / "d.db")
    assert tables(tmp_path / "d.db") == before
    assert Store(tmp_path / "d.db").totals(UNCLAIMED).records == 1


def test_a_reader_that_comes_before_says_what_to_do(tmp_path: Path, old: bytes) -> None:
    with pytest.raises(WrongVersion, match=r"version 1; .* brings it up to date"):
        Reader(tmp_path / "d.db")


@pytest.fixture
def second(tmp_path: Path) -> bytes:
    """A file of version 2 in which the first line of a node's log is, which has one more; returns the first."""
    first = line(id="a", run="r")
    (tmp_path / "decisions.jsonl").write_bytes(first + line(id="b", run="r", node="alpha", sp="wide", cv="c" * 64))
    with closing(sqlite3.connect(tmp_path / "d.db")) as connection:
        connection.executescript(VERSION_2)
        marks = ", ".join("?" * (len(_RECORD) + 2))
        connection.execute(f"INSERT INTO records VALUES (NULL, {marks})", (*_RECORD, "https://login.test", "alice"))
        connection.execute("INSERT INTO runs VALUES ('alpha', 'r', 1)")
        place = ("alpha", 4, len(first), first[-64:], 1, 0, 2, _RECORD[0])
        connection.execute("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", place)
        connection.commit()
    return first


def test_version_2_becomes_what_a_new_file_is_and_goes_on(tmp_path: Path, second: bytes) -> None:
    store = Store(tmp_path / "d.db")
    Store(tmp_path / "new.db").close()
    assert tables(tmp_path / "d.db") == tables(tmp_path / "new.db")
    Carrier(tmp_path, store, "alpha").drain()
    records = [row.record for row in Reader(tmp_path / "d.db").newest(Filter(), 10)]
    assert [(r.request_id, r.jwt_subject) for r in records] == [("a", "alice"), ("b", "")]
    beside = [(r.candidate, r.candidate_rule, r.candidate_version) for r in records]
    assert beside == [("", "", ""), ("allow", "wide", "c" * 64)]
    assert store.totals("alpha") == Totals(2, 0, 2, records[1].time)


def test_a_reader_of_version_2_says_what_to_do(tmp_path: Path, second: bytes) -> None:
    with pytest.raises(WrongVersion, match=r"version 2; .* brings it up to date"):
        Reader(tmp_path / "d.db")
