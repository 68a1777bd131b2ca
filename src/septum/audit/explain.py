"""Why: the rule that came nearest to a denied request, and whether the policy agrees with what the proxy did.

The proxy names the rule that allowed, and of a denial only that no rule did. The policy that it held says the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

import structlog

from septum.audit.latest import Latest
from septum.audit.line import Line
from septum.audit.outcome import ALLOW, Outcome, operation
from septum.model.claims import When, holds
from septum.model.decision import Decision, Request
from septum.model.policy import Policy, Rule
from septum.policy.decide import decide, opens
from septum.policy.tokens import token_mismatch

_log = structlog.get_logger("septum.audit")

# How a reason starts when the policy contradicts the proxy. No other reason does.
DISAGREES = "septum: "


class Policies(Protocol):
    """Where the policies that proxies hold or held are found. Called once a record, so it should be quick."""

    def policy_for(self, target: str | None, slice: str | None, time: float) -> Policy | None:
        """The policy whose rules for `target` have the digest `slice`; without one, the policy in force at `time`."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the policy adds to an outcome."""

    target: str
    policy_version: str = ""
    nearest: str = ""
    reason: str = ""


class Explainer:
    """Asks the policy about outcomes.

    An allow is checked against the rule the proxy named, one by one. Denials go through `decide`, whose latest answers
    are kept, so that a flood of them stays cheap.
    """

    def __init__(self, policies: Policies, keep: int = 16384) -> None:
        self._policies = policies
        self._agreeing = Latest[str, _Agreeing](8)
        self._explained = Latest[tuple[object, ...], Explanation](keep)

    def explain(self, line: Line, node: str, caller: str, asked: str, outcome: Outcome) -> Explanation:
        """The explanation of one line that a node wrote; `asked` is its protocol."""
        policy = self._policies.policy_for(line.target, line.slice, line.time)
        if outcome.undecided:
            return _undecided(policy, line, node, outcome)
        agreeing = self._of(policy)
        if agreeing is not None and outcome.rule and (agreed := agreeing.agreement(line, caller, asked, outcome.rule)):
            return agreed
        decided_by = (policy.version, agreeing.meanwhile(line.time)) if policy and agreeing else ()
        named = line.target or (node, line.authority, line.sni)  # an address names a workload on its own node alone
        key = (decided_by, caller, named, line.method, line.path, line.iss, line.sub, asked, outcome)
        found = self._explained.get(key)
        if found is None:
            found = self._explained.put(key, _explain(policy, line, node, caller, asked, outcome))
        return found

    def _of(self, policy: Policy | None) -> _Agreeing | None:
        if policy is None:
            return None
        return self._agreeing.get(policy.version) or self._agreeing.put(policy.version, _Agreeing(policy))


class _Agreeing:
    """Confirms what one policy allows, by the rule that the proxy named."""

    def __init__(self, policy: Policy) -> None:
        self._rules = {rule.id: rule for rule in policy.rules}
        self._callers = {rule.id: frozenset(rule.callers) - policy.quarantined for rule in policy.rules}
        self._targets = {name: it for name, it in policy.mesh.targets.items() if name not in policy.quarantined}
        self._explanations = {name: Explanation(name, policy.version) for name in policy.mesh.targets}
        windows = {rule.window for rule in policy.rules if rule.window is not None}
        self._edges = sorted({edge for one in windows for edge in (one.from_time, one.until) if edge is not None})

    def meanwhile(self, time: float) -> int:
        """Which of the spans a moment is in, between the edges of all windows: in each, the policy says one thing."""
        return bisect_right(self._edges, time)

    def agreement(self, line: Line, caller: str, asked: str, named: str) -> Explanation | None:
        """The explanation of an allow, or None when that rule does not allow the request.

        A token's claims are not on record, so what the rule asks of them is taken to hold.
        """
        rule, target = self._rules.get(named), self._targets.get(line.target or "")
        if rule is None or target is None or caller not in self._callers[named] or target.name not in rule.targets:
            return None
        if rule.window is not None and not rule.window.holds(line.time):
            return None
        return self._explanations[target.name] if opens(rule, target, operation(line, asked, "")) else None


def _explain(policy: Policy | None, line: Line, node: str, caller: str, asked: str, outcome: Outcome) -> Explanation:
    """Ask `decide`. A request that was never routed is one to the target it names, or to the name as it was sent."""
    target = _target(policy, line, node)
    if policy is None:
        return Explanation(target, reason=outcome.refused or _unknown(outcome))
    if outcome.tunnel:
        return Explanation(target, policy.version, reason="the tunnel into the proxy failed")
    # The time is the one that the proxy compared, and the claims are unknown: what only they would open stays shut.
    request = Request(caller, target, operation(line, asked, outcome.refused), time=line.time)
    decision = decide(policy, request)
    reason = _reason(decision, outcome)
    if outcome.would_be != ALLOW and decision.nearest and decision.nearest.rule:
        reason = _of_token(decision.nearest.rule, policy, request, line) or reason
    if reason.startswith(DISAGREES):
        asked_of = f"{caller} -> {target}: {request.operation}"
        _log.error("the proxy and the policy disagree", request=asked_of, proxy=outcome.would_be, reason=reason)
    nearest = decision.nearest.rule.id if decision.nearest and decision.nearest.rule else ""
    return Explanation(target, policy.version, nearest, reason)


def _target(policy: Policy | None, line: Line, node: str) -> str:
    """The target's name, or the name as it was sent when nothing has it."""
    sent = line.authority or line.sni or ""
    return line.target or (policy.mesh.resolve(sent, node) if policy else None) or sent


def _undecided(policy: Policy | None, line: Line, node: str, outcome: Outcome) -> Explanation:
    """No rules were asked, so there is nothing to agree about."""
    return Explanation(_target(policy, line, node), policy.version if policy else "", reason=outcome.undecided)


def _of_token(rule: Rule, policy: Policy, request: Request, line: Line) -> str:
    """What of a token did not fit the rule, if it had one and nothing else kept the rule from allowing the request.

    The issuer and the subject are all that is on record of a token, and so all that can be told apart.
    """
    target = policy.mesh.target(request.target)
    if rule.when is None or line.iss is None or target is None or request.caller not in rule.callers:
        return ""
    if not opens(rule, target, request.operation) or not (rule.window is None or rule.window.holds(request.time)):
        return ""
    known = {name: value for name, value in (("iss", line.iss), ("sub", line.sub)) if value is not None}
    of_known = When(tuple((name, test) for name, test in rule.when.claims if name in ("iss", "sub")))
    if not holds(of_known, known):
        return token_mismatch(of_known, known)
    others = [f"`{name}`" for name, _ in rule.when.claims if name not in ("iss", "sub")]
    return f"token: it does not have what the rule asks of {', '.join(others) or 'it'}"


def _unknown(outcome: Outcome) -> str:
    return "" if outcome.would_be == ALLOW else "no rule allows it; the policy of that moment is not at hand"


def _reason(decision: Decision, outcome: Outcome) -> str:
    """What did not match, or how the policy contradicts the proxy."""
    if outcome.unasked:
        return DISAGREES + "it passed and no rules were asked"
    mismatch = decision.nearest.mismatch if decision.nearest else ""
    if outcome.would_be == ALLOW:
        what = f"allow by {decision.rule.id}, and not by {outcome.rule}" if decision.rule else f"deny, {mismatch}"
        return f"{DISAGREES}decide says {what}"
    return f"{DISAGREES}decide says allow by {decision.rule.id}" if decision.rule else mismatch
