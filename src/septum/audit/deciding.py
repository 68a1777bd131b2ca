"""Two policies asked about very many requests at one moment: what no rule can tell apart is decided once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from septum.audit.traffic import kind_of
from septum.model.claims import When
from septum.model.mesh import Mode, Protocol, Target
from septum.model.operation import ConnectOperation, HttpOperation, Operation
from septum.model.policy import Policy, Rule
from septum.plan.replayed import Now
from septum.policy.ask import http_operation
from septum.policy.decide import opens
from septum.verify import region

# What canonical paths are without, and what rules look at beside segments (`;`).
_NOT_CANONICAL = re.compile(r'[%\\#"<>^`{|};]|//|/\.')
# A segment that no rule of a pair spells out.
_ANY = "\x00"


class Count:
    """Requests of a kind: how many, from when to when, and the path of the last."""

    __slots__ = ("example", "first", "last", "now", "number", "operation")

    def __init__(self, operation: str, now: Now) -> None:
        self.operation, self.now = operation, now
        self.number, self.first, self.last, self.example = 0, math.inf, -math.inf, ""

    def add(self, time: float, path: str) -> None:
        """One more."""
        self.number += 1
        if time >= self.last:
            self.last, self.example = time, path
        self.first = min(self.first, time)

    def and_(self, other: Count) -> Count:
        """Both together."""
        both = Count(self.operation, self.now)
        both.number, both.first = self.number + other.number, min(self.first, other.first)
        later = self if self.last >= other.last else other
        both.last, both.example = later.last, later.example
        return both


class Deciding:
    """Two policies at one moment."""

    def __init__(self, old: Policy, new: Policy, now: float) -> None:
        self._sides = (_Side(old, now), _Side(new, now))

    def pair(self, caller: str, target: str) -> Pair | None:
        """A caller and a target, or None when neither policy knows both."""
        sides = tuple(side.open(caller, target) for side in self._sides)
        known = next((one.target for one in reversed(sides) if one.target is not None), None)
        return None if known is None else Pair(sides[0], sides[1], known)


class _Side:
    """One policy at one moment; it keeps which rules to a target name whom."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy, self._now = policy, now
        self._named: dict[str, Mapping[str, list[Rule]]] = {}

    def open(self, caller: str, target: str) -> _Open:
        """What is open from a caller to a target."""
        known = self._policy.mesh.target(target)
        if known is None or caller not in self._policy.mesh.workloads:
            return _Open(None)
        if {caller, target} & self._policy.quarantined:
            return _Open(known)
        if target not in self._named:
            self._named[target] = self._by_caller(self._policy.rules_to[target])
        rules = tuple(self._named[target].get(caller, ()))
        return _Open(known, rules, observed=self._policy.mesh.mode(known) is Mode.OBSERVE)

    def _by_caller(self, rules: Iterable[Rule]) -> Mapping[str, list[Rule]]:
        named: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.window is None or rule.window.holds(self._now):
                for caller in rule.callers:
                    named.setdefault(caller, []).append(rule)
        return named


# Under which conditions something is open: None among them is under none at all.
_Whens = frozenset[When | None]


class _Open(NamedTuple):
    """The rules by which one policy opens a target for a caller, and whether everything passes anyway."""

    target: Target | None
    rules: tuple[Rule, ...] = ()
    observed: bool = False

    def whens(self, operation: Operation, issuer: str) -> _Whens:
        """The conditions under which rules allow an operation, with a token of an issuer (empty: nothing is known)."""
        if self.target is None:
            return frozenset()
        opening = (rule.when for rule in self.rules if opens(rule, self.target, operation))
        return frozenset(when for when in opening if when is None or not issuer or issuer in when.issuers)


# How many kinds of operations of a pair are told apart, and the name of the others.
_MOST = 1_000
_OTHERS = "(other operations)"


