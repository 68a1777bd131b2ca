"""Questions to the record file, from any process, while it is being written or long after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septum.audit.outcome import DENY
from septum.audit.schema import COLUMNS, StoreUnavailable, open_reader
from septum.model.record import Record

# A condition in SQL and the values that are bound in it.
Term = tuple[str, tuple[object, ...]]

_FIELDS = ", ".join(("seq", *COLUMNS))
# Where a candidate was asked, and said something else than the policy.
DIFFERS = "differs"
APART = "candidate != '' AND candidate != would_be"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a record has to match; None asks nothing. Times are seconds since 1970: `since` is in, `until` is out.

    `path` is a part of the path, `rule` the rule that allowed or came nearest. `candidate` is what a candidate said, or
    DIFFERS: another answer than that of the policy.
    """

    caller: str | None = None
    target: str | None = None
    decision: str | None = None
    would_be: str | None = None
    rule: str | None = None
    status: int | None = None
    path: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    jwt_subject: str | None = None
    candidate: str | None = None
    since: float | None = None
    until: float | None = None

    def terms(self) -> list[Term]:
        """The conditions and their values, in SQL."""
        equal = ("caller", "target", "decision", "would_be", "status", "request_id", "trace_id", "jwt_subject")
        asked: list[Term] = [
            (f"{name} = ?", (getattr(self, name),)) for name in equal if getattr(self, name) is not None
        ]
        if DENY in (self.decision, self.would_be):
            asked.append((f"would_be = '{DENY}'", ()))  # as the index has it; what was denied also should be
        if self.rule is not None:
            asked.append(("(rule = ? OR nearest = ?)", (self.rule, self.rule)))
        if self.path is not None:
            asked.append(("instr(path, ?) > 0", (self.path,)))
        if self.candidate is not None:
            differs = self.candidate == DIFFERS
            asked.append((APART, ()) if differs else ("candidate = ?", (self.candidate,)))
        if self.since is not None:
            asked.append(("time >= ?", (self.since,)))
        if self.until is not None:
            asked.append(("time < ?", (self.until,)))
        return asked


@dataclass(frozen=True, slots=True)
class Row:
    """A record and its place in the order in which records were stored, counted from 1."""

    seq: int
    record: Record


class Reader:
    """Reads the record file and never writes it. Holds no transaction between two calls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_reader(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def newest(self, asked: Filter, limit: int) -> list[Row]:
        """The `limit` records stored last, oldest of them first."""
        return list(reversed(list(self._rows(asked, "seq DESC", limit))))

    def after(self, seq: int, asked: Filter, limit: int = 10_000) -> list[Row]:
        """The next `limit` records that were stored after `seq`, in order."""
        return list(self._rows(asked, "seq", limit, ("seq > ?", (seq,))))

    def count(self, asked: Filter) -> int:
        """How many records match."""
        where, values = _where(asked.terms())
        return int(self._ask(f"SELECT count(*) FROM records{where}", values)[0][0])  # noqa: S608 - values are bound

    def last(self) -> int:
        """The place of the newest record; 0 when there is none."""
        return int(self._ask("SELECT coalesce(max(seq), 0) FROM records", ())[0][0])

    def before(self, time: float) -> int:
        """The place before the first record that was stored of those that began at `time` or later."""
        first = self._ask("SELECT min(seq) FROM records WHERE time >= ?", (time,))[0][0]
        return self.last() if first is None else int(first) - 1

    def _rows(self, asked: Filter, order: str, limit: int, *more: Term) -> Iterator[Row]:
        where, values = _where([*asked.terms(), *more])
        sql = f"SELECT {_FIELDS} FROM records{where} ORDER BY {order} LIMIT ?"  # noqa: S608 - values are bound
        for row in self._ask(sql, (*values, limit)):
            fields = (*row[1:-1], bool(row[-1]))  # SQLite has no booleans
            yield Row(row[0], Record(*fields))

    def _ask(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with _translated(self._path):
            return self._connection.execute(sql, values).fetchall()


def _where(terms: Sequence[Term]) -> tuple[str, tuple[object, ...]]:
    if not terms:
        return "", ()
    return " WHERE " + " AND ".join(text for text, _ in terms), tuple(value for _, values in terms for value in values)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
