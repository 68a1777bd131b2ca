"""Who may call whom at all by a policy, and what of that a change touches: worked out once for all nodes.

A node's snapshot depends on the rules of its own targets, and on which targets its own callers are named for. What
touches neither leaves the node alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from septum.model.mesh import Mode
from septum.model.policy import Policy


@dataclass(frozen=True, slots=True)
class Reach:
    """`callers` of each target as the rules name them, and `targets` of each workload the other way round.

    Observed targets, which everyone may call, stand in `observed` beside.
    """

    callers: Mapping[str, frozenset[str]]
    targets: Mapping[str, frozenset[str]]
    observed: frozenset[str]


def reach(policy: Policy) -> Reach:
    """Read from all rules."""
    callers = {name: _callers(policy, name) for name in policy.mesh.targets}
    targets: dict[str, set[str]] = {name: set() for name in policy.mesh.workloads}
    for target, named in callers.items():
        for caller in named:
            targets[caller].add(target)
    observed = frozenset(
        name for name, target in policy.mesh.targets.items() if policy.mesh.mode(target) is Mode.OBSERVE
    )
    return Reach(callers, {name: frozenset(found) for name, found in targets.items()}, observed)


def shut(policy: Policy, target: str) -> frozenset[str]:
    """The quarantined that play a part at a target: itself, and those who could call it, everyone if it is observed."""
    if not policy.quarantined:
        return policy.quarantined
    if target in policy.quarantined or policy.mesh.mode(policy.mesh.targets[target]) is Mode.OBSERVE:
        return policy.quarantined
    return policy.quarantined & _callers(policy, target)


def touched(old: Policy, new: Policy) -> frozenset[str] | None:
    """The targets and callers to which a change means something. None: the mesh changed, so any."""
    if old.mesh is not new.mesh:
        return None
    names = {name for name in new.mesh.targets if _differs(old, new, name)}
    for name in list(names):
        if name in new.mesh.workloads:
            names |= _callers(old, name) ^ _callers(new, name)
        else:
            # Where its callers are, what they may do is decided.
            names |= _callers(old, name) | _everyone_at(new, name)
    for name in (old.quarantined ^ new.quarantined) & new.mesh.targets.keys():
        # Its callers go nowhere, or somewhere again.
        names |= {name} | _everyone_at(new, name)
    return frozenset(names)


def _everyone_at(policy: Policy, target: str) -> frozenset[str]:
    """Whoever may come to a target at all: any workload, if it is observed."""
    observed = policy.mesh.mode(policy.mesh.targets[target]) is Mode.OBSERVE
    return frozenset(policy.mesh.workloads) if observed else _callers(policy, target)


def _differs(old: Policy, new: Policy, target: str) -> bool:
    return old.rules_to[target] != new.rules_to[target] or shut(old, target) != shut(new, target)


def _callers(policy: Policy, target: str) -> frozenset[str]:
    return frozenset(caller for rule in policy.rules_to[target] for caller in rule.callers)


@dataclass
class Survey:
    """`reach` and `touched` of the policies asked about last. The compilers of all nodes share one."""

    _reach: list[tuple[Policy, Reach]] = field(default_factory=list)
    _touched: list[tuple[Policy, Policy, frozenset[str] | None]] = field(default_factory=list)

    def reach(self, policy: Policy) -> Reach:
        """The same value as `reach(policy)`."""
        for known, found in self._reach:
            if known is policy:
                return found
        made = self._derived(policy) or reach(policy)
        self._reach = [(policy, made), *self._reach[:1]]
        return made

    def touched(self, old: Policy, new: Policy) -> frozenset[str] | None:
        """The same value as `touched(old, new)`."""
        for one, other, found in self._touched:
            if one is old and other is new:
                return found
        made = touched(old, new)
        self._touched = [(old, new, made), *self._touched[:1]]
        return made

    def _derived(self, policy: Policy) -> Reach | None:
        """From the policy before, when little changed."""
        if not self._reach:
            return None
        before, known = self._reach[0]
        changed = self.touched(before, policy)
        if changed is None:
            return None
        callers = dict(known.callers) | {name: _callers(policy, name) for name in changed}
        targets = dict(known.targets)
        for name in changed:
            for caller in known.callers[name] - callers[name]:
                targets[caller] = targets[caller] - {name}
            for caller in callers[name] - known.callers[name]:
                targets[caller] = targets[caller] | {name}
        return Reach(callers, targets, known.observed)
