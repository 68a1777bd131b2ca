"""What was asked and what was decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from septum.model.claims import NO_TOKEN, Claims
from septum.model.operation import Operation
from septum.model.policy import Rule


class Effect(StrEnum):
    """The two outcomes. There is no third."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks whom for what. `caller` and `target` are names as given; they need not exist.

    `claims` are those of a token that was verified; there are none without one, and none of a token that is not valid.
    `time` is when it is asked (seconds since 1970); None is not known, and then no rule holds that begins or ends.
    """

    caller: str
    target: str
    operation: Operation
    claims: Claims = field(default_factory=lambda: NO_TOKEN)
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Nearest:
    """The rule that came closest to allowing a denied request, and the one thing that did not match."""

    rule: Rule | None
    mismatch: str


@dataclass(frozen=True, slots=True)
class Decision:
    """An outcome and why: the rule that allows, or the nearest miss of a denial."""

    effect: Effect
    policy_version: str
    rule: Rule | None = None
    nearest: Nearest | None = None

    @property
    def allowed(self) -> bool:
        """Whether the policy allows the request, whatever the target's mode."""
        return self.effect is Effect.ALLOW
