"""The tables of the record file, how it is opened, and how one of an older version is brought up to date.

docs/records.md describes each column.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from septum.model.record import Record

VERSION = 3
COLUMNS = Record._fields
FILE = "decisions.db"
# The node of a file in which there was one, which had no name there: whoever's log it is takes it over.
UNCLAIMED = ""

_OF_NODES = """
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
"""
_TABLES = f"""
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL, request_id TEXT NOT NULL, trace_id TEXT NOT NULL, node TEXT NOT NULL,
    caller TEXT NOT NULL, target TEXT NOT NULL, protocol TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    decision TEXT NOT NULL, mode TEXT NOT NULL, would_be TEXT NOT NULL, rule TEXT NOT NULL, nearest TEXT NOT NULL,
    reason TEXT NOT NULL, policy_version TEXT NOT NULL,
    status INTEGER NOT NULL, flags TEXT NOT NULL, bytes_received INTEGER NOT NULL, bytes_sent INTEGER NOT NULL,
    duration REAL NOT NULL, upstream TEXT NOT NULL, upstream_duration REAL NOT NULL,
    open INTEGER NOT NULL,
    jwt_issuer TEXT NOT NULL DEFAULT '', jwt_subject TEXT NOT NULL DEFAULT '',
    candidate TEXT NOT NULL DEFAULT '', candidate_rule TEXT NOT NULL DEFAULT '',
    candidate_version TEXT NOT NULL DEFAULT ''
);
-- Almost ascending, so it costs little; and the few rows that people look for first.
CREATE INDEX records_time ON records (time);
CREATE INDEX records_denied ON records (seq) WHERE would_be = 'deny';
CREATE TABLE unreadable (
    id INTEGER PRIMARY KEY, after_seq INTEGER NOT NULL, noted_at REAL NOT NULL, reason TEXT NOT NULL,
    line BLOB NOT NULL, node TEXT NOT NULL DEFAULT ''
);
{_OF_NODES}
"""
# Adding columns touches no row, so it takes a moment however large the file is.
_TO_2 = f"""
ALTER TABLE records ADD COLUMN jwt_issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN jwt_subject TEXT NOT NULL DEFAULT '';
ALTER TABLE unreadable ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE runs RENAME TO runs_1;
ALTER TABLE losses RENAME TO losses_1;
{_OF_NODES}
INSERT INTO nodes SELECT '{UNCLAIMED}', generation, offset, before,
    (SELECT coalesce(max(seq), 0) FROM records), (SELECT count(*) FROM unreadable), disagreements,
    (SELECT time FROM records ORDER BY seq DESC LIMIT 1) FROM tail;
INSERT INTO runs SELECT '{UNCLAIMED}', run, written FROM runs_1 ORDER BY rowid;
INSERT INTO losses SELECT '{UNCLAIMED}', run, expected, written, noted_at FROM losses_1 ORDER BY rowid;
DROP TABLE runs_1;
DROP TABLE losses_1;
DROP TABLE tail;
"""  # noqa: S608 - own names
_TO_3 = """
ALTER TABLE records ADD COLUMN candidate TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN candidate_rule TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN candidate_version TEXT NOT NULL DEFAULT '';
"""
# What brings a file of each earlier version up to date.
_FROM = {1: _TO_2 + _TO_3, 2: _TO_3}


class StoreUnavailable(Exception):
    """The record file cannot be read or written now: a full or failing disk, no permission, a lock."""


class WrongVersion(Exception):
    """The record file was made by another version of Septum."""


def create(path: Path) -> sqlite3.Connection:
    """Open the file for its one writer, with its tables made when it is new, and brought up to date when it is old.

    WAL, so that readers never wait for the writer nor the writer for them. `synchronous=NORMAL` keeps the file whole
    through any crash; a power cut may undo the last commits, and with them the positions, so their lines are shipped
    again.
    """
    if not path.exists() or path.stat().st_size == 0:
        _make(path)
    connection = _connect(path)
    if older := _FROM.get(version(connection)):
        _change(connection, older)
    expect_version(connection, path)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _make(path: Path) -> None:
    """Under another name first: who finds the file finds its tables."""
    fresh = path.with_name(f"{path.name}.new")
    for leftover in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-shm")):
        leftover.unlink(missing_ok=True)
    connection = _connect(fresh)
    _change(connection, _TABLES)
    connection.close()
    fresh.rename(path)


def _change(connection: sqlite3.Connection, statements: str) -> None:
    """Bring the tables to this version: all of it or nothing."""
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {VERSION}; COMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file to read only, from any process. Raises StoreUnavailable and WrongVersion."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
        expect_version(connection, path)
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    return connection


def version(connection: sqlite3.Connection) -> int:
    """The schema's version; 0 in a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def expect_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise WrongVersion when the file is not of this version."""
    found = version(connection)
    if found != VERSION:
        older = "; the control plane brings it up to date when it starts" if 0 < found < VERSION else ""
        raise WrongVersion(f"{path} has record version {found}; this Septum reads version {VERSION}{older}")
