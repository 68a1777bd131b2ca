"""Where a candidate and the policy said different things of recorded calls, in groups of calls of one kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from septum.audit.outcome import DENY
from septum.audit.query import APART
from septum.audit.schema import StoreUnavailable, open_reader
from septum.audit.traffic import kind_of

# A call that lasts has a record while it is open and another when it ends, and is one call.
_ONCE = """NOT (open = 1 AND EXISTS (SELECT 1 FROM records AS ended
    WHERE ended.time = records.time AND ended.request_id = records.request_id AND ended.open = 0))"""
_ASKED = f"candidate_version = ? AND candidate != '' AND time >= ? AND {_ONCE}"
_KEY = "caller, target, protocol, method, path, mode, would_be, rule, candidate, candidate_rule"
# The fields of a Difference that tell it from others.
_Kind = tuple[str, str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Calls of one kind about which the two say different things. `policy` and `candidate` are `allow` or `deny`.

    The rules are those that allow. `mode` is the target's: what an observed one denies passes all the same.
    """

    caller: str
    target: str
    operation: str
    mode: str
    policy: str
    rule: str
    candidate: str
    candidate_rule: str
    calls: int
    last: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the record says of one candidate. `first` and `last` are of the calls about which it was asked.

    Without a `version`, no candidate was asked about anything.
    """

    version: str = ""
    first: float | None = None
    last: float | None = None
    agreed: int = 0
    newly_denied: tuple[Difference, ...] = ()
    newly_allowed: tuple[Difference, ...] = ()

    @property
    def apart(self) -> int:
        """About how many calls the two differ."""
        return sum(one.calls for one in (*self.newly_denied, *self.newly_allowed))


def compare(path: Path, since: float = 0.0, version: str = "") -> Comparison:
    """Compare over the calls that began at `since` or later, for the candidate that was asked last.

    Or, with a version, for the last one whose version begins so. Where there is no record file yet, nothing was asked.
    Raises StoreUnavailable and WrongVersion.
    """
    if not path.exists():
        return Comparison()
    with closing(open_reader(path)) as connection:
        try:
            return _compare(connection, since, _latest(connection, version))
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{path}: {error}") from error


def _latest(connection: sqlite3.Connection, version: str) -> str:
    begins = "candidate != '' AND substr(candidate_version, 1, length(?)) = ?"
    newest = f"SELECT candidate_version FROM records WHERE {begins} ORDER BY seq DESC LIMIT 1"  # noqa: S608 - own names
    row = connection.execute(newest, (version, version)).fetchone()
    return str(row[0]) if row else version


def _compare(connection: sqlite3.Connection, since: float, version: str) -> Comparison:
    if not version:
        return Comparison()
    counted = f"SELECT min(time), max(time), count(*) FROM records WHERE {_ASKED}"  # noqa: S608 - own names
    first, last, asked = connection.execute(counted, (version, since)).fetchone()
    apart = f"SELECT {_KEY}, count(*), max(time) FROM records WHERE {_ASKED} AND {APART} GROUP BY {_KEY}"  # noqa: S608 - own names
    found = _gathered(connection.execute(apart, (version, since)))
    denied = tuple(one for one in found if one.candidate == DENY)
    allowed = tuple(one for one in found if one.candidate != DENY)
    compared = Comparison(version, first, last, 0, denied, allowed)
    return replace(compared, agreed=asked - compared.apart)


def _gathered(rows: Iterable[tuple[Any, ...]]) -> list[Difference]:
    """Calls of one kind together, the most frequent first."""
    found: dict[_Kind, tuple[int, float]] = {}
    for caller, target, protocol, method, path, mode, policy, rule, candidate, by, calls, last in rows:
        key = (caller, target, kind_of(protocol, method, path), mode, policy, rule, candidate, by)
        before, newest = found.get(key, (0, last))
        found[key] = (before + calls, max(newest, last))
    made = [Difference(*key, *counted) for key, counted in found.items()]
    return sorted(made, key=lambda one: (-one.calls, one.caller, one.target, one.operation))
