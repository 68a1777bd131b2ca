"""What the control plane must not forget: the enforced version, earlier ones, and where outbound listeners open.

`registry.py` keeps its tables in the same file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
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
_TO_1 = """
BEGIN;
ALTER TABLE outbound RENAME TO outbound_0;
CREATE TABLE outbound (workload TEXT PRIMARY KEY, address TEXT NOT NULL);
INSERT INTO outbound SELECT workload, address FROM outbound_0;
DROP TABLE outbound_0;
ALTER TABLE version ADD COLUMN quarantined TEXT NOT NULL DEFAULT '[]';
PRAGMA user_version = 1;
COMMIT;
"""
# 2: versions say why they are there and how they ended, and are signed. Adding columns touches no row.
_TO_2 = """
BEGIN;
ALTER TABLE version ADD COLUMN previous TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN message TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN git_commit TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN restores INTEGER;
ALTER TABLE version ADD COLUMN confirm_by REAL;
ALTER TABLE version ADD COLUMN falls_back INTEGER;
ALTER TABLE version ADD COLUMN signer TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN signature TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN fate TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN fate_at REAL NOT NULL DEFAULT 0;
ALTER TABLE version ADD COLUMN fate_why TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN fate_signer TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN fate_signature TEXT NOT NULL DEFAULT '';
-- When what a version is compared with ended, and which workloads were healthy then.
CREATE TABLE baseline (number INTEGER PRIMARY KEY, began REAL NOT NULL, healthy TEXT NOT NULL);
PRAGMA user_version = 2;
COMMIT;
"""
_UPGRADES = (_TO_1, _TO_2)
SCHEMA_VERSION = len(_UPGRADES)
# Records name versions; the last ones are kept so that their denials can be explained.
KEPT_VERSIONS = 500
_FIELDS = """number, digest, applied, author, files, slices, quarantined, previous, message, git_commit, restores,
    confirm_by, falls_back, signer, signature, fate, fate_at, fate_why, fate_signer, fate_signature"""
# What a node refused was never enforced.
STANDING = "fate != 'refused'"


class StateError(Exception):
    """The state cannot be read or written; the text says which file and why."""


class UnreadableVersion(StateError):
    """A stored version that is none; the text says which."""


class Fate(StrEnum):
    """What was said of a version after it was stored. What else became of it follows from the versions after it."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature (hex), and the fingerprint of the key that made it."""

    signer: str
    value: str


@dataclass(frozen=True, slots=True)
class End:
    """When a fate was said of a version, and why or by whom."""

    fate: Fate
    at: float
    why: str
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version that was sent to be enforced: `slices` are the digests of each target's rules.

    `quarantined` are the workloads whose allows were taken away from what the files say. `previous` is the digest that
    was enforced before. `restores` is the number of the version that a rollback went back to. A version that awaits its
    confirmation does so until `confirm_by`, and then gives way to the version of the number `falls_back`. `signature`
    is None for versions from before there were signatures.
    """

    number: int
    digest: str
    applied: float
    author: str
    files: Mapping[str, bytes]
    slices: Mapping[str, str]
    quarantined: frozenset[str] = frozenset()
    previous: str = ""
    message: str = ""
    commit: str = ""
    restores: int | None = None
    confirm_by: float | None = None
    falls_back: int | None = None
    signature: Signature | None = None
    end: End | None = None

    @property
    def place(self) -> int:
        """Where it stands in the order in which changes were made: a rollback stands where it went back to."""
        return self.number if self.restores is None else self.restores

    @property
    def awaits(self) -> bool:
        """Whether it was to be confirmed and was not."""
        return self.confirm_by is not None and self.end is None


@dataclass(frozen=True, slots=True)
class Baseline:
    """When a change began to be tried (seconds since 1970), and the workloads that were healthy then."""

    began: float
    healthy: frozenset[str]


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
        if found > SCHEMA_VERSION:
            raise StateError(f"{self._path} was written by a newer Septum; install that, or a later one")
        for upgrade in _UPGRADES[found:]:
            self._db.executescript(upgrade)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def enforce(self, version: Version, also: Iterable[Statement] = ()) -> None:
        """Make a version the enforced one, and carry out what else must happen with it or not at all.

        Its number is `next_number`, or 0 for that. One that was refused is on record and not enforced.
        """
        row = _row(version)
        marks = ", ".join("?" * len(row))
        insert = f"INSERT INTO version ({_FIELDS}) VALUES ({marks})"  # noqa: S608 - own names
        # But never the way back of one that awaits its confirmation.
        forget = """DELETE FROM version WHERE number <= (SELECT max(number) FROM version) - ?
                    AND number NOT IN (SELECT falls_back FROM version WHERE falls_back IS NOT NULL AND fate = '')"""
        forget_baselines = "DELETE FROM baseline WHERE number NOT IN (SELECT number FROM version)"
        self.write((insert, row), (forget, (KEPT_VERSIONS,)), (forget_baselines, ()), *also)

    def next_number(self) -> int:
        """The number that the next version has; none comes back, whatever was dropped."""
        return int(self.rows("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'version'")[0][0])

    def end(self, *ended: tuple[int, End]) -> None:
        """Say what became of the versions of these numbers, of all of them or of none."""
        query = """UPDATE version SET fate = ?, fate_at = ?, fate_why = ?, fate_signer = ?, fate_signature = ?
                   WHERE number = ?"""
        self.write(*((query, (*_end_row(end), number)) for number, end in ended))

    def enforced(self) -> Version | None:
        """The version that was made the enforced one last."""
        return self._one(select(STANDING, "number DESC LIMIT 1"), ())

    def since(self, number: int) -> list[Version]:
        """The versions that were stored after one, in order."""
        return read_versions(self.rows(select("number > ?", "number"), (number,)))

    def with_slice(self, target: str, digest: str, time: float) -> Version | None:
        """The newest version up to a time in which the target had these rules."""
        # `json_extract` paths quote the name, which may hold dashes.
        condition = """json_extract(slices, '$."' || ? || '"') = ?"""
        return self._one(select(condition, "applied <= ? DESC, number DESC LIMIT 1"), (target, digest, time))

    def baseline(self, number: int) -> Baseline | None:
        """How things were before a version that awaits its confirmation."""
        rows = self.rows("SELECT began, healthy FROM baseline WHERE number = ?", (number,))
        return Baseline(rows[0][0], frozenset(json.loads(rows[0][1]))) if rows else None

    def outbound(self) -> dict[str, str]:
        """Workload → address of its outbound listener, for those that do not choose it themselves."""
        return dict(self.rows("SELECT workload, address FROM outbound", ()))

    def set_outbound(self, workload: str, address: str) -> None:
        """Keep where a workload's outbound listener opens, so that it stays from one start to the next."""
        self.write(("INSERT OR REPLACE INTO outbound (workload, address) VALUES (?, ?)", (workload, address)))

    def _one(self, query: str, arguments: tuple[object, ...]) -> Version | None:
        return next(iter(read_versions(self.rows(query, arguments))), None)

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


