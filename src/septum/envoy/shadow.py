"""A candidate: a second policy that proxies ask beside the enforced one. Its answer is recorded, and never carried out.

It is asked about the targets of the enforced mesh, whose nodes, addresses and issuers stay as they are. What the
candidate says of a target itself (which paths it takes, where its health is) counts, as far as it changes an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from septum.envoy.reach import shut
from septum.model.mesh import Target
from septum.model.policy import Policy, Rule
from septum.policy.candidate import comparable


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a candidate says of one target. `target` is the target as it has it, or None: then nothing is allowed.

    `version` names the candidate in records.
    """

    version: str
    target: Target | None = None
    rules: tuple[Rule, ...] = ()
    quarantined: frozenset[str] = frozenset()

    def among(self, callers: Collection[str]) -> Shadow:
        """The same for some callers, where nobody else calls."""
        here = {*callers, self.target.name if self.target else ""}
        return replace(self, rules=tuple(among(self.rules, callers)), quarantined=self.quarantined & here)


@dataclass(frozen=True, eq=False)
class Candidate:
    """The policy, and the targets about which it is asked (None: all of them).

    `version` is that of its files; that of `policy` depends on who is in quarantine, which a candidate does not change.
    """

    policy: Policy
    version: str
    targets: frozenset[str] | None = None

    def of(self, target: Target) -> Shadow | None:
        """What it says of a target of the enforced mesh; None where it is not asked."""
        if self.targets is not None and target.name not in self.targets:
            return None
        own = self.policy.mesh.target(target.name)
        if own is None or not comparable(target, own):
            return Shadow(self.version)
        quarantined = shut(self.policy, target.name)
        return Shadow(self.version, own, self.policy.rules_to[target.name], quarantined)

    @cached_property
    def opened(self) -> Mapping[str, frozenset[str]]:
        """Caller → the targets about which it is asked, and on which it opens something to that caller."""
        found: dict[str, set[str]] = {}
        for rule in self.policy.rules:
            for target in rule.targets if self.targets is None else self.targets.intersection(rule.targets):
                for caller in rule.callers:
                    found.setdefault(caller, set()).add(target)
        return {caller: frozenset(targets) for caller, targets in found.items()}


def among(rules: Sequence[Rule], callers: Collection[str]) -> Iterator[Rule]:
    """The rules as they are for some callers. Nobody else calls on their node, nor needs to be known on it."""
    for rule in rules:
        here = tuple(caller for caller in rule.callers if caller in callers)
        if here:
            yield replace(rule, callers=here)
