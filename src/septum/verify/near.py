"""Which patterns of rules may have requests in common, found without comparing each with each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from septum.model.claims import When, implies
from septum.model.mesh import Target
from septum.model.operation import HttpPattern, PathPattern
from septum.model.policy import Rule
from septum.model.window import Window
from septum.policy.decide import pattern_covers


class Entry(NamedTuple):
    """One pattern of a rule, with the rule's conditions; None for `connect`. Who may ask is not part of it."""

    rule: Rule
    pattern: HttpPattern | None

    @property
    def meaning(self) -> tuple[HttpPattern | None, When | None, Window | None]:
        """What decides."""
        return self.pattern, self.rule.when, self.rule.window

    def __str__(self) -> str:
        return f"{'connect' if self.pattern is None else self.pattern.text} ({self.rule.id})"


def covers(wide: Entry, narrow: Entry, target: Target) -> bool:
    """Whether one entry plainly allows all that another does on a target. That it does not say so decides nothing."""
    if wide.rule.window not in (None, narrow.rule.window) or not implies(narrow.rule.when, wide.rule.when):
        return False
    if wide.pattern is None or narrow.pattern is None:
        return wide.pattern is narrow.pattern
    methods = set(narrow.pattern.methods) <= set(wide.pattern.methods)
    return methods and pattern_covers(wide.pattern, narrow.pattern, target)


class Near:
    """Entries by what their paths begin with. Two that are not near each other have no request in common."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._at: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._below: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, entry: Entry) -> None:
        """One entry more, at the next place."""
        place, beginning = len(self._entries), _beginning(entry)
        self._entries.append(entry)
        self._at[beginning].append(place)
        for length in range(len(beginning) + 1):
            self._below[beginning[:length]].append(place)

    def places(self, entry: Entry) -> list[int]:
        """The places of the entries that are near, in ascending order."""
        beginning = _beginning(entry)
        above = (self._at.get(beginning[:length], ()) for length in range(len(beginning)))
        found = [place for places in (*above, self._below.get(beginning, ())) for place in places]
        return sorted(place for place in found if _meet(entry, self._entries[place]))

    def __getitem__(self, place: int) -> Entry:
        return self._entries[place]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)


def _beginning(entry: Entry) -> tuple[str, ...]:
    """The leading segments that are spelled out. Their case may count or not, so it does not count here."""
    if entry.pattern is None:
        return ()
    written = takewhile(lambda segment: segment is not None, entry.pattern.path.segments)
    return tuple(segment.lower() for segment in written if segment is not None)


def _meet(one: Entry, other: Entry) -> bool:
    if one.pattern is None or other.pattern is None:
        return one.pattern is other.pattern
    return not set(one.pattern.methods).isdisjoint(other.pattern.methods) and _paths_meet(
        one.pattern.path, other.pattern.path
    )


def _paths_meet(one: PathPattern, other: PathPattern) -> bool:
    longer = len(one.segments) - len(other.segments)
    if (longer > 0 and not other.tail) or (longer < 0 and not one.tail):
        return False
    pairs = zip(one.segments, other.segments, strict=False)
    return all(mine is None or theirs is None or mine.lower() == theirs.lower() for mine, theirs in pairs)
