"""The record file's one writer. Rows and the place up to which the log was read are one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from septum.audit.line import Unreadable
from septum.audit.schema import COLUMNS, StoreUnavailable, create
from septum.model.record import Record

_INSERT = f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - own names
_KEEP = "INSERT INTO unreadable (after_seq, noted_at, reason, line) VALUES (?, ?, ?, ?)"
_MOVE = "UPDATE tail SET generation = ?, offset = ?, before = ?, epoch = ?, written = ?, disagreements = ?"
_LOSS = """INSERT INTO losses VALUES (?, ?, ?, ?) ON CONFLICT (epoch) DO UPDATE
    SET expected = excluded.expected, written = excluded.written, noted_at = excluded.noted_at"""
_row = attrgetter(*COLUMNS)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the log was read, and what was found on the way.

    `generation` counts the files of the log and `offset` the bytes read of that one; `before` is the end of what was
    read, by which the file is known again. `written` counts the lines of the writer's run `epoch`, `disagreements`
    those about which the policy says otherwise than the proxy.
    """

    generation: int = 0
    offset: int = 0
    before: bytes = b""
    epoch: str = ""
    written: int = 0
    disagreements: int = 0


class Store:
    """Owns the file until it is closed. Raises StoreUnavailable when it cannot be written; then nothing has changed."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        try:
            self.connection = create(path)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{path}: {error}") from error
        self._path, self._now = path, now

    def close(self) -> None:
        """Close the file; everything written stays."""
        self.connection.close()

    def mark(self) -> Mark:
        """The mark of the last transaction."""
        row = self.connection.execute(
            "SELECT generation, offset, before, epoch, written, disagreements FROM tail"
        ).fetchone()
        return Mark(*row)

    def write(self, entries: Sequence[Record | Unreadable], mark: Mark, *, durable: bool = False) -> None:
        """Add entries in order and move the mark, or do neither. `durable` waits for the disk itself."""
        self._transaction(lambda: self._write(entries, mark), durable)

    def note_loss(self, epoch: str, expected: int, written: int) -> None:
        """Keep that of the `expected` decisions of a run only `written` arrived; a later note of the run replaces it."""
        self._transaction(lambda: self.connection.execute(_LOSS, (epoch, expected, written, self._now())), durable=True)

    def lost(self) -> dict[str, int]:
        """Decisions known to be lost, by run."""
        return dict(self.connection.execute("SELECT epoch, expected - written FROM losses"))

    def counts(self) -> tuple[int, int, float | None]:
        """Records, unreadable lines, and the time of the last record."""
        records = self.connection.execute("SELECT seq, time FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        unreadable = self.connection.execute("SELECT count(*) FROM unreadable").fetchone()[0]
        return (records[0], unreadable, records[1]) if records else (0, unreadable, None)

    def _write(self, entries: Sequence[Record | Unreadable], mark: Mark) -> None:
        rows: list[tuple[object, ...]] = []
        for entry in entries:
            if isinstance(entry, Record):
                rows.append(_row(entry))
            else:
                self._insert(rows)
                last = self.connection.execute("SELECT max(seq) FROM records").fetchone()[0] or 0
                self.connection.execute(_KEEP, (last, self._now(), entry.reason, entry.line))
        self._insert(rows)
        values = (mark.generation, mark.offset, mark.before, mark.epoch, mark.written, mark.disagreements)
        self.connection.execute(_MOVE, values)

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
