"""What a change of the policy means: what is written differently, and what is newly allowed and newly denied, exactly.

All of it is about requests from `now` on. A row's witness is decided differently by `decide`; the rows together are the
difference, so that where there is none, none is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from septum.model.decision import Request
from septum.model.operation import GrpcOperation, HttpOperation
from septum.model.policy import Policy, Rule
from septum.policy.decide import allows
from septum.verify.changes import Change, changes
from septum.verify.gained import taken
from septum.verify.passing import Shift, shifts
from septum.verify.risk import Risk, unknown
from septum.verify.rows import Row, differ, rows


@dataclass(frozen=True, slots=True)
class Touched:
    """The workloads and places outside that a change is about, and the nodes that front them (of one node: unnamed)."""

    workloads: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """From one policy to another.

    `allowed` are rows of the new policy's rules that the old one denies, `denied` rows of the old policy's rules that
    the new one denies. `shifts` are what passes or stops as a whole, by observing and by quarantine.
    """

    changes: tuple[Change, ...]
    allowed: tuple[Row, ...]
    denied: tuple[Row, ...]
    shifts: tuple[Shift, ...]
    touched: Touched
    risk: Risk


def diff(old: Policy, new: Policy, now: float) -> Diff:
    """What changes from `old` to `new`; `now` is in seconds since 1970, and parts of a second are cut off."""
    moment = int(now)
    written = changes(old, new)
    allowed, denied, passing = rows(new, old, moment), rows(old, new, moment), shifts(old, new, moment)
    _check(allowed, new, old)
    _check(denied, old, new)
    risk = Risk(
        widens=bool(allowed) or any(shift.widens for shift in passing),
        narrows=bool(denied) or any(shift.narrows for shift in passing),
        unknown=unknown(old, new),
    )
    return Diff(written, allowed, denied, passing, _touched(old, new, written, (*allowed, *denied)), risk)


def _check(found: Iterable[Row], more: Policy, less: Policy) -> None:
    """Hold each witness to the meaning of the policies, rule by rule; `decide` would look for the nearest rule too."""
    asked = _Asked(more), _Asked(less)
    for row in found:
        shown = f"{row.rule.id}: {row.witness.caller} -> {row.witness.target} {row.witness.operation}"
        assert asked[0].allows(row.witness), f"the witness of a row is not allowed: {shown}"
        assert not asked[1].allows(row.witness), f"the witness of a row is allowed by both: {shown}"


class _Asked:
    """A policy of which much is asked: it keeps which rules to a target name whom, and have which method."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._named: dict[str, Mapping[tuple[str, str], list[Rule]]] = {}

    def allows(self, request: Request) -> bool:
        """Whether some rule allows a request that no quarantine is about."""
        target = self._policy.mesh.target(request.target)
        if target is None or request.caller not in self._policy.mesh.workloads:
            return False
        assert not {request.caller, request.target} & self._policy.quarantined
        named = self._named.get(target.name)
        if named is None:
            named = self._named[target.name] = _by_caller_and_method(self._policy.rules_to[target.name])
        return any(allows(rule, target, request) for rule in named.get((request.caller, _method(request)), ()))


def _method(request: Request) -> str:
    """The method of what is asked: POST of a gRPC method, none of a session."""
    operation = request.operation
    if isinstance(operation, HttpOperation):
        return operation.method
    return "POST" if isinstance(operation, GrpcOperation) else ""


def _by_caller_and_method(rules: Iterable[Rule]) -> Mapping[tuple[str, str], list[Rule]]:
    named: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        methods = {""} if rule.operations is None else {one for p in rule.operations for one in p.methods}
        for caller in rule.callers:
            for method in methods:
                named[caller, method].append(rule)
    return named


def _touched(old: Policy, new: Policy, written: Iterable[Change], found: Iterable[Row]) -> Touched:
    """Targets that are decided otherwise, callers that may ask other things, and workloads declared otherwise."""
    names = {change.name for change in written if change.kind in ("workload", "external")}
    names.update(name for name in new.mesh.targets if name not in names and _decided_otherwise(old, new, name))
    for row in found:
        names.update(row.callers, row.targets)
    names.update(old.quarantined ^ new.quarantined)
    fronted = [policy.mesh.workloads[name] for policy in (new, old) for name in names if name in policy.mesh.workloads]
    order = [*new.mesh.targets, *(name for name in old.mesh.targets if name not in new.mesh.targets)]
    touched = tuple(name for name in order if name in names)
    return Touched(touched, tuple(sorted({workload.node for workload in fronted})))


def _decided_otherwise(old: Policy, new: Policy, name: str) -> bool:
    before, after = old.mesh.target(name), new.mesh.targets[name]
    if before is None or taken(before) != taken(after) or old.mesh.mode(before) is not new.mesh.mode(after):
        return True
    return differ(old.rules_to[name], new.rules_to[name])
