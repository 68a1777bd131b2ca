"""What the rules of one policy allow a caller on a target and those of another do not, entry by entry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from septum.model.claims import NO_TOKEN
from septum.model.mesh import Protocol, Target
from septum.model.operation import METHODS, HttpOperation, HttpPattern
from septum.model.policy import Rule
from septum.verify import region
from septum.verify.diagram import Node
from septum.verify.near import Entry, Near, covers
from septum.verify.region import Region
from septum.verify.witness import Asked

# At most so many patterns are named of what a piece leaves out.
_NAMED = 3


class Same(NamedTuple):
    """A rule, a pattern as written, which requests (None: whichever they are on each target), and what is left out."""

    rule: str
    pattern: str | None
    node: Node | None
    other: tuple[str, ...]
    above: tuple[str, ...]


class Piece(NamedTuple):
    """What of one entry the other side does not allow, on one kind of target and for one kind of caller."""

    entry: Entry
    region: Region
    asked: Asked
    other: tuple[str, ...]
    above: tuple[str, ...]

    @property
    def same(self) -> Same:
        """What it has in common with those that are shown together with it."""
        written = None if self.entry.pattern is None else self.entry.pattern.text
        return Same(self.entry.rule.id, written, self.region.node, self.other, self.above)


# All of a target that plays a part in what rules open on it.
Taken = tuple[Protocol, str | None, bool, bool, bool]


def taken(target: Target | None) -> Taken | None:
    """What of a target plays a part in what rules open on it, or None where there is no target."""
    if target is None:
        return None
    return (target.protocol, target.health, target.websocket, target.path_parameters, target.ignore_case)


def gained(
    granted: Iterable[Rule], known: Iterable[Rule], target: Target, other: Target | None, now: int
) -> Iterator[Piece]:
    """What `granted` allows on a target and `known` does not on what was the target then, piece by piece."""
    alike = taken(target) == taken(other)
    against = _entries(known, now) if other is not None else []
    same = {entry.meaning for entry in against} if alike else set()
    changed = [entry for entry in _entries(granted, now) if entry.meaning not in same]
    if not changed:
        return
    before, shown = _Side(other or target, against), _Side(target)
    for entry in changed:
        near = before.near.places(entry)
        if alike and any(covers(before.near[place], entry, target) for place in near):
            continue
        for part in _parts(entry, near, before):
            piece = _left(part, target, before, shown, now)
            if piece is not None:
                yield piece
                shown.near.add(part)


def _entries(rules: Iterable[Rule], now: int) -> list[Entry]:
    """The patterns of the rules that hold now or later."""
    standing = [rule for rule in rules if rule.window is None or not rule.window.over(now)]
    return [Entry(rule, pattern) for rule in standing for pattern in rule.operations or (None,)]


@dataclass
class _Side:
    """Entries on a target, near which others are, and their regions as far as they were asked for."""

    target: Target
    entries: Iterable[Entry] = ()
    near: Near = field(default_factory=Near)
    _opened: dict[int, Region] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self.near.add(entry)

    def opened(self, place: int) -> Region:
        """The requests that the entry at a place allows."""
        if place not in self._opened:
            self._opened[place] = _opened(self.near[place], self.target)
        return self._opened[place]


def _opened(entry: Entry, target: Target) -> Region:
    if entry.pattern is None:
        return region.of_rule(entry.rule, target)
    opened = region.of_patterns((entry.pattern,), target)
    if entry.rule.when is None and entry.rule.window is None:
        return opened
    return opened & region.under(entry.rule.when, entry.rule.window)


def _parts(entry: Entry, near: Sequence[int], before: _Side) -> list[Entry]:
    """The entry by its methods: those that the same others know are one part, so that what is all new stands alone."""
    if entry.pattern is None or len(entry.pattern.methods) == 1 or not near:
        return [entry]
    kinds: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for method in entry.pattern.methods:
        kinds[tuple(place for place in near if method in _methods(before.near[place]))].append(method)
    if len(kinds) == 1:
        return [entry]
    return [Entry(entry.rule, _of_methods(entry.pattern, methods)) for methods in kinds.values()]


def _methods(entry: Entry) -> tuple[str, ...]:
    return entry.pattern.methods if entry.pattern else ()


def _of_methods(pattern: HttpPattern, methods: list[str]) -> HttpPattern:
    written = "*" if len(methods) == len(METHODS) else ",".join(methods)
    return HttpPattern(f"{written} {pattern.path}", tuple(methods), pattern.path)


def _left(entry: Entry, target: Target, before: _Side, shown: _Side, now: int) -> Piece | None:
    """What is left of an entry without what the other policy allows and what is shown already, or None."""
    whole = left = _opened(entry, target)
    near = [(side, place) for side in (before, shown) for place in side.near.places(entry)]
    if near:
        left -= region.union(side.opened(place) for side, place in near)
    if entry.rule.window is not None or any(side.near[place].rule.window is not None for side, place in near):
        left &= region.since(now)
    asked = (_plainly(entry, left, now) if target.protocol is Protocol.HTTP else None) or left.witness(target)
    if asked is None:
        return None
    met = [(side, str(side.near[place])) for side, place in near if whole & side.opened(place)]
    return Piece(
        entry,
        left,
        asked,
        _few([text for side, text in met if side is before]),
        _few([t for s, t in met if s is shown]),
    )


def _plainly(entry: Entry, left: Region, now: int) -> Asked | None:
    """A request that the pattern itself spells out, or None where it takes more to find one."""
    if entry.pattern is None or entry.rule.when is not None or entry.rule.window is not None:
        return None
    segments = ("1" if segment is None else segment for segment in entry.pattern.path.segments)
    operation = HttpOperation(entry.pattern.methods[0], "/" + "/".join(segments))
    return Asked(operation, NO_TOKEN, None) if left.contains(operation, NO_TOKEN, now) else None


def _few(words: list[str]) -> tuple[str, ...]:
    more = len(words) - _NAMED
    return (*words[:_NAMED], f"{more} more") if more > 0 else tuple(words)
