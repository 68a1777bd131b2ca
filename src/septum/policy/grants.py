"""Grants, which are rules that end: which there are, when they end, and who loses something by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.revoked import Pair, revoked


def grants(policy: Policy) -> tuple[Rule, ...]:
    """The rules that end or have ended, those that end first before the others."""
    ending = [(until, rule) for rule in policy.rules if (until := end_of(rule)) is not None]
    return tuple(rule for _, rule in sorted(ending, key=lambda one: (one[0], one[1].id)))


def end_of(rule: Rule) -> int | None:
    """When a rule ends, or None."""
    return None if rule.window is None else rule.window.until


def ended(policy: Policy, now: float) -> tuple[Rule, ...]:
    """The grants that are over for good, so that they open nothing any more."""
    return tuple(rule for rule in grants(policy) if rule.window is not None and rule.window.over(now))


def ends(policy: Policy) -> tuple[int, ...]:
    """The moments at which some grant ends, in order."""
    return tuple(sorted({until for rule in policy.rules if (until := end_of(rule)) is not None}))


def losing(policy: Policy, end: int) -> frozenset[Pair]:
    """The pairs that may have calls which were allowed just before a moment, and are not from then on."""
    return revoked(_at(policy, end - 1), _at(policy, end))


def _at(policy: Policy, time: int) -> Policy:
    """What the policy allows at a moment, as one without windows."""
    return replace(policy, rules=tuple(_holding(policy, time)))


def _holding(policy: Policy, time: int) -> Iterator[Rule]:
    for rule in policy.rules:
        if rule.window is None:
            yield rule
        elif rule.window.holds(time):
            yield replace(rule, window=None)


def described(grant: Rule) -> dict[str, Any]:
    """A grant as a JSON value: who may do what, and from when until when (seconds since 1970)."""
    window = grant.window or Window()
    return {
        "rule": grant.id,
        "from": grant.callers_text,
        "to": grant.targets_text,
        "operations": ["connect"] if grant.operations is None else [pattern.text for pattern in grant.operations],
        "from_time": window.from_time,
        "until": window.until,
        "because": grant.because,
        "at": "" if grant.span is None else grant.span.place,
    }
