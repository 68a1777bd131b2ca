"""Which rules, and which operations of rules, open nothing that the others do not open: exact, from a moment on.

What is found may be taken away together: each is needless beside what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from septum.model.mesh import Address, Protocol, Target, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.decide import path_covers
from septum.verify import region
from septum.verify.gained import taken
from septum.verify.region import NOTHING, Region


@dataclass(frozen=True, slots=True)
class Needless:
    """A rule, or one operation of it by its place; `by` are those that open the same, `twin` is one just like it."""

    rule: Rule
    operation: int | None
    by: tuple[Rule, ...]
    twin: bool = False


def needless(policy: Policy, now: float) -> tuple[Needless, ...]:
    """The needless rules, then the needless operations of the others. Rules that are over are not among them.

    Of rules that say the same, the one that is written first is needed. What a segment may do is needless only where
    that goes for workloads that are put into it later, too.
    """
    search, rules = _Search(_grown(policy), now), {rule.id: rule for rule in policy.rules}
    found = (*search.rules(), *search.operations())
    return tuple(replace(one, rule=rules[one.rule.id], by=tuple(rules[by.id] for by in one.by)) for one in found)


def _grown(policy: Policy) -> Policy:
    """The policy with more workloads in each segment: one of each protocol, under names that no workload can have."""
    more = {
        _newcomer(segment, protocol): Workload(_newcomer(segment, protocol), segment, _NOWHERE, protocol)
        for segment in policy.mesh.segments
        for protocol in Protocol
    }
    mesh = replace(policy.mesh, workloads={**policy.mesh.workloads, **more})
    return replace(policy, mesh=mesh, rules=tuple(_with_newcomers(rule) for rule in policy.rules))


def _with_newcomers(rule: Rule) -> Rule:
    protocol = _protocol(rule)
    callers = [_newcomer(segment, Protocol.HTTP) for segment in _segments(rule.callers_text)]
    targets = [_newcomer(segment, protocol) for segment in _segments(rule.targets_text)]
    if not callers and not targets:
        return rule
    return replace(rule, callers=(*rule.callers, *callers), targets=(*rule.targets, *targets))


def _newcomer(segment: str, protocol: Protocol) -> str:
    return f"segment:{segment} {protocol}"


def _segments(selector: str) -> list[str]:
    return [word.removeprefix("segment:") for word in selector.split(",") if word.startswith("segment:")]


def _protocol(rule: Rule) -> Protocol:
    """What a rule's targets speak, by how its operations are written."""
    if rule.operations is None:
        return Protocol.TCP
    return Protocol.HTTP if any(" " in pattern.text for pattern in rule.operations) else Protocol.GRPC


_NOWHERE = Address("127.0.0.1", 1)

# A target, and rules that open something on it to one caller at least.
_Pair = tuple[Target, tuple[Rule, ...]]


