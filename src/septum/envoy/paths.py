"""Path patterns to the lookups that decide them: exact keys, longest prefixes, and few regexes behind each prefix.

A request's `:path` carries its query, so every exact path also stands as the prefix `path?`, and every regex ends in an
optional query. Whichever lookup answers, it names the first pattern in policy order that covers the path, as `decide`
does. The cost of a request is two map lookups and the regexes that share its literal prefix, however many rules there
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from septum.envoy.names import HEALTH
from septum.model.mesh import Workload
from septum.model.operation import HttpPattern
from septum.policy.decide import path_covers

# `\C` is any byte: a query that is not UTF-8 must not make an allowed path fail to match.
_QUERY = r"(?:\?\C*)?"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a lookup ends: the id of the rule that allows, or an internal denial."""

    id: str
    allow: bool


@dataclass(frozen=True, slots=True)
class PathPlan:
    """`exact` and `prefixes` are lookups on the raw `:path`; `lists` has regexes in policy order by literal prefix."""

    exact: dict[str, Outcome]
    prefixes: dict[str, Outcome]
    lists: dict[str, tuple[tuple[str, str], ...]]


def plan_paths(target: Workload, patterns: Sequence[tuple[HttpPattern, str]]) -> PathPlan:
    """Lay out the patterns (with their rule ids, in policy order) that one caller and method may use on the target."""
    if target.ignore_case:
        return PathPlan({}, {}, {"/": tuple((regex_of(p, target), rule) for p, rule in patterns)})
    ranked = [_Ranked(rank, pattern, rule) for rank, (pattern, rule) in enumerate(patterns)]
    by_prefix: dict[str, list[_Ranked]] = {}
    by_literal: dict[str, list[_Ranked]] = {}
    for entry in ranked:
        literal = entry.pattern.path.literal
        group, key = (by_prefix, _key(entry.pattern)) if literal is None else (by_literal, literal)
        group.setdefault(key, []).append(entry)
    fixed = by_literal.keys() | ({target.health} if target.health else set())
    exact = {
        path: _first(target, path, [*by_literal.get(path, ()), *_behind(path, by_prefix)]) for path in sorted(fixed)
    }
    lists = {
        key: tuple((regex_of(e.pattern, target), e.rule) for e in _behind(key, by_prefix)) for key in sorted(by_prefix)
    }
    return PathPlan(exact, {f"{path}?": outcome for path, outcome in exact.items()}, lists)


@dataclass(frozen=True, slots=True, order=True)
class _Ranked:
    """A pattern with its place in the policy."""

    rank: int
    pattern: HttpPattern = field(compare=False)
    rule: str = field(compare=False)


def _behind(path: str, by_prefix: Mapping[str, list[_Ranked]]) -> list[_Ranked]:
    """Every open-ended pattern whose own prefix starts the path, in policy order.

    A path's longest key sees all of them, so nothing behind a shorter key is missed.
    """
    starts = (path[:length] for length in range(1, len(path) + 1))
    return sorted(entry for start in starts if start in by_prefix for entry in by_prefix[start])


def _first(target: Workload, path: str, candidates: Iterable[_Ranked]) -> Outcome:
    """What decides a path that is spelled out: the first pattern that covers it, or the denial of a health path."""
    for entry in sorted(candidates):
        if path_covers(entry.pattern, target, path):
            return Outcome(entry.rule, allow=True)
    return Outcome(HEALTH, allow=False)


def _key(pattern: HttpPattern) -> str:
    """Every path the pattern matches starts with this."""
    return pattern.path.literal_prefix or "/"


def regex_of(pattern: HttpPattern, target: Workload) -> str:
    """The pattern as an RE2 regex over the whole `:path`, query included."""
    char = "[^/?]" if target.path_parameters else "[^/?;]"
    rest = r"[^?]" if target.path_parameters else "[^?;]"
    path = "".join("/" + (f"{char}+" if segment is None else re.escape(segment)) for segment in pattern.path.segments)
    if pattern.path.tail:
        path += f"(?:/{rest}*)?" if path else f"/{rest}*"
    return ("(?i)" if target.ignore_case else "") + path + _QUERY
