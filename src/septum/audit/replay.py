"""Recorded requests that one policy decides and another decides differently, were they asked again now.

Of a token only its issuer is on record. Where other claims decide, or might, the answer is that it depends on them.
Both policies are asked about the same moment, `now`: a rule that is over does not count, nor does one yet to begin.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from septum.audit.schema import StoreUnavailable, open_reader
from septum.audit.traffic import kind_of
from septum.model.claims import When
from septum.model.mesh import Mode, Protocol, Target
from septum.model.operation import ConnectOperation, HttpOperation, Operation
from septum.model.policy import Policy, Rule
from septum.plan.replayed import Group, Now, Replay
from septum.policy.ask import http_operation
from septum.policy.decide import opens
from septum.verify import region
from septum.verify.diff import Diff
from septum.verify.passing import Kind

# Rows that are fetched at a time.
_PAGE = 10_000
# What canonical paths are without, and what rules look at beside segments (`;`).
_NOT_CANONICAL = re.compile(r'[%\\#"<>^`{|};]|//|/\.')
# A segment that no rule of a pair spells out.
_ANY = "\x00"
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
        groups = list(_replayed(connection, scope, _Deciding(old, new, now), since)) if scope else []
    except sqlite3.OperationalError as error:
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


def _replayed(connection: sqlite3.Connection, scope: _Scope, deciding: _Deciding, since: float) -> Iterator[Group]:
    """Look through the records. A long call has one while it is open and one at its end, and is counted once."""
    pairs: dict[tuple[str, str], _Pair | None] = {}
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


def _groups(names: tuple[str, str], pair: _Pair) -> Iterator[Group]:
    """What was counted, by the operation as it is shown."""
    together: dict[tuple[str, Now], _Count] = {}
    for count in pair.counts:
        key = (count.operation, count.now)
        together[key] = count.and_(together[key]) if key in together else count
    for count in together.values():
        yield Group(*names, count.operation, count.now, count.number, count.first, count.last, count.example)


class _Count:
    """Requests of a kind: how many, from when to when, and the path of the last."""

    __slots__ = ("example", "first", "last", "now", "number", "operation")

    def __init__(self, operation: str, now: Now) -> None:
        self.operation, self.now = operation, now
        self.number, self.first, self.last, self.example = 0, math.inf, -math.inf, ""

    def add(self, time: float, path: str) -> None:
        """One more."""
        self.number += 1
        if time >= self.last:
            self.last, self.example = time, path
        self.first = min(self.first, time)

    def and_(self, other: _Count) -> _Count:
        """Both together."""
        both = _Count(self.operation, self.now)
        both.number, both.first = self.number + other.number, min(self.first, other.first)
        later = self if self.last >= other.last else other
        both.last, both.example = later.last, later.example
        return both


def _pages(connection: sqlite3.Connection, scope: _Scope, since: float) -> Iterator[list[tuple[Any, ...]]]:
    fields = "time, caller, target, protocol, method, path, jwt_issuer, open"
    undecided = " OR ".join("reason GLOB ?" for _ in UNDECIDED)
    condition, values = scope.terms()
    where = f"time >= ?{condition} AND NOT (would_be = 'deny' AND ({undecided}))"
    bound = (since, *values, *(f"{reason}*" for reason in UNDECIDED))
    cursor = connection.execute(f"SELECT {fields} FROM records WHERE {where}", bound)  # noqa: S608 - values are bound
    while rows := cursor.fetchmany(_PAGE):
        yield rows


class _Deciding:
    """Two policies at one moment."""

    def __init__(self, old: Policy, new: Policy, now: float) -> None:
        self._sides = (_Side(old, now), _Side(new, now))

    def pair(self, caller: str, target: str) -> _Pair | None:
        """A caller and a target, or None when neither policy knows both."""
        sides = tuple(side.open(caller, target) for side in self._sides)
        known = next((one.target for one in reversed(sides) if one.target is not None), None)
        return None if known is None else _Pair(sides[0], sides[1], known)


class _Side:
    """One policy at one moment; it keeps which rules to a target name whom."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy, self._now = policy, now
        self._named: dict[str, Mapping[str, list[Rule]]] = {}

    def open(self, caller: str, target: str) -> _Open:
        """What is open from a caller to a target."""
        known = self._policy.mesh.target(target)
        if known is None or caller not in self._policy.mesh.workloads:
            return _Open(None)
        if {caller, target} & self._policy.quarantined:
            return _Open(known)
        if target not in self._named:
            self._named[target] = self._by_caller(self._policy.rules_to[target])
        rules = tuple(self._named[target].get(caller, ()))
        return _Open(known, rules, observed=self._policy.mesh.mode(known) is Mode.OBSERVE)

    def _by_caller(self, rules: Iterable[Rule]) -> Mapping[str, list[Rule]]:
        named: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.window is None or rule.window.holds(self._now):
                for caller in rule.callers:
                    named.setdefault(caller, []).append(rule)
        return named


# Under which conditions something is open: None among them is under none at all.
_Whens = frozenset[When | None]


