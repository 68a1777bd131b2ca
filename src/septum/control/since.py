"""What came to the record since it was looked at last: each record once, and nothing more than that to read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septum.audit.schema import StoreUnavailable, open_reader


@dataclass(frozen=True, slots=True)
class Asked:
    """Which columns of which records, in SQL; `values` are those that are bound in it, by name."""

    fields: str
    condition: str
    group: str
    values: Mapping[str, object]


class Since:
    """A place in the record file. It opens the file for each look: a look is rare, and any thread may take it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0

    def start_over(self) -> None:
        """Look at everything again."""
        self._seen = 0

    def read(self, asked: Asked, most: int) -> list[tuple[Any, ...]]:
        """What is asked, of the records that are new, and of the newest `most` of them where there are more.

        Raises StoreUnavailable and WrongVersion. Where there is no record file yet, there is nothing.
        """
        if not self._path.exists():
            return []
        with closing(open_reader(self._path)) as connection:
            try:
                return self._read(connection, asked, most)
            except sqlite3.DatabaseError as error:
                raise StoreUnavailable(f"{self._path}: {error}") from error

    def _read(self, connection: sqlite3.Connection, asked: Asked, most: int) -> list[tuple[Any, ...]]:
        last = int(connection.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0])
        if last < self._seen:  # another file under the same name
            self._seen = 0
        first = max(self._seen, last - most)
        new = f"seq > :first AND seq <= :last AND {asked.condition}"
        query = f"SELECT {asked.fields} FROM records WHERE {new} {asked.group}"  # noqa: S608 - own conditions
        values = {"first": first, "last": last, **asked.values}
        found = connection.execute(query, values).fetchall() if first < last else []
        self._seen = last
        return found
