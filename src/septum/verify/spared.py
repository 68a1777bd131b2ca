"""What a guarantee `always` needs, of what nothing seems to use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from septum.model.guarantee import Kind
from septum.model.policy import Policy
from septum.policy.upkeep.cuts import Cuts, after
from septum.verify.guarantee import verdicts

# A rule's id and the place of one of its operations; None: the whole rule.
Cut = tuple[str, int | None]


def spared(policy: Policy, cuts: Sequence[Cut], now: float) -> Mapping[Cut, str]:
    """The cuts after which a guarantee would not hold that does, each with the guarantee's name.

    Those that are left may all be made. Which of several are spared, where any one of them would do, is the later ones.
    """
    if not any(guarantee.kind is Kind.ALWAYS for guarantee in policy.guarantees):
        return {}
    search = _Search(policy, now)
    search.take(list(cuts))
    return search.spared


def merged(cuts: Iterable[Cut]) -> Cuts:
    """Single cuts as one."""
    found: dict[str, frozenset[int] | None] = {}
    for rule_id, index in cuts:
        known = found.get(rule_id, frozenset())
        found[rule_id] = None if index is None or known is None else known | {index}
    return found


class _Search:
    """Takes cuts in halves, so that many that break nothing cost little."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy, self._now = policy, now
        self._broken = self._broken_by([])
        self._made: list[Cut] = []
        self.spared: dict[Cut, str] = {}

    def take(self, cuts: list[Cut]) -> None:
        """Make the cuts that break nothing beside those already made."""
        broken = self._broken_by([*self._made, *cuts]) - self._broken if cuts else frozenset()
        if not broken:
            self._made += cuts
        elif len(cuts) == 1:
            self.spared[cuts[0]] = min(broken)
        else:
            half = len(cuts) // 2
            self.take(cuts[:half])
            self.take(cuts[half:])

    def _broken_by(self, cuts: list[Cut]) -> frozenset[str]:
        """The guarantees that do not hold after cuts; taking away breaks none but those of `always`."""
        always = tuple(one for one in self._policy.guarantees if one.kind is Kind.ALWAYS)
        left = replace(self._policy, rules=after(self._policy.rules, merged(cuts)), guarantees=always)
        return frozenset(one.guarantee.name for one in verdicts(left, self._now) if not one.holds)
