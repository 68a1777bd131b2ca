"""What recorded traffic used of a policy's rules, and of each of their operations. One pass over the record.

A call that was allowed is a use, also where its target is observed; one that no rule allowed is none.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from septum.audit.schema import StoreUnavailable, open_reader
from septum.audit.traffic import kind_of
from septum.model.mesh import Target
from septum.model.operation import HttpPattern, PathPattern
from septum.model.policy import Policy, Rule
from septum.policy.decide import is_health, path_covers
from septum.policy.upkeep.cuts import stem
from septum.verify.coverage import CONNECT, written

# Of how many kinds of calls of one operation a count is kept.
_MOST_KINDS = 1000

# By rule and by the text of an operation.
Key = tuple[str, str]
LookedAt = Callable[[HttpPattern], bool]


@dataclass(frozen=True, slots=True)
class Use:
    """How many recorded calls an operation allowed, and when the first and the last of them began."""

    hits: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Usage:
    """The uses since a moment, by rule and operation; what was not used is not there.

    `begins` is when the oldest record of all began, None without any. `lost` is how many decisions are known to be
    lost. `seen` has the calls of the operations that were asked about, with IDs in their paths replaced.
    """

    since: float
    begins: float | None
    records: int
    lost: int
    operations: Mapping[Key, Use]
    seen: Mapping[Key, Counter[str]] = field(default_factory=dict)

    @property
    def covers(self) -> bool:
        """Whether the record goes back to the moment."""
        return self.begins is not None and self.begins <= self.since

    def of_rule(self, rule: Rule) -> Use | None:
        """The use of all operations of a rule together; None where there is none."""
        uses = [use for text in written(rule) if (use := self.operations.get((rule.id, text)))]
        if not uses:
            return None
        return Use(sum(use.hits for use in uses), min(use.first for use in uses), max(use.last for use in uses))


# How many records there are, how old the oldest is, and how many are known to be missing.
_WHOLE = "SELECT min(time), (SELECT count(*) FROM records WHERE time >= ?) FROM records"
_LOST = "SELECT coalesce(sum(expected - written), 0) FROM losses"
_ALLOWED = "SELECT rule, target, protocol, method, path, time, open FROM records WHERE time >= ? AND rule != ''"


def usage(path: Path, policy: Policy, since: float, looked_at: LookedAt | None = None) -> Usage:
    """The uses of a policy's rules since a moment (seconds since 1970), by the record file at a path.

    A use counts for each operation of the rule that covers the call. Unnamed rules of the same selectors are told apart
    by their operations alone, since their numbers change when one of them goes. Of the operations that are `looked_at`
    the calls are kept. Raises StoreUnavailable and WrongVersion.
    """
    with closing(open_reader(path)) as connection:
        try:
            # One transaction, so that the parts are of one moment.
            connection.execute("BEGIN")
            begins, records = connection.execute(_WHOLE, (since,)).fetchone()
            lost = connection.execute(_LOST).fetchone()[0]
            counted = _counted(connection.execute(_ALLOWED, (since,)), policy, looked_at)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{path}: {error}") from error
    uses = {key: Use(max(1, one.hits), one.first, one.last) for key, one in counted.items() if one.last > -math.inf}
    seen = {key: one.seen for key, one in counted.items() if one.seen is not None}
    return Usage(since, begins, records, lost, uses, seen)


@dataclass(slots=True)
class _Count:
    """The uses of one operation while they are counted."""

    hits: int = 0
    first: float = math.inf
    last: float = -math.inf
    seen: Counter[str] | None = None


# On one target: the methods and the paths that an operation covers, and its count.
_Way = tuple[frozenset[str], Callable[[str], Any], _Count]


def _counted(rows: Iterator[tuple[Any, ...]], policy: Policy, looked_at: LookedAt | None) -> dict[Key, _Count]:
    counts, found = ways(policy, looked_at)
    for rule, target, protocol, method, path, time, open in rows:
        for methods, covers, count in found.get((rule, target), ()) or found.get((stem(rule), target), ()):
            if method in methods and covers(path):
                # A call that lasts has an earlier record that says so, and is one call.
                count.hits += 1 - open
                if time < count.first:  # noqa: PLR1730 - a call of min() takes as long as the rest of it
                    count.first = time
                if time > count.last:  # noqa: PLR1730
                    count.last = time
                if count.seen is not None and not open:
                    _see(count.seen, kind_of(protocol, method, path))
    return counts


def ways(policy: Policy, looked_at: LookedAt | None) -> tuple[dict[Key, _Count], dict[Key, list[_Way]]]:
    """The counts of all operations, and by which calls each goes up.

    Those are by the rule's name, without its number if it has none of its own, and the target.
    """
    counts: dict[Key, _Count] = {}
    found: dict[Key, list[_Way]] = {}
    for rule in policy.rules:
        for name in rule.targets:
            known = found.setdefault((stem(rule.id), name), [])
            known += _of_rule(rule, policy.mesh.targets[name], counts, looked_at)
    return counts, found


def _of_rule(rule: Rule, target: Target, counts: dict[Key, _Count], looked_at: LookedAt | None) -> Iterator[_Way]:
    if rule.operations is None:
        yield frozenset({CONNECT}), _anything, counts.setdefault((rule.id, CONNECT), _Count())
    for pattern in {pattern.text: pattern for pattern in rule.operations or ()}.values():
        count = counts.setdefault((rule.id, pattern.text), _Count())
        if looked_at is not None and looked_at(pattern) and count.seen is None:
            count.seen = Counter()
        yield frozenset(pattern.methods), _covering(pattern, target), count


def _anything(path: str) -> bool:
    """A session has no path."""
    return not path


def _covering(pattern: HttpPattern, target: Target) -> Callable[[str], Any]:
    """Whether a pattern covers a path of a target, as `path_covers` says, and faster."""
    matches = _expression(pattern.path, target.ignore_case).fullmatch
    if target.health is None or bool(matches(target.health)) == path_covers(pattern, target, target.health):
        return matches
    return lambda path: matches(path) and not is_health(target, path)


def _expression(path: PathPattern, ignore_case: bool) -> re.Pattern[str]:
    words = ["[^/]+" if segment is None else re.escape(segment) for segment in path.segments]
    if path.tail:
        text = "".join(f"/{word}" for word in words) + "(?:/.*)?" if words else "/.*"
    else:
        text = "/" + "/".join(words)
    return re.compile(text, re.DOTALL | re.ASCII | (re.IGNORECASE if ignore_case else 0))


def _see(seen: Counter[str], kind: str) -> None:
    if kind in seen or len(seen) < _MOST_KINDS:
        seen[kind] += 1


def most_used(seen: Counter[str], most: int) -> Sequence[tuple[str, int]]:
    """The operations that were called most, the first of them in order where two are even."""
    return sorted(seen.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