def select(condition: str, order: str) -> str:
    """The query for versions that meet a condition, for `read_versions`."""
    return f"SELECT {_FIELDS} FROM version WHERE {condition} ORDER BY {order}"  # noqa: S608 - own conditions


def read_versions(rows: Iterable[tuple[Any, ...]]) -> list[Version]:
    """The versions in the rows of `select`. Raises UnreadableVersion for one that Septum did not write so."""
    return [_readable(row) for row in rows]


def baseline_statement(number: int, baseline: Baseline) -> Statement:
    """What keeps how things were before a version that awaits its confirmation."""
    row = (number, baseline.began, json.dumps(sorted(baseline.healthy)))
    return "INSERT OR REPLACE INTO baseline (number, began, healthy) VALUES (?, ?, ?)", row


def _row(version: Version) -> tuple[object, ...]:
    texts = json.dumps({path: content.decode("utf-8") for path, content in version.files.items()})
    slices, quarantined = json.dumps(dict(version.slices)), json.dumps(sorted(version.quarantined))
    what = (version.number or None, version.digest, version.applied, version.author, texts, slices, quarantined)
    why = (version.previous, version.message, version.commit, version.restores, version.confirm_by, version.falls_back)
    return (*what, *why, *_signature_row(version.signature), *_end_row(version.end))


def _end_row(end: End | None) -> tuple[object, ...]:
    return (end.fate, end.at, end.why, *_signature_row(end.signature)) if end else ("", 0.0, "", "", "")


def _signature_row(signature: Signature | None) -> tuple[str, str]:
    return (signature.signer, signature.value) if signature else ("", "")


def _readable(row: tuple[Any, ...]) -> Version:
    try:
        return _version(row)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnreadableVersion(f"version {row[0]} is stored as what no version looks like: {error}") from error


def _version(row: tuple[Any, ...]) -> Version:
    number, digest, applied, author, files, slices, quarantined, *why = row
    previous, message, commit, restores, confirm_by, falls_back, signer, signature, *end = why
    contents = {path: text.encode("utf-8") for path, text in json.loads(files).items()}
    who = frozenset(json.loads(quarantined))
    return Version(
        number, digest, applied, author, contents, json.loads(slices), who, previous, message, commit, restores,
        confirm_by, falls_back, _signature(signer, signature), _end(*end),
    )  # fmt: skip


def _end(fate: str, at: float, why: str, signer: str, signature: str) -> End | None:
    return End(Fate(fate), at, why, _signature(signer, signature)) if fate else None


def _signature(signer: str, value: str) -> Signature | None:
    return Signature(signer, value) if signer or value else None
