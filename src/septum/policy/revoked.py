"""Which pairs a new policy takes calls away from: those whose live calls have to end.

The answer may name a pair that loses nothing, and never leaves out one that does.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from septum.model.claims import When, implies
from septum.model.mesh import External, Issuer, Mesh, Mode, Target
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.decide import pattern_covers

Pair = tuple[str, str]


def revoked(old: Policy, new: Policy, ended: float | None = None) -> frozenset[Pair]:
    """The (caller, target) pairs that may have had a call under `old` that `new` does not allow any more.

    `ended` is a moment up to which the calls were ended that a grant had opened, so that nobody has them any more.
    """
    if old is new:
        return frozenset()
    if ended is not None:
        old = _without_ended(old, ended)
    change = _Change(old, new, _gone(old, new), _narrowed_issuers(old.mesh, new.mesh))
    return frozenset((caller, name) for name in old.mesh.targets for caller in change.cut_off(name))


def _without_ended(policy: Policy, ended: float) -> Policy:
    left = tuple(rule for rule in policy.rules if rule.window is None or not rule.window.over(ended))
    return policy if len(left) == len(policy.rules) else replace(policy, rules=left)


def _gone(old: Policy, new: Policy) -> frozenset[str]:
    """The workloads that could call before, and cannot call anyone now."""
    could = old.mesh.workloads.keys() - old.quarantined
    return frozenset(could - (new.mesh.workloads.keys() - new.quarantined))


@dataclass(frozen=True, slots=True)
class _Change:
    """From one policy to another. `gone` are callers that cannot call now, `issuers` those whose tokens changed."""

    old: Policy
    new: Policy
    gone: frozenset[str]
    issuers: frozenset[str]

    def cut_off(self, name: str) -> Iterable[str]:
        """The callers that lose something at one target."""
        before, after = self.old.mesh.targets[name], self.new.mesh.target(name)
        if name in self.old.quarantined:
            return ()
        if after is None or name in self.new.quarantined or _takes_less(before, after):
            return self._callers(before)
        if self.new.mesh.mode(after) is Mode.OBSERVE:
            return self.gone.intersection(self._callers(before)) if self.gone else ()
        if self.old.mesh.mode(before) is Mode.OBSERVE:
            return self._callers(before)
        return self._by_rules(after)

    def _callers(self, target: Target) -> Iterable[str]:
        """Whoever may have had a call before: all of the mesh where nothing was enforced."""
        if self.old.mesh.mode(target) is Mode.OBSERVE:
            return self.old.mesh.workloads.keys() - self.old.quarantined
        return {c for rule in self.old.rules_to[target.name] for c in rule.callers} - self.old.quarantined

    def _by_rules(self, target: Target) -> Iterable[str]:
        """The callers that had something by a rule, and do not have all of it by the rules that there are."""
        before, after = self.old.rules_to[target.name], self.new.rules_to[target.name]
        lost = [rule for rule in _lost(before, after) if not self.old.quarantined.issuperset(rule.callers)]
        if self.issuers:
            lost += [rule for rule in before if rule.when and not self.issuers.isdisjoint(rule.when.issuers)]
        if not lost and not self.gone:
            return ()
        found = self.gone.intersection(self._callers(target)) if self.gone else frozenset()
        return found | (frozenset(self._losers(lost, after, target)) - self.old.quarantined)

    def _losers(self, lost: Iterable[Rule], after: Iterable[Rule], target: Target) -> Iterator[str]:
        callers = {caller for rule in lost for caller in rule.callers}
        granted = _by_caller(after, callers)
        for rule in lost:
            for caller in rule.callers:
                if not _replaced(rule, granted[caller], target, self.issuers):
                    yield caller


def _lost(before: tuple[Rule, ...], after: tuple[Rule, ...]) -> list[Rule]:
    """The rules that do not stand in the new policy word for word."""
    if before is after:
        return []
    same = {id(rule) for rule in after}
    changed = [rule for rule in before if id(rule) not in same]
    if not changed:
        return []
    still = {rule.decisive for rule in after}
    return [rule for rule in changed if rule.decisive not in still]


def _by_caller(rules: Iterable[Rule], callers: set[str]) -> Mapping[str, list[Rule]]:
    found: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        for caller in callers.intersection(rule.callers):
            found[caller].append(rule)
    return found


def _replaced(rule: Rule, by: Iterable[Rule], target: Target, issuers: frozenset[str]) -> bool:
    """Whether rules that name the same caller and target open all that this one opened."""
    fitting = [
        other
        for other in by
        if _holds_where(rule.when, other.when, issuers) and _holds_while(rule.window, other.window)
    ]
    if rule.operations is None:
        return any(other.operations is None for other in fitting)
    patterns = [pattern for other in fitting for pattern in other.operations or ()]
    return all(_opened(pattern, patterns, target) for pattern in rule.operations)


def _holds_where(before: When | None, after: When | None, issuers: frozenset[str]) -> bool:
    """Whether the new condition holds wherever the old one did. What an issuer (`issuers`) vouched for is not known."""
    if after is not None and not issuers.isdisjoint(after.issuers):
        return False
    return implies(before, after)


def _holds_while(before: Window | None, after: Window | None) -> bool:
    """Whether the new window is open whenever the old one was."""
    if after is None or before is None:
        return after is None
    begins = after.from_time is None or (before.from_time is not None and after.from_time <= before.from_time)
    ends = after.until is None or (before.until is not None and before.until <= after.until)
    return begins and ends


def _opened(pattern: HttpPattern, by: Iterable[HttpPattern], target: Target) -> bool:
    covering = [other for other in by if pattern_covers(other, pattern, target)]
    return all(any(method in other.methods for other in covering) for method in pattern.methods)


def _takes_less(before: Target, after: Target) -> bool:
    """Whether a target may refuse what it took, with the rules as they were."""
    if isinstance(before, External) or isinstance(after, External):
        # Another place under the same name is another target.
        return not (isinstance(before, External) and isinstance(after, External) and _place(before) == _place(after))
    return (
        before.protocol is not after.protocol
        or (before.websocket and not after.websocket)
        or (before.path_parameters and not after.path_parameters)
        or (before.ignore_case is not after.ignore_case and (before.ignore_case or after.health is not None))
        or (before.health != after.health and after.health is not None)
    )


def _place(external: External) -> External:
    return replace(external, mode=Mode.ENFORCE)


def _narrowed_issuers(old: Mesh, new: Mesh) -> frozenset[str]:
    """The issuers (by their `iss`) of which some token that was taken may not be taken any more."""
    now = {issuer.issuer: issuer for issuer in new.issuers.values()}
    return frozenset(issuer.issuer for issuer in old.issuers.values() if _takes_fewer(issuer, now.get(issuer.issuer)))


def _takes_fewer(before: Issuer, after: Issuer | None) -> bool:
    if after is None or before.jwks_url != after.jwks_url or not set(before.audiences) <= set(after.audiences):
        return True
    return before.jwks != after.jwks and not _keys(before) <= _keys(after)


def _keys(issuer: Issuer) -> set[str]:
    return {json.dumps(key, sort_keys=True) for key in json.loads(issuer.jwks)["keys"]}
