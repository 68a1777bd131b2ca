"""What one policy allows by its rules and another does not, exactly, as rows: one pattern of one rule each.

Asked both ways round it is what a change newly allows and what it newly denies. The rows of one direction never overlap
for one caller and target, and together they are the whole difference. Who is quarantined in either policy has no part
in it: `septum.verify.passing` is about that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from septum.model.claims import NO_TOKEN
from septum.model.decision import Request
from septum.model.mesh import Mesh, Protocol, Target
from septum.model.operation import METHODS, HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.verify import region
from septum.verify.diagram import Node
from septum.verify.near import Entry, Near, covers
from septum.verify.region import Region
from septum.verify.selectors import selector_text
from septum.verify.witness import Asked

# At most so many patterns are named of what a row leaves out.
_NAMED = 3


@dataclass(frozen=True)
class Row:
    """Requests of `callers` to `targets` that one policy allows by a pattern of `rule` and the other does not allow.

    `pattern` is None for `connect`. A row is the whole pattern unless `other` names what the other policy allows of it
    too, or `above` what rows before this one show. `regions` are the requests to each target.
    """

    rule: Rule
    pattern: HttpPattern | None
    callers: tuple[str, ...]
    targets: tuple[str, ...]
    callers_text: str
    targets_text: str
    other: tuple[str, ...]
    above: tuple[str, ...]
    regions: Mapping[str, Region]
    witness: Request

    @property
    def operation(self) -> str:
        """What is asked, as rules write it."""
        return "connect" if self.pattern is None else self.pattern.text

    def contains(self, request: Request) -> bool:
        """Whether the row is about a request, of which it has to be known when it is asked."""
        if request.caller not in self.callers or request.target not in self.targets or request.time is None:
            return False
        return self.regions[request.target].contains(request.operation, request.claims, request.time)


class _Same(NamedTuple):
    """A rule, a pattern as written, which requests (None: whichever they are on each target), and what is left out."""

    rule: str
    pattern: str | None
    node: Node | None
    other: tuple[str, ...]
    above: tuple[str, ...]


class _Piece(NamedTuple):
    """What of one entry the other side does not allow, on one kind of target and for one kind of caller."""

    entry: Entry
    region: Region
    asked: Asked
    other: tuple[str, ...]
    above: tuple[str, ...]

    @property
    def same(self) -> _Same:
        """What it has in common with those that are shown together with it."""
        written = None if self.entry.pattern is None else self.entry.pattern.text
        return _Same(self.entry.rule.id, written, self.region.node, self.other, self.above)


_Rules = tuple[Rule, ...]


def rows(more: Policy, less: Policy, now: int) -> tuple[Row, ...]:
    """What `more` allows and `less` does not, of requests from `now` on, in the order of the rules of `more`."""
    pieces: dict[_Same, _Piece] = {}
    found: dict[_Same, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for names, callers, gained in _kinds(more, less, now):
        for piece in gained:
            pieces.setdefault(piece.same, piece)
            for name in names:
                found[piece.same][name].update(callers)
    together: dict[tuple[_Same, frozenset[str]], list[tuple[str, _Piece]]] = defaultdict(list)
    for same, by_target in found.items():
        for name, who in by_target.items():
            together[same._replace(node=None), frozenset(who)].append((name, pieces[same]))
    order = {rule.id: place for place, rule in enumerate(more.rules)}
    made = [_row(more.mesh, parts, who, now) for (_, who), parts in together.items()]
    return tuple(sorted(made, key=lambda row: (order[row.rule.id], _place(row), row.targets, row.callers)))


def _place(row: Row) -> int:
    """Which pattern of its rule a row is about, also when it is about some of the pattern's methods alone."""
    patterns = row.rule.operations or ()
    return next((n for n, one in enumerate(patterns) if row.pattern and one.path == row.pattern.path), 0)


