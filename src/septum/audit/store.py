"""The record file's one writer. Rows and the place up to which the log was read are one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from septum.audit.line import Unreadable
from septum.audit.schema import COLUMNS, StoreUnavailable, create
from septum.model.record import Record

_INSERT = f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - own names
_KEEP = "INSERT INTO unreadable (after_seq, noted_at, reason, line) VALUES (?, ?, ?, ?)"
_MOVE = "UPDATE tail SET generation = ?, offset = ?, before = ?, disagreements = ?"
_WRITTEN = "INSERT INTO runs VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET written = excluded.written"
_LOSS = """INSERT INTO losses VALUES (?, ?, ?, ?) ON CONFLICT (run) DO UPDATE
    SET expected = excluded.expected, written = excluded.written, noted_at = excluded.noted_at"""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the log was read.

    `generation` counts the files of the log and `offset` the bytes read of that one; `before` is the end of what was
    read, by which the file is known again. `disagreements` counts the records about which the policy says otherwise.
    """

    generation: int = 0
    offset: int = 0
    before: bytes = b""
    disagreements: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the file holds; `last` is the time of the last record."""

    records: int = 0
    unreadable: int = 0
    last: float | None = None


class Store:
    """Owns the file until it is closed. Raises StoreUnavailable when it cannot be written; then nothing has changed."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        try:
            self.connection = create(path)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{path}: {error}") from error
        self._path, self._now = path, now
        self.totals = self._count()

    def close(self) -> None:
        """Close the file; everything written stays."""
        self.connection.close()

    def mark(self) -> Mark:
        """The mark of the last transaction."""
        return Mark(*self.connection.execute("SELECT generation, offset, before, disagreements FROM tail").fetchone())

    def written(self) -> dict[str, int]:
        """Lines stored, by run."""
        return dict(self.connection.execute("SELECT run, written FROM runs"))

    def lost(self) -> dict[str, int]:
        """Decisions known to be lost, by run."""
        return dict(self.connection.execute("SELECT run, expected - written FROM losses"))

    def write(
        self, entries: Sequence[Record | Unreadable], mark: Mark, written: Mapping[str, int], *, durable: bool = False
    ) -> None:
        """Add entries in order, move the mark and the counts by run, or do nothing. `durable` waits for the disk."""
        self._transaction(lambda: self._write(entries, mark, written), durable)
        self.totals = self._added(entries)

    def note_loss(self, run: str, expected: int, written: int) -> None:
        """Keep that of a run's `expected` decisions only `written` arrived; a later note of the run replaces it."""
        self._transaction(lambda: self.connection.execute(_LOSS, (run, expected, written, self._now())), durable=True)

    def _write(self, entries: Sequence[Record | Unreadable], mark: Mark, written: Mapping[str, int]) -> None:
        rows: list[tuple[object, ...]] = []
        for entry in entries:
            if isinstance(entry, Record):
                rows.append(entry)
            else:
                self._insert(rows)
                last = self.connection.execute("SELECT max(seq) FROM records").fetchone()[0] or 0
                self.connection.execute(_KEEP, (last, self._now(), entry.reason, entry.line))
        self._insert(rows)
        self.connection.executemany(_WRITTEN, written.items())
        self.connection.execute(_MOVE, (mark.generation, mark.offset, mark.before, mark.disagreements))

    def _insert(self, rows: list[tuple[object, ...]]) -> None:
        self.connection.executemany(_INSERT, rows)
        rows.clear()

    def _transaction(self, work: Callable[[], object], durable: bool) -> None:
        try:
            # A commit under FULL syncs the whole write-ahead log, with every earlier commit in it.
            self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self.connection.execute("BEGIN IMMEDIATE")
            work()
            self.connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            # Full, failing, locked or damaged. The other classes are mistakes of this program.
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                raise StoreUnavailable(f"{self._path}: {error}") from error
            raise
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def _count(self) -> Totals:
        newest = self.connection.execute("SELECT seq, time FROM records ORDER BY seq DESC LIMIT 1").fetchone() or (
            0,
            None,
        )
        unreadable = self.connection.execute("SELECT count(*) FROM unreadable").fetchone()[0]
        return Totals(newest[0], unreadable, newest[1])

    def _added(self, entries: Sequence[Record | Unreadable]) -> Totals:
        unreadable = sum(isinstance(entry, Unreadable) for entry in entries)
        last = next((entry.time for entry in reversed(entries) if isinstance(entry, Record)), self.totals.last)
        return Totals(self.totals.records + len(entries) - unreadable, self.totals.unreadable + unreadable, last)
