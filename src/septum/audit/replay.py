"""Recorded requests that one policy decides and another decides differently, were they asked again now.

Of a token only its issuer is on record. Where other claims decide, or might, the answer is that it depends on them.
Both policies are asked about the same moment, `now`: a rule that is over does not count, nor does one yet to begin.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septum.audit.deciding import Count, Deciding, Pair
from septum.audit.schema import StoreUnavailable, open_reader
from septum.model.policy import Policy
from septum.plan.replayed import Group, Now, Replay
from septum.verify.diff import Diff
from septum.verify.passing import Kind

# Rows that are fetched at a time.
_PAGE = 10_000
# How the reasons of denials start about which no rules were asked, so that no other rules would help.
UNDECIDED = ("the connection was turned away", "the session was stopped", "not delivered: ", "misdirected: ")


def replay(path: Path, old: Policy, new: Policy, found: Diff, since: float, now: float) -> Replay:
    """Ask both policies about what a record file has. `found` is their difference, which says where to look.

    Raises StoreUnavailable and WrongVersion.
    """
    connection = open_reader(path)
    try:
        oldest = connection.execute("SELECT min(time) FROM records").fetchone()[0]
        counted = connection.execute("SELECT count(*) FROM records WHERE time >= ?", (since,)).fetchone()[0]
        scope = _Scope.of(old, new, found)
        groups = list(_replayed(connection, scope, Deciding(old, new, now), since)) if scope else []
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    finally:
        connection.close()
    order = list(Now).index
    ordered = sorted(groups, key=lambda group: (order(group.now), -group.count, group.caller, group.target))
    return Replay(since, oldest, counted, tuple(ordered))


@dataclass(frozen=True, slots=True)
class _Scope:
    """The callers and targets between whom something may be decided differently."""

    pairs: frozenset[tuple[str, str]]
    callers: frozenset[str]
    targets: frozenset[str]

    @classmethod
    def of(cls, old: Policy, new: Policy, found: Diff) -> _Scope:
        rows = (*found.allowed, *found.denied)
        pairs = frozenset((caller, target) for row in rows for caller in row.callers for target in row.targets)
        whole = {shift.name for shift in found.shifts}
        who = whole & {shift.name for shift in found.shifts if shift.kind in (Kind.QUARANTINED, Kind.RELEASED)}
        callers = who | (old.mesh.workloads.keys() ^ new.mesh.workloads.keys())
        return cls(pairs, frozenset(callers), frozenset(whole))

    def __bool__(self) -> bool:
        return bool(self.pairs or self.callers or self.targets)

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair[0] in self.callers or pair[1] in self.targets or pair in self.pairs

    def terms(self) -> tuple[str, tuple[object, ...]]:
        """What SQLite may leave out by itself, as a condition and its values."""
        if self.callers:
            return "", ()
        targets = sorted(self.targets | {target for _, target in self.pairs})
        return " AND target IN (SELECT value FROM json_each(?))", (json.dumps(targets),)


def _replayed(connection: sqlite3.Connection, scope: _Scope, deciding: Deciding, since: float) -> Iterator[Group]:
    """Look through the records. A long call has one while it is open and one at its end, and is counted once."""
    pairs: dict[tuple[str, str], Pair | None] = {}
    opened: set[tuple[float, str, str, str]] = set()
    for rows in _pages(connection, scope, since):
        for time, caller, target, protocol, method, path, issuer, is_open in rows:
            names = (caller, target)
            if names not in pairs:
                pairs[names] = deciding.pair(caller, target) if names in scope else None
            pair = pairs[names]
            if pair is None:
                continue
            if is_open or opened:
                call = (time, caller, target, path)
                if call in opened:
                    continue
                if is_open:
                    opened.add(call)
            count = pair.count(protocol, method, path, issuer)
            if count is not None:
                count.add(time, path)
    return (group for names, pair in pairs.items() if pair is not None for group in _groups(names, pair))


def _groups(names: tuple[str, str], pair: Pair) -> Iterator[Group]:
    """What was counted, by the operation as it is shown."""
    together: dict[tuple[str, Now], Count] = {}
    for count in pair.counts:
        key = (count.operation, count.now)
        together[key] = count.and_(together[key]) if key in together else count
    for count in together.values():
        yield Group(*names, count.operation, count.now, count.number, count.first, count.last, count.example)


def _pages(connection: sqlite3.Connection, scope: _Scope, since: float) -> Iterator[list[tuple[Any, ...]]]:
    fields = "time, caller, target, protocol, method, path, jwt_issuer, open"
    undecided = " OR ".join("reason GLOB ?" for _ in UNDECIDED)
    condition, values = scope.terms()
    where = f"time >= ?{condition} AND NOT (would_be = 'deny' AND ({undecided}))"
    bound = (since, *values, *(f"{reason}*" for reason in UNDECIDED))
    cursor = connection.execute(f"SELECT {fields} FROM records WHERE {where}", bound)  # noqa: S608 - values are bound
    while rows := cursor.fetchmany(_PAGE):
        yield rows
