"""Whether a rule opens anything that patterns cover, told by the patterns alone: no set of requests is made for it."""

from __future__ import annotations

from collections.abc import Sequence

from septum.model.mesh import Target
from septum.model.operation import HttpPattern, PathPattern
from septum.model.policy import Rule
from septum.policy.decide import is_health


def opens_some(rule: Rule, operations: Sequence[HttpPattern], target: Target) -> bool:
    """Whether a rule opens, for a token and a time that it asks for, some request that the operations cover.

    They cover by their words alone: also a health path, which a rule has to spell out.
    """
    return any(_meet(opened, asked, target) for opened in rule.operations or () for asked in operations)


def _meet(opened: HttpPattern, asked: HttpPattern, target: Target) -> bool:
    if set(opened.methods).isdisjoint(asked.methods) or not _common(opened.path, asked.path, target.ignore_case):
        return False
    path = _only(opened.path, asked.path)
    return path is None or not is_health(target, path) or opened.path.literal is not None


def _common(one: PathPattern, other: PathPattern, ignore_case: bool) -> bool:
    """Whether some path matches both."""
    short, long = sorted((one, other), key=lambda pattern: len(pattern.segments))
    if len(long.segments) > len(short.segments) and not short.tail:
        return False
    pairs = zip(short.segments, long.segments, strict=False)
    return all(_fit(mine, theirs, ignore_case) for mine, theirs in pairs)


def _fit(one: str | None, other: str | None, ignore_case: bool) -> bool:
    if one is None or other is None:
        return "" not in (one, other)  # a placeholder is never empty
    return one.lower() == other.lower() if ignore_case else one == other


def _only(one: PathPattern, other: PathPattern) -> str | None:
    """The one path that matches both of two patterns that have some in common; None when there are more."""
    if one.tail and other.tail:
        return None
    length = max(len(one.segments), len(other.segments))
    padded = [(*pattern.segments, *[None] * (length - len(pattern.segments))) for pattern in (one, other)]
    segments = [mine if mine is not None else theirs for mine, theirs in zip(*padded, strict=True)]
    return None if None in segments else "/" + "/".join(part for part in segments if part is not None)
