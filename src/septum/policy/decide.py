"""The meaning of a policy. Everything else (the compiler, the proxies, what is shown) is tested to agree with this."""

from __future__ import annotations

import re
from typing import assert_never

from septum.model.claims import holds
from septum.model.decision import Decision, Effect, Nearest, Request
from septum.model.mesh import Mode, Protocol, Target
from septum.model.operation import (
    ConnectOperation,
    GrpcOperation,
    HttpOperation,
    HttpPattern,
    Operation,
    RefusedOperation,
)
from septum.model.policy import Policy, Rule
from septum.policy.times import out_of_time
from septum.policy.tokens import token_mismatch

# `/a/..;x/b`: Envoy leaves it when the dots were encoded, and servers of the Tomcat family resolve it.
DOT_WITH_PARAMETERS = re.compile(r"/\.{1,2};")


def decide(policy: Policy, request: Request) -> Decision:
    """Allow a request when some rule allows it, and deny it otherwise. The first rule in policy order is named."""
    target = policy.mesh.target(request.target)
    if shut := _quarantined(policy, request):
        return _deny(policy, Nearest(None, f"quarantine: {shut} is quarantined"))
    if target is None or request.caller not in policy.mesh.workloads:
        return _deny(policy, Nearest(None, _stranger(policy, request)))
    for rule in policy.rules_to[target.name]:
        if request.caller in rule.callers and allows(rule, target, request):
            return Decision(Effect.ALLOW, policy.version, rule=rule)
    return _deny(policy, _nearest(policy, request, target))


def goes_through(policy: Policy, request: Request) -> bool:
    """Whether a request passes: the policy allows it, or its target is observed. Nothing passes a quarantine."""
    target = policy.mesh.target(request.target)
    if target is None or request.caller not in policy.mesh.workloads or _quarantined(policy, request):
        return False
    return policy.mesh.mode(target) is Mode.OBSERVE or decide(policy, request).allowed


def _quarantined(policy: Policy, request: Request) -> str | None:
    """Who keeps a request from passing whatever the rules say, or None."""
    return next((name for name in (request.caller, request.target) if name in policy.quarantined), None)


def allows(rule: Rule, target: Target, request: Request) -> bool:
    """Whether a rule that names the caller and the target allows the request: its operation, claims and time."""
    return (
        opens(rule, target, request.operation)
        and (rule.when is None or holds(rule.when, request.claims))
        and (rule.window is None or rule.window.holds(request.time))
    )


def opens(rule: Rule, target: Target, operation: Operation) -> bool:
    """Whether a rule that names the caller and the target covers the operation, whatever else it asks."""
    match operation:
        case RefusedOperation():
            return False
        case ConnectOperation():
            return rule.operations is None and target.protocol is Protocol.TCP
        case GrpcOperation(service, method):
            return opens(rule, target, HttpOperation("POST", f"/{service}/{method}"))
        case HttpOperation():
            return unreadable(target, operation) is None and any(
                _covers(pattern, target, operation) for pattern in rule.operations or ()
            )
        case _:
            assert_never(operation)


def unreadable(target: Target, operation: HttpOperation) -> str | None:
    """Why no rule can open this operation on this target, or None."""
    if ";" in operation.path and not target.path_parameters:
        return "the path has parameters (`;`), which the target does not declare (path_parameters: true)"
    if DOT_WITH_PARAMETERS.search(operation.path):
        return "the path has a dot segment with parameters, which some servers resolve"
    if operation.websocket and not target.websocket:
        return "the target does not declare WebSocket (websocket: true)"
    return None


def _covers(pattern: HttpPattern, target: Target, operation: HttpOperation) -> bool:
    return operation.method in pattern.methods and path_covers(pattern, target, operation.path)


def path_covers(pattern: HttpPattern, target: Target, path: str) -> bool:
    """Whether the pattern's path matches. A health path opens only to a rule that spells it out."""
    if is_health(target, path) and not _same(pattern.path.literal or "", path, target):
        return False
    return pattern.path.matches(path, ignore_case=target.ignore_case)


