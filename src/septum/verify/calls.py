"""Which calls a policy's rules allow from a moment on, and a request for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from septum.model.decision import Decision, Request
from septum.model.mesh import Mode, Protocol, Target
from septum.model.operation import HttpPattern, PathPattern
from septum.model.policy import Policy, Rule
from septum.policy.decide import decide, goes_through
from septum.verify import region
from septum.verify.chains import Chains, members
from septum.verify.overlap import opens_some
from septum.verify.region import Region
from septum.verify.witness import Asked

_EVERYTHING = {
    Protocol.HTTP: (HttpPattern.parse("* /**"),),
    Protocol.GRPC: (HttpPattern.parse_grpc("*"),),
}

# Patterns that cover by their words alone; None is whatever can be asked.
Operations = tuple[HttpPattern, ...] | None


class UnsoundError(RuntimeError):
    """`decide` says otherwise than the sets of requests do: one of them is wrong, which is a mistake of Septum."""


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

    With `passing` it is what goes through: whatever is asked of a target that is observed as well. Sets of workloads
    are bits of a number, in the mesh's order.
    """

    policy: Policy
    now: float
    passing: bool = False
    _sets: dict[tuple[str, ...], int] = field(default_factory=dict, repr=False, compare=False)
    _rules: dict[str, tuple[Rule, ...]] = field(default_factory=dict, repr=False, compare=False)
    _regions: dict[tuple[int, str], Region] = field(default_factory=dict, repr=False, compare=False)
    _called: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

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

    @cached_property
    def chains(self) -> Chains:
        """Chains of these calls."""
        return Chains(lambda index: self.callers(self.workloads[index]))

    def set_of(self, names: tuple[str, ...]) -> int:
        """The set of these workloads, without who is quarantined; other names are nobody."""
        known = self._sets.get(names)
        if known is None:
            known = 0
            for name in names:
                known |= self._bits.get(name, 0)
            self._sets[names] = known
        return known

    def names(self, of: int) -> Iterator[str]:
        """The names in a set, in the mesh's order."""
        return (self.workloads[index] for index in members(of))

    def rules(self, target: str) -> tuple[Rule, ...]:
        """The rules that open something on a target now or later, in policy order."""
        known = self._rules.get(target)
        if known is None:
            shut = target in self.policy.quarantined
            rules = () if shut else self.policy.rules_to[target]
            known = self._rules[target] = tuple(rule for rule in rules if self._opens(rule, target))
        return known

    def _opens(self, rule: Rule, target: str) -> bool:
        """Whether a rule opens anything on a target from now on."""
        if rule.window is not None and rule.window.over(self.now):
            return False
        if rule.when is not None:
            return bool(self.region(rule, target))
        # Some path matches, whatever a pattern is; a health path does where it is spelled out.
        return (rule.operations is None) == (self.policy.mesh.targets[target].protocol is Protocol.TCP)

    def between(self, caller: str, target: str) -> tuple[Rule, ...]:
        """The rules that allow a caller something on a target now or later, in policy order."""
        one = self.set_of((caller,))
        return tuple(rule for rule in self.rules(target) if self.set_of(rule.callers) & one)

    def region(self, rule: Rule, target: str) -> Region:
        """What a rule opens on a target that it names."""
        key = (id(rule), target)
        known = self._regions.get(key)
        if known is None:
            known = self._regions[key] = region.of_rule(rule, self.policy.mesh.targets[target])
        return known

    def callers(self, target: str, operations: Operations = None) -> int:
        """Who may call a target; with `operations`, who may ask something of it that they cover."""
        if operations is not None:
            return self._callers(target, operations)
        known = self._called.get(target)
        if known is None:
            known = self._called[target] = self._callers(target, None)
        return known

    def _callers(self, target: str, operations: Operations) -> int:
        to = self.policy.mesh.targets[target]
        if self._passes(target):
            return self.everyone if operations is None or plainly(operations, to) else 0
        found = 0
        for rule in self.rules(target):
            callers = self.set_of(rule.callers)
            if callers & ~found and (operations is None or opens_some(rule, operations, to)):
                found |= callers
        return found

    def _passes(self, target: str) -> bool:
        """Whether everything that is asked of a target counts."""
        mesh = self.policy.mesh
        observed = self.passing and mesh.mode(mesh.targets[target]) is Mode.OBSERVE
        return observed and target not in self.policy.quarantined

    def step(self, caller: str, target: str, operations: Operations = None) -> Step:
        """A request of a caller that a target takes, of those that the operations cover where there are any.

        It is one that a rule allows, if there is any; otherwise one that passes because the target is observed. Raises
        ValueError when there is none, and UnsoundError when `decide` does not say so.
        """
        to = self.policy.mesh.targets[target]
        wanted = (everything(to) if operations is None else plainly(operations, to)) & region.since(self.now)
        opened = [self.region(rule, target) for rule in self.between(caller, target)]
        for found in [*opened, *([region.EVERYTHING] if self._passes(target) else [])]:
            asked = (found & wanted).witness(to)
            if asked is not None:
                return self._checked(request_of(caller, target, asked, self.now))
        raise ValueError(f"{caller} may not call {target}")

    def _checked(self, request: Request) -> Step:
        decision = decide(self.policy, request)
        passes = decision.allowed or (self.passing and goes_through(self.policy, request))
        if not passes or request.time is None or request.time < self.now:
            raise UnsoundError(f"{request} should pass, and what is decided is {decision}")
        return Step(request, decision)


def request_of(caller: str, target: str, asked: Asked, now: float) -> Request:
    """A witness as a request; one that may be asked at any time is asked now."""
    return Request(caller, target, asked.operation, asked.claims, now if asked.time is None else asked.time)


def everything(target: Target) -> Region:
    """Whatever can be asked of a target."""
    if target.protocol is Protocol.TCP:
        return region.of_connect(target)
    return plainly(_EVERYTHING[target.protocol], target)


def plainly(operations: Iterable[HttpPattern], target: Target) -> Region:
    """What patterns cover by their words alone: also a health path, which a rule has to spell out."""
    patterns = tuple(operations)
    if target.health is not None:
        health, ignore_case = PathPattern.parse(target.health), target.ignore_case
        covering = [pattern for pattern in patterns if pattern.path.matches(target.health, ignore_case=ignore_case)]
        patterns += tuple(replace(pattern, path=health) for pattern in covering)
    return region.of_patterns(patterns, target)
