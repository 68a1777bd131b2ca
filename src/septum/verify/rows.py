"""What one policy allows by its rules and another does not, exactly, as rows: one pattern of one rule each.

Asked both ways round it is what a change newly allows and what it newly denies. The rows of one direction never overlap
for one caller and target, and together they are the whole difference. Who is quarantined in either policy has no part
in it: `septum.verify.passing` is about that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from septum.model.decision import Request
from septum.model.mesh import Mesh
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.verify.gained import Piece, Same, gained, taken
from septum.verify.region import Region
from septum.verify.selectors import selector_text
from septum.verify.witness import Asked


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


_Rules = tuple[Rule, ...]


def rows(more: Policy, less: Policy, now: int) -> tuple[Row, ...]:
    """What `more` allows and `less` does not, of requests from `now` on, in the order of the rules of `more`."""
    pieces: dict[Same, Piece] = {}
    found: dict[Same, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for names, callers, new in _kinds(more, less, now):
        for piece in new:
            pieces.setdefault(piece.same, piece)
            for name in names:
                found[piece.same][name].update(callers)
    together: dict[tuple[Same, frozenset[str]], list[tuple[str, Piece]]] = defaultdict(list)
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


def _row(mesh: Mesh, parts: Sequence[tuple[str, Piece]], callers: Iterable[str], now: int) -> Row:
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


def _kinds(more: Policy, less: Policy, now: int) -> Iterator[tuple[list[str], list[str], list[Piece]]]:
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
            yield names, who, list(gained(mine, theirs, target, other, now))


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
