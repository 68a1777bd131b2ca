"""The versions that were stored, found by what people call them; from any process, with a control plane or without."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from septum.control.state import SCHEMA_VERSION, STANDING, Fate, StateError, Version, read_versions, select

ENFORCED, PREVIOUS = "enforced", "previous"
# The author of what the control plane does by itself.
AUTOMATIC = "septum, by itself"
_DIGEST = re.compile("[0-9a-f]{4,64}")
_NUMBER = re.compile("#?[0-9]{1,18}")

# A query with its values, to its rows.
Rows = Callable[[str, tuple[object, ...]], Sequence[tuple[Any, ...]]]


class AmbiguousVersion(LookupError):
    """Several versions begin so; the text names them."""


class Ended(StrEnum):
    """How a version ended, or that it has not. PROVISIONAL is enforced, and awaits its confirmation."""

    ENFORCED = "enforced"
    PROVISIONAL = "provisional"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled back"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """A version and what became of it: when (seconds since 1970), by whom and why, as far as it has ended.

    `confirmed` is when it was confirmed, if it had to be.
    """

    version: Version
    ended: Ended
    at: float | None = None
    by: str = ""
    why: str = ""
    confirmed: float | None = None


class Versions:
    """Reads and never writes. Raises StateError when the state cannot be read."""

    def __init__(self, rows: Rows, close: Callable[[], None] = lambda: None) -> None:
        self._rows, self.close = rows, close

    @classmethod
    def open(cls, state_dir: Path) -> Versions:
        """The versions of a state directory, whether a control plane runs there or not. To be closed."""
        path = state_dir / "state.db"
        try:
            # `mode=ro` makes no file, and leaves the control plane's alone.
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
            found = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise StateError(f"{path}: {error}") from error
        if found != SCHEMA_VERSION:
            db.close()
            older = "an older Septum, and is brought up to date when its control plane starts"
            raise StateError(f"{path} was written by {older if found < SCHEMA_VERSION else 'a newer Septum'}")

        def rows(query: str, values: tuple[object, ...]) -> Sequence[tuple[Any, ...]]:
            try:
                return db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StateError(f"{path}: {error}") from error

        return cls(rows, db.close)

    def __enter__(self) -> Versions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, ref: str) -> Version | None:
        """The version that is called so: `enforced`, `previous`, a number, or the beginning of a digest (4 digits).

        Of several of one digest it is the newest. Raises AmbiguousVersion where several digests begin so.
        """
        if ref == ENFORCED:
            return self._first(STANDING, ())
        if ref == PREVIOUS:
            return self.previous()
        if _NUMBER.fullmatch(ref) and (found := self._first("number = ?", (int(ref.removeprefix("#")),))):
            return found
        return self._by_digest(ref) if _DIGEST.fullmatch(ref) else None

    def previous(self) -> Version | None:
        """What a rollback goes back to: the newest before the enforced one that says something else.

        One that was rolled back is passed over, also when several were, one after the other. A version that awaits its
        confirmation gives way to the one that it names.
        """
        enforced = self._first(STANDING, ())
        if enforced is None:
            return None
        if enforced.awaits and enforced.falls_back is not None:
            return self._first("number = ?", (enforced.falls_back,))
        older = self._back("number < ? AND " + STANDING, (enforced.place,))
        return next((version for version in older if version.files != enforced.files), None)

    def history(self, limit: int | None = None) -> list[Entry]:
        """The newest versions and what became of each, newest first."""
        rows = self._rows(select("1", "number DESC LIMIT ?"), (-1 if limit is None else limit,))
        newest_first = read_versions(rows)
        return [_entry(version, newest_first[:n]) for n, version in enumerate(newest_first)]

    def entry(self, version: Version) -> Entry:
        """What became of one version."""
        return _entry(version, read_versions(self._rows(select("number > ?", "number DESC"), (version.number,))))

    def last_rollback(self) -> Version | None:
        """The last version that the control plane went back to by itself."""
        return self._first(f"restores IS NOT NULL AND author = ? AND {STANDING}", (AUTOMATIC,))

    def _by_digest(self, ref: str) -> Version | None:
        # Digests are hexadecimal, so no LIKE pattern can hide in one.
        found = self._rows("SELECT DISTINCT digest FROM version WHERE digest LIKE ?", (f"{ref}%",))
        if len(found) > 1:
            names = ", ".join(sorted(row[0][:16] for row in found))
            raise AmbiguousVersion(f"several versions begin with {ref}: {names}")
        return self._first("digest = ?", found[0]) if found else None

    def _first(self, condition: str, values: tuple[object, ...]) -> Version | None:
        rows = self._rows(select(condition, "number DESC LIMIT 1"), values)
        return next(iter(read_versions(rows)), None)

    def _back(self, condition: str, values: tuple[object, ...]) -> Iterator[Version]:
        """Versions from the newest to the oldest, each read when it is asked for: their files may be large."""
        numbers = self._rows(f"SELECT number FROM version WHERE {condition} ORDER BY number DESC", values)  # noqa: S608 - own conditions
        for (number,) in numbers:
            yield from filter(None, [self._first("number = ?", (number,))])


def _entry(version: Version, newer: Sequence[Version]) -> Entry:
    """What became of a version, by those after it (the newest first)."""
    end = version.end
    if end is not None and end.fate is Fate.REFUSED:
        return Entry(version, Ended.REFUSED, end.at, why=end.why)
    confirmed = end.at if end is not None else None
    after = [other for other in reversed(newer) if not _was_refused(other)]
    # What stands beside the files changed, and the files went on: that ends nothing.
    followed = next((other for other in after if other.files != version.files or other.place < version.place), None)
    if not after:
        ended = Ended.PROVISIONAL if version.awaits else Ended.ENFORCED
        return Entry(version, ended, confirmed=confirmed)
    if followed is not None and followed.place < version.place:
        return Entry(version, Ended.ROLLED_BACK, followed.applied, followed.author, followed.message, confirmed)
    return Entry(version, Ended.REPLACED, after[0].applied, after[0].author, confirmed=confirmed)


def _was_refused(version: Version) -> bool:
    return version.end is not None and version.end.fate is Fate.REFUSED
