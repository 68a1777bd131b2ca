"""What passes or stops as a whole by a change: targets that are observed or enforced now, and quarantine.

Where a target is observed everything passes, whatever its rules; where somebody is quarantined nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from septum.model.decision import Request
from septum.model.mesh import Mode
from septum.model.policy import Policy
from septum.policy.decide import goes_through
from septum.verify import region
from septum.verify.rows import request


class Kind(StrEnum):
    """What became of a target or a workload as a whole."""

    OBSERVED = "observed"
    ENFORCED = "enforced"
    GONE = "gone"
    QUARANTINED = "quarantined"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Shift:
    """One target that is observed or enforced now, or is gone and was observed; or somebody in or out of quarantine.

    The witness passes now and did not, or the other way round. A shift without one changes nothing for anybody.
    """

    kind: Kind
    name: str
    witness: Request | None

    @property
    def widens(self) -> bool:
        """Whether more passes by it."""
        return self.witness is not None and self.kind in (Kind.OBSERVED, Kind.RELEASED)

    @property
    def narrows(self) -> bool:
        """Whether less passes by it."""
        return self.witness is not None and not self.widens


def shifts(old: Policy, new: Policy, now: int) -> tuple[Shift, ...]:
    """The shifts from one policy to another."""
    found = [(kind, name) for kind, name in (*_modes(old, new), *_quarantines(old, new))]
    return tuple(Shift(kind, name, _witness(kind, name, old, new, now)) for kind, name in found)


def _modes(old: Policy, new: Policy) -> Iterator[tuple[Kind, str]]:
    """A target that is not there lets nothing pass, as one does of which no rule opens anything."""
    for name in [*new.mesh.targets, *(old.mesh.targets.keys() - new.mesh.targets.keys())]:
        before, after = _observed(old, name), _observed(new, name)
        if after and not before:
            yield Kind.OBSERVED, name
        elif before and not after:
            yield (Kind.ENFORCED if name in new.mesh.targets else Kind.GONE), name


def _observed(policy: Policy, name: str) -> bool:
    target = policy.mesh.target(name)
    return target is not None and policy.mesh.mode(target) is Mode.OBSERVE


def _quarantines(old: Policy, new: Policy) -> Iterator[tuple[Kind, str]]:
    """Who is not in both meshes passes nothing in one of them anyway."""
    for kind, names in (
        (Kind.QUARANTINED, new.quarantined - old.quarantined),
        (Kind.RELEASED, old.quarantined - new.quarantined),
    ):
        yield from ((kind, name) for name in sorted(names) if old.mesh.target(name) and new.mesh.target(name))


def _witness(kind: Kind, name: str, old: Policy, new: Policy, now: int) -> Request | None:
    """A request that passes in one of the policies alone."""
    more, less = (new, old) if kind in (Kind.OBSERVED, Kind.RELEASED) else (old, new)
    requests = _at_target(name, more, less, now) if kind in _OF_MODES else _of_workload(name, more, now)
    return next((one for one in requests if goes_through(more, one) and not goes_through(less, one)), None)


_OF_MODES = (Kind.OBSERVED, Kind.ENFORCED, Kind.GONE)


def _at_target(name: str, more: Policy, less: Policy, now: int) -> Iterator[Request]:
    """Requests to a target that `more` observes, of which the rules of `less` allow none."""
    target = more.mesh.targets[name]
    by_rules = less.rules_to.get(name, ())
    for caller in _callers(more):
        denied = region.since(now) - region.of_rules([r for r in by_rules if caller in r.callers], target)
        asked = denied.witness(target)
        if asked is not None:
            yield request(caller, name, asked, now)


def _of_workload(name: str, more: Policy, now: int) -> Iterator[Request]:
    """Requests that `more` lets pass to a workload and from it."""
    yield from _passing(more, _callers(more), [name], now)
    if name in more.mesh.workloads:
        yield from _passing(more, [name], more.mesh.targets, now)


def _passing(policy: Policy, callers: Iterable[str], targets: Iterable[str], now: int) -> Iterator[Request]:
    """Of each caller and target one request that passes, where there is one."""
    asking = list(callers)
    for name in targets:
        target = policy.mesh.targets[name]
        for caller in asking:
            rules = [rule for rule in policy.rules_to[name] if caller in rule.callers]
            open_ = region.EVERYTHING if _observed(policy, name) else region.of_rules(rules, target)
            asked = (open_ & region.since(now)).witness(target)
            if asked is not None:
                yield request(caller, name, asked, now)


def _callers(policy: Policy) -> list[str]:
    return [name for name in policy.mesh.workloads if name not in policy.quarantined]