def pattern_covers(wide: HttpPattern, narrow: HttpPattern, target: Target) -> bool:
    """Whether every path that `narrow` matches on the target is one that `wide` matches; methods play no part."""
    literal = narrow.path.literal
    if literal is not None and is_health(target, literal):
        return path_covers(wide, target, literal)
    return wide.path.covers(narrow.path, ignore_case=target.ignore_case)


def is_health(target: Target, path: str) -> bool:
    """Whether this is the path that the target's node probes."""
    return target.health is not None and _same(path, target.health, target)


def _same(one: str, other: str, target: Target) -> bool:
    return one.lower() == other.lower() if target.ignore_case else one == other


def _deny(policy: Policy, nearest: Nearest) -> Decision:
    return Decision(Effect.DENY, policy.version, nearest=nearest)


def _stranger(policy: Policy, request: Request) -> str:
    if request.caller not in policy.mesh.workloads:
        return f"no workload is called `{request.caller}`"
    return f"`{request.target}` names no workload"


def _nearest(policy: Policy, request: Request, target: Target) -> Nearest:
    """The rule that came closest to a denied request, and the one thing that kept it from matching."""
    operation = request.operation
    if reason := _out_of_question(target, operation):
        return Nearest(None, reason)
    rules = policy.rules_to[target.name]
    named = [rule for rule in rules if request.caller in rule.callers]
    if held_back := next((rule for rule in named if opens(rule, target, operation)), None):
        return Nearest(held_back, _held_back(held_back, request))
    if named:
        closest = min((_near_miss(rule, target, operation) for rule in named), key=lambda pair: pair[0])[1]
        if isinstance(operation, HttpOperation) and is_health(target, operation.path):
            return Nearest(closest.rule, "path: the health path opens only to a rule that spells it out")
        return closest
    for rule in rules:
        if allows(rule, target, request):
            return Nearest(rule, f"caller: it is for {rule.callers_text}, not {request.caller}")
    if rules:
        return Nearest(None, f"no rule names {request.caller} as a caller of {target.name}")
    return Nearest(None, f"no rule opens anything on {target.name}")


def _held_back(rule: Rule, request: Request) -> str:
    """What keeps a rule from allowing an operation that it opens."""
    if rule.window is not None and not rule.window.holds(request.time):
        return out_of_time(rule.window, request.time)
    return token_mismatch(rule.when, request.claims)


def _out_of_question(target: Target, operation: Operation) -> str | None:
    """Why no rule could open the operation on the target, or None."""
    if isinstance(operation, RefusedOperation):
        return operation.reason
    if isinstance(operation, HttpOperation) and (reason := unreadable(target, operation)):
        return reason
    if isinstance(operation, ConnectOperation) != (target.protocol is Protocol.TCP):
        return f"`{target.name}` speaks {target.protocol}, and `{operation}` is not an operation of it"
    return None


def _near_miss(rule: Rule, target: Target, operation: Operation) -> tuple[tuple[int, int], Nearest]:
    """How far a rule for this caller and target is from the operation (less is nearer), and what misses.

    Nearest is a rule that only lacks the method, then one with the method whose path begins alike.
    """
    asked = HttpOperation("POST", f"/{operation}") if isinstance(operation, GrpcOperation) else operation
    assert isinstance(asked, HttpOperation)  # TCP targets have no near miss: a rule for the caller allows
    patterns = rule.operations or ()
    for pattern in patterns:
        if path_covers(pattern, target, asked.path):
            return (0, 0), Nearest(rule, f"method: it allows {','.join(pattern.methods)}, not {asked.method}")
    with_method = [p for p in patterns if asked.method in p.methods] or patterns
    alike = max(pattern.path.begins(asked.path, ignore_case=target.ignore_case) for pattern in with_method)
    shown = ", ".join(p.text for p in with_method[:3]) + (", …" if len(with_method) > 3 else "")
    what = "method" if isinstance(operation, GrpcOperation) else "path"
    rank = 1 if any(asked.method in p.methods for p in patterns) else 2
    return (rank, -alike), Nearest(rule, f"{what}: it allows {shown}, not {operation}")
