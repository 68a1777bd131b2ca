"""Whether a policy's rules keep its guarantees, exactly: with the chain of calls that breaks one where they do not.

A guarantee is about what rules allow at any moment from `now` on and with any token: a rule whose window is over opens
nothing, one that is yet to begin opens what it says, and who is quarantined neither calls nor is called. The steps of a
chain are calls that are each allowed at some such moment. `always` is the other way round: at every moment, and without
a token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import assert_never

from septum.model.decision import Nearest
from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.guarantee import Guarantee, Kind
from septum.model.mesh import Mesh, Protocol, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy
from septum.model.window import time_text
from septum.policy.codes import BROKEN_GUARANTEE, NOT_CARRIED_OUT, OVERRIDDEN
from septum.policy.decide import decide
from septum.policy.roles import MESH_FILE
from septum.policy.text import whole
from septum.verify.calls import Calls, Operations, Step, UnsoundError, request_of
from septum.verify.region import Region
from septum.verify.standing import Standing

Chain = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a guarantee.

    `chain` is empty when it holds. Otherwise it is the shortest chain of allowed calls that breaks it, or, for
    `always`, the one request that is denied; `pairs` counts the callers and targets of which that is so. `overridden`
    says that the policy may break it at this time. `passing` is a chain that goes through although the rules keep the
    guarantee, because targets in it are observed.
    """

    guarantee: Guarantee
    chain: Chain = ()
    pairs: int = 0
    overridden: bool = False
    passing: Chain = ()

    @property
    def holds(self) -> bool:
        """Whether the rules keep it."""
        return not self.chain

    @property
    def refuses(self) -> bool:
        """Whether the policy may not be enforced as it stands."""
        return not self.holds and not self.overridden


def verdicts(policy: Policy, now: float) -> tuple[Verdict, ...]:
    """What becomes of each guarantee of a policy from a moment on (seconds since 1970), in their order.

    Raises UnsoundError when a request that is to be shown is not decided as is said of it.
    """
    judge = _Judge(Calls(policy, now), Calls(policy, now, passing=True))
    return tuple(judge.verdict(guarantee) for guarantee in policy.guarantees)


def findings(policy: Policy, now: float) -> tuple[Diagnostic, ...]:
    """What is wrong with a policy by its guarantees, in the order in which it is shown.

    A broken guarantee is an error, unless it is overridden at this time, and then a warning; so is one that the rules
    keep and that is not carried out because targets are observed.
    """
    found = (diagnostic for verdict in verdicts(policy, now) for diagnostic in _said(verdict, policy.mesh, now))
    return tuple(sorted(found, key=lambda diagnostic: diagnostic.order))


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges guarantees by what the rules allow (`calls`), and by what goes through (`passing`)."""

    calls: Calls
    passing: Calls

    def verdict(self, guarantee: Guarantee) -> Verdict:
        chain, pairs = self._breach(guarantee)
        if not chain:
            return Verdict(guarantee, passing=self._unchecked(guarantee))
        override = guarantee.override
        return Verdict(guarantee, chain, pairs, override is not None and self.calls.now < override.until)

    def _breach(self, guarantee: Guarantee) -> tuple[Chain, int]:
        match guarantee.kind:
            case Kind.NEVER | Kind.ONLY:
                return _forbidden(guarantee, self.calls)
            case Kind.ALWAYS:
                return _missing(guarantee, self.calls)
            case _:
                assert_never(guarantee.kind)

    def _unchecked(self, guarantee: Guarantee) -> Chain:
        """What goes through by observed targets, of a guarantee that the rules keep."""
        return () if guarantee.kind is Kind.ALWAYS else _forbidden(guarantee, self.passing)[0]


def _forbidden(guarantee: Guarantee, calls: Calls) -> tuple[Chain, int]:
    """The shortest chain that there is not to be, and of how many callers and targets there is one."""
    named = calls.set_of(guarantee.callers)
    starts = named if guarantee.kind is Kind.NEVER else calls.everyone & ~named
    asked = {target: _asked(guarantee, target, calls) for target in guarantee.targets}
    last = {target: calls.callers(target, operations) for target, operations in asked.items()}
    if not guarantee.through:
        last = {target: callers & starts for target, callers in last.items()}
    found = calls.chains.shortest(starts, last)
    if found is None:
        return (), 0
    reaching = (calls.chains.reaching(callers) if guarantee.through else callers for callers in last.values())
    pairs = sum((callers & starts).bit_count() for callers in reaching)
    callers, target = found
    return _steps([calls.workloads[index] for index in callers], target, asked[target], calls), pairs


def _steps(callers: list[str], target: str, operations: Operations, calls: Calls) -> Chain:
    """A chain as requests; of all steps but the last, anything that is allowed will do."""
    before = [calls.step(caller, callee) for caller, callee in pairwise(callers)]
    return (*before, calls.step(callers[-1], target, operations))


def _asked(guarantee: Guarantee, target: str, calls: Calls) -> Operations:
    """What a guarantee is about at a target, None for whatever can be asked."""
    if guarantee.operations is None:
        return None
    return _spoken(guarantee.operations, calls.policy.mesh.targets[target].protocol)


def _missing(guarantee: Guarantee, calls: Calls) -> tuple[Chain, int]:
    """A request that is denied and is not to be, and of how many callers and targets there is one."""
    standing, found, pairs = Standing(calls), None, 0
    for target in guarantee.targets:
        asked = _spoken(guarantee.operations or (), calls.policy.mesh.targets[target].protocol)
        if not standing.wanted(target, asked):
            continue
        served = standing.callers(target, asked)
        if guarantee.through:
            served = standing.chains.reaching(served)
        # By name, since who is quarantined is in no set.
        without = [caller for caller in guarantee.callers if not calls.set_of((caller,)) & served]
        pairs += len(without)
        if without and found is None:
            found = _denied(without[0], target, standing.lacking(without[0], target, asked), calls)
    return () if found is None else (found,), pairs


def _spoken(operations: tuple[HttpPattern, ...], protocol: Protocol) -> tuple[HttpPattern, ...]:
    """Those of a guarantee's operations that are of a protocol: `METHOD /path` is HTTP, a gRPC method has no space."""
    return tuple(pattern for pattern in operations if (" " in pattern.text) == (protocol is Protocol.HTTP))


