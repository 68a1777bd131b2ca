"""Path patterns to the lookups that decide them: exact keys, longest prefixes, and few regexes behind each prefix.

A request's `:path` carries its query, so every exact path also stands as the prefix `path?`, and every regex ends in an
optional query. Whichever lookup answers, it names the first pattern in policy order that covers the path, as `decide`
does. The cost of a request is two map lookups and the regexes that share its literal prefix, however many rules there
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    fixed = {path: _first(target, patterns, path) for path in _fixed_paths(target, patterns)}
    exact = {path: outcome for path, outcome in fixed.items() if outcome is not None}
    return PathPlan(exact, {f"{path}?": outcome for path, outcome in exact.items()}, _lists(target, patterns))


def _fixed_paths(target: Workload, patterns: Sequence[tuple[HttpPattern, str]]) -> Iterable[str]:
    paths = {p.path.literal for p, _ in patterns if p.path.literal is not None}
    return sorted(paths | ({target.health} if target.health else set()))


def _first(target: Workload, patterns: Sequence[tuple[HttpPattern, str]], path: str) -> Outcome | None:
    for pattern, rule in patterns:
        if path_covers(pattern, target, path):
            return Outcome(rule, allow=True)
    return Outcome(HEALTH, allow=False) if path == target.health else None


def _lists(target: Workload, patterns: Sequence[tuple[HttpPattern, str]]) -> dict[str, tuple[tuple[str, str], ...]]:
    """A path's longest key sees every pattern whose own prefix starts it, so nothing behind a shorter key is missed."""
    open_ended = [(pattern, rule, _key(pattern)) for pattern, rule in patterns if pattern.path.literal is None]
    return {
        key: tuple((regex_of(pattern, target), rule) for pattern, rule, prefix in open_ended if key.startswith(prefix))
        for key in sorted({prefix for _, _, prefix in open_ended})
    }


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