@dataclass(slots=True)
class Pair:
    """A caller and a target in both policies. Requests that no rule can tell apart are decided once."""

    old: _Open
    new: _Open
    target: Target
    _spelled: set[str] = field(default_factory=set)
    _folds: bool = False
    _counts: dict[tuple[str, str, str, str], Count | None] = field(default_factory=dict)
    _others: dict[Now, Count] = field(default_factory=dict)
    _known: dict[tuple[str, str, str, tuple[str, ...]], Now | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        targets = [side.target for side in (self.old, self.new) if side.target is not None]
        self._folds = any(target.ignore_case for target in targets)
        paths = [target.health[1:].split("/") for target in targets if target.health]
        patterns = (p for side in (self.old, self.new) for rule in side.rules for p in rule.operations or ())
        spelled = [*(part for path in paths for part in path), *(part for p in patterns for part in p.path.segments)]
        self._spelled = {part.lower() if self._folds else part for part in spelled if part is not None} | {""}

    @property
    def counts(self) -> list[Count]:
        """What was counted."""
        return list(dict.fromkeys(count for count in (*self._counts.values(), *self._others.values()) if count))

    def count(self, protocol: str, method: str, path: str, issuer: str) -> Count | None:
        """Where a request is counted, or None when both policies decide it alike."""
        spelled = self._spelled
        # Invariant: what looks like an ID and is not spelled out by a rule is as good as any other ID.
        parts = [s if s in spelled else "{id}" if s.isdigit() else self._part(s) for s in path.split("/")]
        kind = (protocol, method, issuer, "/".join(parts))
        try:
            return self._counts[kind]
        except KeyError:
            return self._first(kind, path)

    def _part(self, text: str) -> str:
        short = len(text) < 16 and text.isalpha()
        known = short or (self._folds and text.lower() in self._spelled)
        return text if known or kind_of("grpc", "", text) == text else "{id}"

    def _first(self, kind: tuple[str, str, str, str], path: str) -> Count | None:
        """The same for the first request of a kind."""
        protocol, method, issuer, shown = kind
        became = self._alike(protocol, method, path, issuer)
        if became is None:
            count = None
        elif len(self._counts) < _MOST:
            count = Count(kind_of(protocol, method, shown), became)
        else:
            count = self._others.setdefault(became, Count(_OTHERS, became))
        if len(self._counts) < 100 * _MOST:
            self._counts[kind] = count
        return count

    def _alike(self, protocol: str, method: str, path: str, issuer: str) -> Now | None:
        """What would become of a request now, asked once of those that no rule tells apart."""
        if _NOT_CANONICAL.search(path):
            return self._became(protocol, method, path, issuer)
        # Invariant: paths with equal keys match the same patterns, since those tell apart no more than what is spelled.
        parts = [part if (part.lower() if self._folds else part) in self._spelled else _ANY for part in path.split("/")]
        key = (protocol, method, issuer, tuple(parts))
        if key not in self._known:
            self._known[key] = self._became(protocol, method, path, issuer)
        return self._known[key]

    def _became(self, protocol: str, method: str, path: str, issuer: str) -> Now | None:
        if protocol == "tcp" and self.target.protocol is not Protocol.TCP:
            return None  # a tunnel into the proxy: what is asked inside has its own records
        operation = _operation(protocol, method, path)
        before, after = self.old.whens(operation, issuer), self.new.whens(operation, issuer)
        if self.old.observed and self.new.observed:
            return _WOULD[_difference(before, after)]
        return _difference(_ALL if self.old.observed else before, _ALL if self.new.observed else after)


_ALL: _Whens = frozenset((None,))
_WOULD = {
    None: None,
    Now.DENIED: Now.WOULD_BE_DENIED,
    Now.ALLOWED: Now.WOULD_BE_ALLOWED,
    Now.UNKNOWN: Now.UNKNOWN,
}


def _difference(before: _Whens, after: _Whens) -> Now | None:
    if before == after or (None in before and None in after):
        return None
    if None in before and not after:
        return Now.DENIED
    if None in after and not before:
        return Now.ALLOWED
    one, other = _tokens(before), _tokens(after)
    return Now.UNKNOWN if one - other or other - one else None


def _tokens(whens: _Whens) -> region.Region:
    """The tokens that pass."""
    return region.union(region.under(when, None) for when in whens)


def _operation(protocol: str, method: str, path: str) -> Operation:
    if protocol == "tcp":
        return ConnectOperation()
    operation = http_operation(method, path)
    opened = protocol == "websocket" and isinstance(operation, HttpOperation)
    return replace(operation, websocket=True) if opened and isinstance(operation, HttpOperation) else operation