def _denied(caller: str, target: str, lacking: Region, calls: Calls) -> Step:
    asked = lacking.witness(calls.policy.mesh.targets[target])
    assert asked is not None, f"{caller} lacks nothing at {target}"
    request = request_of(caller, target, asked, calls.now)
    decision = decide(calls.policy, request)
    if decision.allowed or request.claims:
        raise UnsoundError(f"{request} should be denied, and what is decided is {decision}")
    return Step(request, decision)


def step_text(step: Step, now: float) -> str:
    """A step in a line: who asks what of whom, with which claims, when (where that is not now), and by which rule."""
    request = step.request
    claims = f" with {json.dumps(dict(request.claims), ensure_ascii=False)}" if request.claims else ""
    later = f" at {time_text(request.time)}" if request.time is not None and request.time > now else ""
    asked = f"{request.caller} -> {request.target}  {request.operation}{claims}{later}"
    if step.rule is None:
        return asked
    place = f" at {step.rule.span.place}" if step.rule.span else ""
    return f"{asked}  by {step.rule.id}{place}"


def _said(verdict: Verdict, mesh: Mesh, now: float) -> Iterator[Diagnostic]:
    guarantee = verdict.guarantee
    if verdict.overridden:
        yield _overridden(verdict, now)
    elif not verdict.holds:
        message = f"the guarantee `{guarantee.name}` is broken: {_in_short(verdict)}"
        yield Diagnostic(BROKEN_GUARANTEE, message, _place(guarantee), _label(verdict, now), _help(verdict))
    elif verdict.passing:
        yield _passing(verdict, mesh, now)


def _in_short(verdict: Verdict) -> str:
    """`storefront reaches ledger through orders`."""
    first, last = verdict.chain[0].request, verdict.chain[-1].request
    if verdict.guarantee.kind is Kind.ALWAYS:
        if verdict.guarantee.through:
            return f"{first.caller} does not always reach {first.target}"
        return f"{first.caller} may not always call {first.target}"
    if len(verdict.chain) == 1:
        return f"{first.caller} may call {last.target}"
    return (
        f"{first.caller} reaches {last.target} through {', '.join(step.request.caller for step in verdict.chain[1:])}"
    )


def _label(verdict: Verdict, now: float) -> str:
    """The chain, a line for each step."""
    more = verdict.pairs - 1
    others = f", and so for {more} more pair{'s' if more > 1 else ''} of caller and target" if more else ""
    if verdict.guarantee.kind is Kind.ALWAYS:
        (step,) = verdict.chain
        return f"this is denied{others}:\n{step_text(step, now)}\n{_why(step.decision.nearest)}"
    return "\n".join([f"this is allowed{others}:", *(step_text(step, now) for step in verdict.chain)])


def _why(nearest: Nearest | None) -> str:
    """What keeps a denied request from being allowed."""
    assert nearest is not None  # a denial has a reason
    rule = nearest.rule
    if rule is None:
        return nearest.mismatch
    return f"{nearest.mismatch} (nearest: {rule.id}{f' at {rule.span.place}' if rule.span else ''})"


def _help(verdict: Verdict) -> str:
    override = verdict.guarantee.override
    if override is not None:
        return (
            f"its override `{override.name}` ended at {time_text(override.until)}: mend the rules, or set another end"
        )
    if verdict.guarantee.kind is Kind.ALWAYS:
        return "add a rule for it, or give the guarantee an `override` with a name, a reason and an end"
    return "take away one of these rules, or give the guarantee an `override` with a name, a reason and an end"


def _overridden(verdict: Verdict, now: float) -> Diagnostic:
    guarantee = verdict.guarantee
    override = guarantee.override
    assert override is not None  # or it would not be overridden
    message = (
        f"the guarantee `{guarantee.name}` is broken until {time_text(override.until)}, as `{override.name}` allows: "
        f"{override.because}"
    )
    return Diagnostic(OVERRIDDEN, message, _place(guarantee), _label(verdict, now), severity=Severity.WARNING)


def _passing(verdict: Verdict, mesh: Mesh, now: float) -> Diagnostic:
    guarantee = verdict.guarantee
    message = f"the guarantee `{guarantee.name}` holds by the rules, and is not carried out yet"
    observed = [step.request.target for step in verdict.passing if not step.decision.allowed]
    label = "\n".join(["this goes through:", *(_passing_text(step, now) for step in verdict.passing)])
    by = ", ".join(f"`{name}`" for name in dict.fromkeys(_observed(name, mesh) for name in observed))
    help = f"it is carried out once {by} is enforced"
    return Diagnostic(NOT_CARRIED_OUT, message, _place(guarantee), label, help, Severity.WARNING)


def _passing_text(step: Step, now: float) -> str:
    observed = "" if step.decision.allowed else f"  because {step.request.target} is observed"
    return step_text(step, now) + observed


def _observed(name: str, mesh: Mesh) -> str:
    """What says that a target is observed: its segment, or else it itself."""
    target = mesh.targets[name]
    return target.segment if isinstance(target, Workload) and target.mode is None else name


def _place(guarantee: Guarantee) -> Span:
    return guarantee.span or whole(MESH_FILE)