class _Open(NamedTuple):
    """The rules by which one policy opens a target for a caller, and whether everything passes anyway."""

    target: Target | None
    rules: tuple[Rule, ...] = ()
    observed: bool = False

    def whens(self, operation: Operation, issuer: str) -> _Whens:
        """The conditions under which rules allow an operation, with a token of an issuer (empty: nothing is known)."""
        if self.target is None:
            return frozenset()
        opening = (rule.when for rule in self.rules if opens(rule, self.target, operation))
        return frozenset(when for when in opening if when is None or not issuer or issuer in when.issuers)


# How many kinds of operations of a pair are told apart, and the name of the others.
_MOST = 1_000
_OTHERS = "(other operations)"


@dataclass(slots=True)
class _Pair:
    """A caller and a target in both policies. Requests that no rule can tell apart are decided once."""

    old: _Open
    new: _Open
    target: Target
    _spelled: set[str] = field(default_factory=set)
    _folds: bool = False
    _counts: dict[tuple[str, str, str, str], _Count | None] = field(default_factory=dict)
    _others: dict[Now, _Count] = field(default_factory=dict)
    _known: dict[tuple[str, str, str, tuple[str, ...]], Now | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        targets = [side.target for side in (self.old, self.new) if side.target is not None]
        self._folds = any(target.ignore_case for target in targets)
        paths = [target.health[1:].split("/") for target in targets if target.health]
        patterns = (p for side in (self.old, self.new) for rule in side.rules for p in rule.operations or ())
        spelled = [*(part for path in paths for part in path), *(part for p in patterns for part in p.path.segments)]
        self._spelled = {part.lower() if self._folds else part for part in spelled if part is not None} | {""}

    @property
    def counts(self) -> list[_Count]:
        """What was counted."""
        return list(dict.fromkeys(count for count in (*self._counts.values(), *self._others.values()) if count))

    def count(self, protocol: str, method: str, path: str, issuer: str) -> _Count | None:
        """Where a request is counted, or None when both policies decide it alike."""
        spelled = self._spelled
        # Invariant: what looks like an ID and is not spelled out by a rule is as good as any other ID.
        parts = [s if s in spelled else "{id}" if s.isdigit() else self._part(s) for s in path.split("/")]
        kind = (protocol, method, issuer, "/".join(parts))
        try:
            return self._counts[kind]
        except KeyError:
            return self._first(kind, path)

    def _part(self, text: str) -> str:
        short = len(text) < 16 and text.isalpha()
        known = short or (self._folds and text.lower() in self._spelled)
        return text if known or kind_of("grpc", "", text) == text else "{id}"

    def _first(self, kind: tuple[str, str, str, str], path: str) -> _Count | None:
        """The same for the first request of a kind."""
        protocol, method, issuer, shown = kind
        became = self._alike(protocol, method, path, issuer)
        if became is None:
            count = None
        elif len(self._counts) < _MOST:
            count = _Count(kind_of(protocol, method, shown), became)
        else:
            count = self._others.setdefault(became, _Count(_OTHERS, became))
        if len(self._counts) < 100 * _MOST:
            self._counts[kind] = count
        return count

    def _alike(self, protocol: str, method: str, path: str, issuer: str) -> Now | None:
        """What would become of a request now, asked once of those that no rule tells apart."""
        if _NOT_CANONICAL.search(path):
            return self._became(protocol, method, path, issuer)
        # Invariant: paths with equal keys match the same patterns, since those tell apart no more than what is spelled.
        parts = [part if (part.lower() if self._folds else part) in self._spelled else _ANY for part in path.split("/")]
        key = (protocol, method, issuer, tuple(parts))
        if key not in self._known:
            self._known[key] = self._became(protocol, method, path, issuer)
        return self._known[key]

    def _became(self, protocol: str, method: str, path: str, issuer: str) -> Now | None:
        if protocol == "tcp" and self.target.protocol is not Protocol.TCP:
            return None  # a tunnel into the proxy: what is asked inside has its own records
        operation = _operation(protocol, method, path)
        before, after = self.old.whens(operation, issuer), self.new.whens(operation, issuer)
        if self.old.observed and self.new.observed:
            return _WOULD[_difference(before, after)]
        return _difference(_ALL if self.old.observed else before, _ALL if self.new.observed else after)


_ALL: _Whens = frozenset((None,))
_WOULD = {
    None: None,
    Now.DENIED: Now.WOULD_BE_DENIED,
    Now.ALLOWED: Now.WOULD_BE_ALLOWED,
    Now.UNKNOWN: Now.UNKNOWN,
}


def _difference(before: _Whens, after: _Whens) -> Now | None:
    if before == after or (None in before and None in after):
        return None
    if None in before and not after:
        return Now.DENIED
    if None in after and not before:
        return Now.ALLOWED
    one, other = _tokens(before), _tokens(after)
    return Now.UNKNOWN if one - other or other - one else None


def _tokens(whens: _Whens) -> region.Region:
    """The tokens that pass."""
    return region.union(region.under(when, None) for when in whens)


def _operation(protocol: str, method: str, path: str) -> Operation:
    if protocol == "tcp":
        return ConnectOperation()
    operation = http_operation(method, path)
    opened = protocol == "websocket" and isinstance(operation, HttpOperation)
    return replace(operation, websocket=True) if opened and isinstance(operation, HttpOperation) else operation
