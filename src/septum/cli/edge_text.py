"""What rules allow between two, in few words: for a line of a tree and the label of an arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from septum.model.policy import Rule
from septum.model.window import time_text
from septum.policy.times import window_text
from septum.verify.conditions import when_text

# As many operations of one condition are named, and as many conditions told apart.
_OPERATIONS, _CONDITIONS = 3, 2


def edge_text(rules: Sequence[Rule]) -> str:
    """`GET /orders/{id}, POST /orders; DELETE /orders/{id} [iss is "…"] [until 2027-01-31T00:00:00Z]`."""
    by_condition: dict[str, dict[str, None]] = {}
    for rule in sorted(rules, key=lambda rule: bool(condition_text(rule))):
        by_condition.setdefault(condition_text(rule), {}).update(dict.fromkeys(operations(rule)))
    parts = [_few(list(named), _OPERATIONS) + condition for condition, named in by_condition.items()]
    return _few(parts, _CONDITIONS, "; ")


def operations(rule: Rule) -> tuple[str, ...]:
    """What a rule opens, as it is written; `connect` where it opens sessions."""
    return ("connect",) if rule.operations is None else tuple(pattern.text for pattern in rule.operations)


def condition_text(rule: Rule) -> str:
    """` [iss is "…"] [until …]`, or nothing."""
    token = f" [{when_text(rule.when)}]" if rule.when is not None else ""
    return token + (f" [{window_text(rule.window)}]" if rule.window is not None else "")


def rule_json(rule: Rule) -> dict[str, Any]:
    """A rule as a value: what it opens, under which conditions, and where it stands."""
    window = rule.window
    return {
        "id": rule.id,
        "operations": operations(rule),
        "when": when_text(rule.when) if rule.when is not None else None,
        "from_time": time_text(window.from_time) if window and window.from_time is not None else None,
        "until": time_text(window.until) if window and window.until is not None else None,
        "because": rule.because,
        "file": rule.span.file if rule.span else None,
        "line": rule.span.line if rule.span else None,
    }


def _few(words: list[str], most: int, between: str = ", ") -> str:
    return between.join(words[:most]) + (f" +{len(words) - most}" if len(words) > most else "")
