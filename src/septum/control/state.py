"""What the control plane must not forget: the enforced version, earlier ones, and where outbound listeners open.

`registry.py` keeps its tables in the same file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS version (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL,
    applied REAL NOT NULL,
    author TEXT NOT NULL,
    files TEXT NOT NULL,
    slices TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outbound (workload TEXT PRIMARY KEY, address TEXT NOT NULL);
"""
# 1: workloads of different nodes may have one address, and versions know who was quarantined.
_UPGRADE = """
BEGIN;
ALTER TABLE outbound RENAME TO outbound_0;
CREATE TABLE outbound (workload TEXT PRIMARY KEY, address TEXT NOT NULL);
INSERT INTO outbound SELECT workload, address FROM outbound_0;
DROP TABLE outbound_0;
ALTER TABLE version ADD COLUMN quarantined TEXT NOT NULL DEFAULT '[]';
PRAGMA user_version = 1;
COMMIT;
"""
_SCHEMA_VERSION = 1
# Records name versions; the last ones are kept so that their denials can be explained.
KEPT_VERSIONS = 500


class StateError(Exception):
    """The state cannot be read or written; the text says which file and why."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version that was enforced: `slices` are the digests of each target's rules.

    `quarantined` are the workloads whose allows were taken away from what the files say.
    """

    number: int
    digest: str
    applied: float
    author: str
    files: Mapping[str, bytes]
    slices: Mapping[str, str]
    quarantined: frozenset[str] = frozenset()


Statement = tuple[str, tuple[object, ...]]


class State:
    """The state of one control plane, in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
            self._upgrade()
        except sqlite3.Error as error:
            raise StateError(f"{path}: {error}") from error

    def _upgrade(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > _SCHEMA_VERSION:
            raise StateError(f"{self._path} was written by a newer Septum; install that, or a later one")
        if found < _SCHEMA_VERSION:
            self._db.executescript(_UPGRADE)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def enforce(self, version: Version, also: Iterable[Statement] = ()) -> None:
        """Make a version the enforced one, and carry out what else must happen with it or not at all."""
        texts = json.dumps({path: content.decode("utf-8") for path, content in version.files.items()})
        slices, quarantined = json.dumps(dict(version.slices)), json.dumps(sorted(version.quarantined))
        row = (version.digest, version.applied, version.author, texts, slices, quarantined)
        insert = "INSERT INTO version (digest, applied, author, files, slices, quarantined) VALUES (?, ?, ?, ?, ?, ?)"
        forget = "DELETE FROM version WHERE number <= (SELECT max(number) FROM version) - ?"
        self.write((insert, row), (forget, (KEPT_VERSIONS,)), *also)

    def take_back(self, digest: str) -> None:
        """Forget the newest version, if it has this digest: no node ever held it."""
        newest = "DELETE FROM version WHERE number = (SELECT max(number) FROM version) AND digest = ?"
        self.write((newest, (digest,)))

    def enforced(self) -> Version | None:
        """The version that was made the enforced one last."""
        return self._one("SELECT * FROM version ORDER BY number DESC LIMIT 1", ())

    def with_slice(self, target: str, digest: str, time: float) -> Version | None:
        """The newest version up to a time in which the target had these rules."""
        # `json_extract` paths quote the name, which may hold dashes.
        query = """SELECT * FROM version WHERE json_extract(slices, '$."' || ? || '"') = ?
                   ORDER BY applied <= ? DESC, number DESC LIMIT 1"""
        return self._one(query, (target, digest, time))

    def outbound(self) -> dict[str, str]:
        """Workload → address of its outbound listener, for those that do not choose it themselves."""
        return dict(self.rows("SELECT workload, address FROM outbound", ()))

    def set_outbound(self, workload: str, address: str) -> None:
        """Keep where a workload's outbound listener opens, so that it stays from one start to the next."""
        self.write(("INSERT OR REPLACE INTO outbound (workload, address) VALUES (?, ?)", (workload, address)))

    def _one(self, query: str, arguments: tuple[object, ...]) -> Version | None:
        rows = self.rows(query, arguments)
        if not rows:
            return None
        number, digest, applied, author, files, slices, quarantined = rows[0]
        contents = {path: text.encode("utf-8") for path, text in json.loads(files).items()}
        who = frozenset(json.loads(quarantined))
        return Version(number, digest, applied, author, contents, json.loads(slices), who)

    def rows(self, query: str, arguments: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query answers. Raises StateError."""
        try:
            return self._db.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise StateError(f"{self._path}: {error}") from error

    def write(self, *statements: Statement) -> None:
        """Carry out all of the statements, or none of them. Raises StateError."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for query, arguments in statements:
                    self._db.execute(query, arguments)
        except sqlite3.Error as error:
            raise StateError(f"{self._path}: {error}") from error