def _row(mesh: Mesh, parts: Sequence[tuple[str, _Piece]], callers: Iterable[str], now: int) -> Row:
    (entry, _, asked, other, above), rule = parts[0][1], parts[0][1].entry.rule
    regions = {name: piece.region for name, piece in parts}
    who, whom = tuple(sorted(callers)), tuple(sorted(regions))
    return Row(
        rule=rule,
        pattern=entry.pattern,
        callers=who,
        targets=whom,
        callers_text=_selected(who, rule.callers, rule.callers_text, mesh),
        targets_text=_selected(whom, rule.targets, rule.targets_text, mesh),
        other=other,
        above=above,
        regions=regions,
        witness=request(who[0], parts[0][0], asked, now),
    )


def _selected(names: tuple[str, ...], of_rule: tuple[str, ...], written: str, mesh: Mesh) -> str:
    """Names as the rule selects them, if it is about just these."""
    return written.replace(",", ", ") if names == of_rule and written else selector_text(names, mesh)


def request(caller: str, target: str, asked: Asked, now: int) -> Request:
    """What is asked, as a request: now, where any time will do."""
    return Request(caller, target, asked.operation, asked.claims, now if asked.time is None else asked.time)


def _kinds(more: Policy, less: Policy, now: int) -> Iterator[tuple[list[str], list[str], list[_Piece]]]:
    """Targets, callers, and what these may ask of each of those in `more` alone.

    Targets that take the same by the same rules are looked at once, and so are callers whom the same rules name.
    """
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, target in more.mesh.targets.items():
        granted, known = more.rules_to[name], less.rules_to.get(name, ())
        if granted and name not in more.quarantined and name not in less.quarantined:
            takes = taken(target), taken(less.mesh.target(name))
            if takes[0] != takes[1] or differ(granted, known):
                alike[(*takes, tuple(map(id, granted)), tuple(map(id, known)))].append(name)
    callers = more.mesh.workloads.keys() - more.quarantined - less.quarantined
    for names in alike.values():
        target, other = more.mesh.targets[names[0]], less.mesh.target(names[0])
        granted, known = more.rules_to[names[0]], less.rules_to.get(names[0], ())
        for who, mine, theirs in _by_caller(granted, known, callers):
            yield names, who, list(_gained(mine, theirs, target, other, now))


# All of a target that plays a part in what rules open on it.
Taken = tuple[Protocol, str | None, bool, bool, bool]


def taken(target: Target | None) -> Taken | None:
    """What of a target plays a part in what rules open on it, or None where there is no target."""
    if target is None:
        return None
    return (target.protocol, target.health, target.websocket, target.path_parameters, target.ignore_case)


def differ(some: _Rules, others: _Rules) -> bool:
    """Whether rules differ in anything that decides."""
    if len(some) != len(others):
        return True
    return any(one is not other and one.decisive != other.decisive for one, other in zip(some, others, strict=True))


def _by_caller(granted: _Rules, known: _Rules, callers: set[str]) -> Iterator[tuple[list[str], _Rules, _Rules]]:
    """Callers, by which of the rules name them; without those whom none of `granted` names."""
    mine: dict[str, list[int]] = defaultdict(list)
    theirs: dict[str, list[int]] = defaultdict(list)
    for rules, named in ((granted, mine), (known, theirs)):
        for place, rule in enumerate(rules):
            for caller in rule.callers:
                named[caller].append(place)
    kinds: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = defaultdict(list)
    for caller in mine.keys() & callers:
        kinds[tuple(mine[caller]), tuple(theirs.get(caller, ()))].append(caller)
    for (of_granted, of_known), who in kinds.items():
        yield who, tuple(granted[place] for place in of_granted), tuple(known[place] for place in of_known)


def _gained(granted: _Rules, known: _Rules, target: Target, other: Target | None, now: int) -> Iterator[_Piece]:
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
    operations = None if entry.pattern is None else (entry.pattern,)
    return region.of_rule(replace(entry.rule, operations=operations), target)


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


def _left(entry: Entry, target: Target, before: _Side, shown: _Side, now: int) -> _Piece | None:
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
    return _Piece(
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
