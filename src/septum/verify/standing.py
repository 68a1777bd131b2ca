"""Which calls a policy's rules allow at every moment from one on, without a token: what a probe can rely on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from septum.model.operation import HttpPattern
from septum.model.policy import Rule
from septum.model.window import Window
from septum.verify import region
from septum.verify.calls import Calls
from septum.verify.chains import Chains
from septum.verify.overlap import opens_some
from septum.verify.region import Region


@dataclass(frozen=True)
class Standing:
    """What of the calls stands at every moment from `calls.now` on, without a token."""

    calls: Calls
    _known: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def chains(self) -> Chains:
        """Chains of calls that stand; of each call but the last, something does."""
        return Chains(lambda index: self._something(self.calls.workloads[index]))

    def wanted(self, target: str, asked: tuple[HttpPattern, ...]) -> Region:
        """What is asked, from now on; nothing where the patterns are of another protocol."""
        to = self.calls.policy.mesh.targets[target]
        return (region.of_connect(to) | region.of_patterns(asked, to)) & region.since(self.calls.now)

    def lacking(self, caller: str, target: str, asked: tuple[HttpPattern, ...]) -> Region:
        """What of that which is asked (of a TCP target: `connect`) a caller may not always ask of a target."""
        rules = (rule for rule in self.calls.between(caller, target) if rule.when is None)
        return self.wanted(target, asked) - region.union(self.calls.region(rule, target) for rule in rules)

    def callers(self, target: str, asked: tuple[HttpPattern, ...]) -> int:
        """Who may always ask all of that of a target: all that a rule with these patterns would open."""
        to, wanted, found = self.calls.policy.mesh.targets[target], self.wanted(target, asked), 0
        helping = [rule for rule in self._rules(target) if rule.operations is None or opens_some(rule, asked, to)]
        for callers, rules in self._alike(helping):
            if not wanted - region.union(self.calls.region(rule, target) for rule in rules):
                found |= callers
        return found

    def _rules(self, target: str) -> list[Rule]:
        return [rule for rule in self.calls.rules(target) if rule.when is None]

    def _something(self, target: str) -> int:
        """Who may ask something of a target at every moment."""
        known = self._known.get(target)
        if known is None:
            rules, known = self._rules(target), 0
            for rule in rules:
                known |= self.calls.set_of(rule.callers) if rule.window is None else 0
            for callers, together in self._alike([rule for rule in rules if rule.window is not None]):
                known |= callers if _always([rule.window for rule in together], self.calls.now) else 0
            self._known[target] = known
        return known

    def _alike(self, rules: Iterable[Rule]) -> list[tuple[int, tuple[Rule, ...]]]:
        """All workloads, together as far as the same rules name them, and those rules."""
        groups: list[tuple[int, tuple[Rule, ...]]] = [(self.calls.everyone, ())]
        for rule in rules:
            named = self.calls.set_of(rule.callers)
            inside = [(callers & named, (*together, rule)) for callers, together in groups if callers & named]
            outside = [(callers & ~named, together) for callers, together in groups if callers & ~named]
            groups = inside + outside
        return groups


def _always(windows: Iterable[Window | None], now: float) -> bool:
    """Whether windows leave no moment out from now on; None always holds."""
    reached = now
    for window in sorted((one or Window() for one in windows), key=lambda one: one.from_time or 0):
        if window.from_time is not None and window.from_time > reached:
            return False
        if window.until is None:
            return True
        reached = max(reached, window.until)
    return False
