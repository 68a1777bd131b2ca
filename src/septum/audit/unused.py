"""What of a policy nothing used, and what is kept all the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from septum.audit.usage import Key, Usage, Use
from septum.model.policy import Policy, Rule
from septum.verify.coverage import written


class Fate(StrEnum):
    """What is to become of an operation of a rule, and why."""

    USED = "used"
    UNUSED = "unused"
    ENDED = "ended"
    NEWER = "newer"
    WAITING = "waiting"
    QUARANTINED = "quarantined"
    NEEDED = "needed"

    @property
    def goes(self) -> bool:
        """Whether it is taken out."""
        return self in (Fate.UNUSED, Fate.ENDED)


@dataclass(frozen=True, slots=True)
class Judged:
    """One operation of a rule: its use, since when it has been enforced as far as that is known, and what is to be.

    `index` is its first place in the rule, None for a rule about sessions. `why` names what keeps it, if that has a
    name.
    """

    rule: Rule
    index: int | None
    text: str
    use: Use | None
    entered: float | None
    fate: Fate
    why: str = ""


def judged(
    policy: Policy, usage: Usage, moments: Mapping[Key, float] | None, quarantined: frozenset[str], now: float
) -> tuple[Judged, ...]:
    """Every operation of every rule. `moments` says when each came to be enforced, None where nobody knows."""
    return tuple(one for rule in policy.rules for one in _of_rule(rule, usage, moments, quarantined, now))


def _of_rule(
    rule: Rule, usage: Usage, moments: Mapping[Key, float] | None, quarantined: frozenset[str], now: float
) -> Iterator[Judged]:
    texts = [pattern.text for pattern in rule.operations or ()]
    for text in written(rule):
        key = rule.id, text
        use, entered = usage.operations.get(key), None if moments is None else moments.get(key)
        fate, why = _fate(rule, use, usage.since, now)
        if fate is Fate.UNUSED and moments is not None and (entered is None or entered > usage.since):
            fate = Fate.NEWER
        if fate is Fate.UNUSED and (shut := _shut(rule, quarantined)):
            fate, why = Fate.QUARANTINED, shut
        yield Judged(rule, texts.index(text) if texts else None, text, use, entered, fate, why)


def _fate(rule: Rule, use: Use | None, since: float, now: float) -> tuple[Fate, str]:
    window = rule.window
    if window is not None and window.over(now):
        return Fate.ENDED, ""
    if use is not None:
        return Fate.USED, ""
    if window is not None and window.from_time is not None and window.from_time > since:
        return Fate.WAITING, ""
    return Fate.UNUSED, ""


def _shut(rule: Rule, quarantined: frozenset[str]) -> str:
    """Who of those whom the rule is about can do nothing now."""
    return next((name for name in (*rule.callers, *rule.targets) if name in quarantined), "")
