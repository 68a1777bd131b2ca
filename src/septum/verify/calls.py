"""Which calls a policy's rules allow from a moment on, as a graph of workloads and places outside.

Sets of workloads are the bits of a number, in the mesh's order: a step over all callers of a target is one operation,
however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from septum.model.decision import Decision, Request
from septum.model.mesh import Mode, Protocol, Target
from septum.model.operation import ConnectOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.decide import decide, goes_through
from septum.verify import region
from septum.verify.region import Asked, Region

_EVERYTHING = {
    Protocol.HTTP: (HttpPattern.parse("* /**"),),
    Protocol.GRPC: (HttpPattern.parse_grpc("*"),),
}


class UnsoundError(RuntimeError):
    """`decide` says otherwise than the sets of requests do. One of them is wrong, and that is a mistake of Septum."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a chain, as a request, and what is decided about it."""

    request: Request
    decision: Decision

    @property
    def rule(self) -> Rule | None:
        """The rule that allows it; None when none does."""
        return self.decision.rule


@dataclass(frozen=True)
class Calls:
    """What is allowed at some moment from `now` on, with any token. Nothing is to or from who is quarantined.

    With `passing` it is what goes through: everything to a target that is observed as well.
    """

    policy: Policy
    now: float
    passing: bool = False
    _sets: dict[tuple[str, ...], int] = field(default_factory=dict, repr=False, compare=False)
    _regions: dict[tuple[int, str], Region] = field(default_factory=dict, repr=False, compare=False)
    _known: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _closed: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def workloads(self) -> tuple[str, ...]:
        """The names behind the bits."""
        return tuple(self.policy.mesh.workloads)

    @cached_property
    def _bits(self) -> Mapping[str, int]:
        shut = self.policy.quarantined
        return {name: 0 if name in shut else 1 << index for index, name in enumerate(self.workloads)}

    @cached_property
    def everyone(self) -> int:
        """All workloads that are not quarantined."""
        return self.set_of(self.workloads)

    def set_of(self, names: tuple[str, ...]) -> int:
        """The set of these workloads, without who is quarantined; other names are nobody."""
        known = self._sets.get(names)
        if known is None:
            known = 0
            for name in names:
                known |= self._bits.get(name, 0)
            self._sets[names] = known
        return known

    def names(self, members: int) -> Iterator[str]:
        """The names in a set, in the mesh's order."""
        for index in _bits(members):
            yield self.workloads[index]

    def rules(self, target: str) -> Iterator[Rule]:
        """The rules that open something on a target now or later, in policy order."""
        if target in self.policy.quarantined:
            return
        for rule in self.policy.rules_to[target]:
            if not (rule.window is not None and rule.window.over(self.now)) and self._opens(rule, target):
                yield rule

    def between(self, caller: str, target: str) -> tuple[Rule, ...]:
        """The rules that allow a caller something on a target now or later, in policy order."""
        if not self._bits[caller]:
            return ()
        return tuple(rule for rule in self.rules(target) if self.set_of(rule.callers) & self._bits[caller])

    def region(self, rule: Rule, target: str) -> Region:
        """What a rule opens on a target."""
        key = (id(rule), target)
        known = self._regions.get(key)
        if known is None:
            known = self._regions[key] = region.of_rule(rule, self.policy.mesh.targets[target])
        return known

    def _opens(self, rule: Rule, target: str) -> bool:
        """Whether a rule opens anything on a target."""
        if rule.when is not None:
            return bool(self.region(rule, target))
        # Whatever a pattern looks like, some path matches it (and a health path that is spelled out matches itself).
        return (rule.operations is None) == (self.policy.mesh.targets[target].protocol is Protocol.TCP)

    def callers(self, target: str, within: Region | None = None) -> int:
        """Who may call a target; with `within`, who may ask something of it that is in there."""
        if within is not None:
            return self._callers(target, within)
        known = self._known.get(target)
        if known is None:
            known = self._known[target] = self._callers(target, None)
        return known

    def _callers(self, target: str, within: Region | None) -> int:
        if self.passing and self._observed(target):
            return 0 if within is not None and not within else self.everyone
        found = 0
        for rule in self.rules(target):
            callers = self.set_of(rule.callers)
            if callers & ~found and (within is None or self.region(rule, target) & within):
                found |= callers
        return found

    def _observed(self, name: str) -> bool:
        mesh = self.policy.mesh
        return name not in self.policy.quarantined and mesh.mode(mesh.targets[name]) is Mode.OBSERVE

    def reaching(self, ends: int) -> int:
        """Who reaches a member of the set by any number of calls; its members do, by none."""
        seen = todo = ends
        while todo:
            index = todo.bit_length() - 1
            todo ^= 1 << index
            closed = self._closed.get(index)
            if closed is not None:
                seen, todo = seen | closed, todo & ~closed
                continue
            new = self.callers(self.workloads[index]) & ~seen
            seen, todo = seen | new, todo | new
        if ends.bit_count() == 1:
            self._closed[ends.bit_length() - 1] = seen
        return seen

    def shortest(self, starts: int, ends: Mapping[str, int]) -> tuple[str, ...]:
        """The names on a shortest chain from one of `starts`, whose last step is to a target from one of its `ends`.

        Empty when there is none. Of several as short, the one whose names stand first in the mesh.
        """
        levels = [0]
        for callers in ends.values():
            levels[0] |= callers
        seen = levels[0]
        while not levels[-1] & starts:
            before = 0
            for index in _bits(levels[-1]):
                before |= self.callers(self.workloads[index])
            levels.append(before & ~seen)
            seen |= before
            if not levels[-1]:
                return ()
        at = next(_bits(levels.pop() & starts))
        chain = [at]
        for level in reversed(levels):
            at = next(index for index in _bits(level) if self.callers(self.workloads[index]) >> at & 1)
            chain.append(at)
        last = next(target for target, callers in ends.items() if callers >> at & 1)
        return (*(self.workloads[index] for index in chain), last)

    def step(self, caller: str, target: str, within: Region | None = None) -> Step:
        """A request from a caller that a target takes: one that is allowed, or passes because the target is observed.

        Raises UnsoundError when `decide` does not say so, and ValueError when there is none.
        """
        for rule in self.between(caller, target):
            asked = self._witness(self.region(rule, target), target, within)
            if asked is not None:
                return self._checked(caller, target, asked)
        found = region.of_target(self.policy.mesh.targets[target]) if self.passing and self._observed(target) else None
        asked = None if found is None else self._witness(found, target, within)
        if asked is None:
            raise ValueError(f"{caller} may not call {target}")
        return self._checked(caller, target, asked)