@dataclass
class _Search:
    """The rules that are left, while others turn out to be needless."""

    policy: Policy
    now: float
    _gone: set[str] = field(default_factory=set)
    _less: dict[str, tuple[HttpPattern, ...]] = field(default_factory=dict)
    _regions: dict[tuple[object, ...], Region] = field(default_factory=dict)

    def rules(self) -> Iterator[Needless]:
        """Whole rules, the last one first."""
        doubtful = self._doubtful()
        for rule in sorted(self._live, key=_written, reverse=True):
            if rule.id in doubtful and all(not self._adds(rule, pair) for pair in self._pairs[rule.id]):
                self._gone.add(rule.id)
                by = self._opening_the_same(rule)
                yield Needless(rule, None, by, twin=len(by) == 1 and self._is_twin(rule, by[0]))

    def operations(self) -> Iterator[Needless]:
        """Operations of the rules that are left, the last one of each first."""
        for rule in sorted(self._live, key=_written):
            if rule.id not in self._gone and len(rule.operations or ()) > 1:
                yield from self._operations(rule)

    def _operations(self, rule: Rule) -> Iterator[Needless]:
        for index in reversed(range(len(rule.operations or ()))):
            kept = self._of(rule).operations or ()
            one = (rule.operations or ())[index]
            others = _without(kept, one)
            if others and all(not self._adds(rule, pair, one, others) for pair in self._pairs[rule.id]):
                self._less[rule.id] = others
                part, rest = replace(rule, operations=(one,)), replace(rule, operations=others)
                by = (rest,) if self._covered(part, (rest,)) else self._opening_the_same(part)
                yield Needless(rule, index, tuple(rule if other is rest else other for other in by))

    @cached_property
    def _live(self) -> tuple[Rule, ...]:
        return tuple(
            rule
            for rule in self.policy.rules
            if rule.callers and rule.targets and not (rule.window is not None and rule.window.over(self.now))
        )

    @cached_property
    def _pairs(self) -> dict[str, tuple[_Pair, ...]]:
        """Rule id → for each of its targets, the sets of rules that one of its callers has there; each set once."""
        found: dict[str, dict[tuple[object, ...], _Pair]] = {rule.id: {} for rule in self._live}
        live = {rule.id for rule in self._live}
        for name, rules in self.policy.rules_to.items():
            of_callers: dict[str, list[Rule]] = {}
            for rule in rules:
                if rule.id in live:
                    for caller in rule.callers:
                        of_callers.setdefault(caller, []).append(rule)
            target = self.policy.mesh.targets[name]
            for together in {tuple(map(id, rules)): tuple(rules) for rules in of_callers.values()}.values():
                for rule in together:
                    found[rule.id].setdefault((taken(target), *map(id, together)), (target, together))
        return {rule_id: tuple(pairs.values()) for rule_id, pairs in found.items()}

    def _doubtful(self) -> set[str]:
        """The rules that all others together make needless; one of two that say the same is needed all the same."""
        needed: set[str] = set()
        seen: set[tuple[object, ...]] = set()
        for pairs in self._pairs.values():
            for target, rules in pairs:
                key = (taken(target), *map(id, rules))
                if key not in seen:
                    seen.add(key)
                    needed |= self._needed(target, list(rules), needed)
        return {rule.id for rule in self._live} - needed

    def _needed(self, target: Target, rules: Sequence[Rule], known: set[str]) -> set[str]:
        """The rules of one pair that open there what no other does; those that are `known` are not looked at."""
        plain = {rule.id for rule in rules if rule.id not in known and _stands_alone(rule, rules, target)}
        if all(rule.id in plain or rule.id in known for rule in rules):
            return plain
        regions = [self._region(rule, target) for rule in rules]
        before, after = [NOTHING], [NOTHING]
        for one in regions[:-1]:
            before.append(before[-1] | one)
        for one in reversed(regions[1:]):
            after.append(after[-1] | one)
        after.reverse()
        return plain | {
            rule.id
            for index, rule in enumerate(rules)
            if rule.id not in known | plain and self._from_now(regions[index] - (before[index] | after[index]))
        }

    def _adds(
        self, rule: Rule, pair: _Pair, one: HttpPattern | None = None, rest: tuple[HttpPattern, ...] = ()
    ) -> bool:
        """Whether a rule, or one operation beside the rest of it, opens something there that the others do not."""
        target, rules = pair
        part = rule if one is None else replace(rule, operations=(one,))
        others = [self._of(other) for other in rules if other is not rule and other.id not in self._gone]
        others += [replace(rule, operations=rest)] if rest else []
        if _stands_alone(part, others, target):
            return True
        mine = self._region(part, target)
        return self._from_now(mine - region.union(self._region(other, target) for other in others))

    def _opening_the_same(self, rule: Rule) -> tuple[Rule, ...]:
        """The rules that open what a needless rule opens: one, if one does by itself, or else all that have a part."""
        others: dict[str, Rule] = {}
        for target, rules in self._pairs[rule.id]:
            mine = self._region(rule, target)
            for other in rules:
                if other.id != rule.id and other.id not in self._gone and mine & self._region(self._of(other), target):
                    others[other.id] = self._of(other)
        ordered = sorted(others.values(), key=_written)
        alone = next((other for other in ordered if self._covered(rule, (other,))), None)
        return tuple(ordered) if alone is None else (alone,)

    def _covered(self, rule: Rule, others: Iterable[Rule]) -> bool:
        """Whether other rules, wherever they apply as widely, open all that a rule does."""
        wide = [
            other for other in others if {*rule.callers} <= {*other.callers} and {*rule.targets} <= {*other.targets}
        ]
        return bool(wide) and all(
            not self._from_now(self._region(rule, target) - region.union(self._region(other, target) for other in wide))
            for target in (self.policy.mesh.targets[name] for name in rule.targets)
        )

    def _is_twin(self, rule: Rule, other: Rule) -> bool:
        same = (rule.callers, rule.targets) == (other.callers, other.targets)
        return same and self._covered(other, (rule,))

    def _from_now(self, found: Region) -> bool:
        return bool(found & region.since(self.now))

    def _of(self, rule: Rule) -> Rule:
        """A rule as far as it is needed."""
        less = self._less.get(rule.id)
        return rule if less is None else replace(rule, operations=less)

    def _region(self, rule: Rule, target: Target) -> Region:
        key = (rule.operations, rule.when, rule.window, taken(target))
        known = self._regions.get(key)
        if known is None:
            known = self._regions[key] = region.of_rule(rule, target)
        return known


# A segment that no pattern spells out, and how many of them stand for what is below a prefix.
_FRESH, _DEEP = "\0", 9


def _stands_alone(rule: Rule, others: Sequence[Rule], target: Target) -> bool:
    """Whether some operation of a rule has a request that no pattern of the others matches: quick, and never wrong.

    Not so with `when`, of which it is not plain that any token passes.
    """
    if rule.operations is None or rule.when is not None:
        return not [other for other in others if other is not rule] and rule.when is None
    patterns = [pattern for other in others if other is not rule for pattern in other.operations or ()]
    return any(_unmatched(pattern, patterns, target) for pattern in rule.operations)


def _unmatched(pattern: HttpPattern, others: Sequence[HttpPattern], target: Target) -> bool:
    words = [_FRESH if segment is None else segment for segment in pattern.path.segments]
    path = "/" + "/".join([*words, *([_FRESH] * _DEEP if pattern.path.tail else [])])
    matching = {method for other in others if path_covers(other, target, path) for method in other.methods}
    return any(method not in matching for method in pattern.methods)


def _without(patterns: tuple[HttpPattern, ...], one: HttpPattern) -> tuple[HttpPattern, ...]:
    """The patterns but for the last one of this text."""
    index = max(i for i, pattern in enumerate(patterns) if pattern.text == one.text)
    return patterns[:index] + patterns[index + 1 :]


def _written(rule: Rule) -> tuple[object, ...]:
    """Where a rule stands, which is the order in which people read them."""
    return (rule.span is None, rule.span, rule.id) if rule.span else (True, 0, rule.id)
