"""The record file's one writer. Rows and the place up to which a node's log was read are one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from septum.audit.line import Unreadable
from septum.audit.parcel import Position
from septum.audit.schema import COLUMNS, UNCLAIMED, StoreUnavailable, create
from septum.model.record import Record

_INSERT = f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - own names
_KEEP = "INSERT INTO unreadable (after_seq, noted_at, reason, line, node) VALUES (?, ?, ?, ?, ?)"
_MOVE = """INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node) DO UPDATE
    SET generation = excluded.generation, offset = excluded.offset, before = excluded.before,
        records = excluded.records, unreadable = excluded.unreadable, disagreements = excluded.disagreements,
        last = excluded.last"""
_WRITTEN = (
    "INSERT INTO runs VALUES (?, ?, ?) ON CONFLICT (node, run) DO UPDATE SET written = written + excluded.written"
)
_LOSS = """INSERT INTO losses VALUES (?, ?, ?, ?, ?) ON CONFLICT (node, run) DO UPDATE
    SET expected = excluded.expected, written = excluded.written, noted_at = excluded.noted_at"""
_CLAIM = [f"UPDATE {table} SET node = ? WHERE node = ?" for table in ("nodes", "runs", "losses", "unreadable")]  # noqa: S608 - own names


@dataclass(frozen=True, slots=True)
class Totals:
    """What the file holds of a node. `disagreements` counts the records that policy or certificate contradict.

    `last` is the time of the last record.
    """

    records: int = 0
    unreadable: int = 0
    disagreements: int = 0
    last: float | None = None

    def plus(self, entries: Sequence[Record | Unreadable], disagreements: int) -> Totals:
        """The totals with these entries."""
        unreadable = sum(isinstance(entry, Unreadable) for entry in entries)
        last = next((entry.time for entry in reversed(entries) if isinstance(entry, Record)), self.last)
        records = self.records + len(entries) - unreadable
        return Totals(records, self.unreadable + unreadable, self.disagreements + disagreements, last)


class Store:
    """Owns the file until it is closed. Raises StoreUnavailable when it cannot be written; then nothing has changed."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        try:
            self.connection = create(path)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{path}: {error}") from error
        self._path, self._now = path, now
        rows = self.connection.execute("SELECT node, records, unreadable, disagreements, last FROM nodes")
        self._totals = {row[0]: Totals(*row[1:]) for row in rows}

    def close(self) -> None:
        """Close the file; everything written stays."""
        self.connection.close()

    def nodes(self) -> list[str]:
        """The nodes of which there is anything, but for one that is not claimed."""
        return [node for node in self._totals if node != UNCLAIMED]

    def totals(self, node: str) -> Totals:
        """What the file holds of a node."""
        return self._totals.get(node, Totals())

    def position(self, node: str) -> Position:
        """How far a node's log was stored: by itself, or in what nobody has claimed yet, or not at all."""
        row = self._position(node) or self._position(UNCLAIMED)
        return Position(*row) if row else Position()

    def written(self, node: str) -> dict[str, int]:
        """A node's lines that are stored, by run."""
        return dict(self.connection.execute("SELECT run, written FROM runs WHERE node = ? ORDER BY rowid", (node,)))

    def lost(self, node: str) -> dict[str, int]:
        """A node's decisions that are known to be lost, by run."""
        return dict(self.connection.execute("SELECT run, expected - written FROM losses WHERE node = ?", (node,)))

    def claim(self, node: str) -> bool:
        """Give what is unclaimed to a node of which there is nothing yet; False when either is not so."""
        if node in self._totals or UNCLAIMED not in self._totals:
            return False
        self._transaction(lambda: [self.connection.execute(sql, (node, UNCLAIMED)) for sql in _CLAIM], durable=True)
        self._totals[node] = self._totals.pop(UNCLAIMED)
        return True

    def write(
        self,
        node: str,
        entries: Sequence[Record | Unreadable],
        position: Position,
        lines: Mapping[str, int],
        *,
        disagreements: int = 0,
        durable: bool = False,
    ) -> None:
        """Add a node's entries in order, move its position, add to its lines by run: all of it or nothing.

        `durable` waits for the disk.
        """
        totals = self.totals(node).plus(entries, disagreements)
        self._transaction(lambda: self._write(node, entries, position, lines, totals), durable)
        self._totals[node] = totals

    def note_loss(self, node: str, run: str, expected: int, written: int) -> None:
        """Keep that of a run's `expected` decisions only `written` arrived; a later note of the run replaces it."""
        values = (node, run, expected, written, self._now())
        self._transaction(lambda: self.connection.execute(_LOSS, values), durable=True)

    def _position(self, node: str) -> tuple[int, int, bytes] | None:
        sql = "SELECT generation, offset, before FROM nodes WHERE node = ?"
        row: tuple[int, int, bytes] | None = self.connection.execute(sql, (node,)).fetchone()
        return row

    def _write(
        self,
        node: str,
        entries: Sequence[Record | Unreadable],
        position: Position,
        lines: Mapping[str, int],
        totals: Totals,
    ) -> None:
        rows: list[tuple[object, ...]] = []
        for entry in entries:
            if isinstance(entry, Record):
                rows.append(entry)
            else:
                self._insert(rows)
                last = self.connection.execute("SELECT max(seq) FROM records").fetchone()[0] or 0
                self.connection.execute(_KEEP, (last, self._now(), entry.reason, entry.line, node))
        self._insert(rows)
        self.connection.executemany(_WRITTEN, [(node, run, count) for run, count in lines.items()])
        place = (node, position.generation, position.offset, position.before)
        self.connection.execute(_MOVE, (*place, totals.records, totals.unreadable, totals.disagreements, totals.last))

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
