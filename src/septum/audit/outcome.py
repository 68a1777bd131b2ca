"""What a line says happened: asked, decided, and by which rule. Pure, and without the policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from septum.audit.line import Line
from septum.audit.refusals import refusal
from septum.envoy.names import FORWARD, INTERNAL, MISDIRECTED, OBSERVE, TUNNEL
from septum.model.decision import Effect
from septum.model.mesh import Mode
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, Operation, RefusedOperation

# What a line is of that is about a connection from another node which came to no request.
CONNECTION = "Connection"
# And about a session to a place outside that its gate stopped.
GATE = "Gate"
ALLOW, DENY = str(Effect.ALLOW), str(Effect.DENY)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`decision` is what happened and `would_be` what the proxy's rules say, with the rule that allows, if one does.

    `refused` is why Envoy answered before the rules were asked. `unasked` is the one thing that must never be: a
    request reached an upstream and no rules were asked. `undecided` is why the node denied a call about which no rules
    are asked here. `candidate` is what a candidate said beside the rules, if one was asked, and `candidate_rule` by
    which of its own.
    """

    decision: str
    would_be: str
    rule: str = ""
    refused: str = ""
    unasked: bool = False
    tunnel: bool = False
    undecided: str = ""
    candidate: str = ""
    candidate_rule: str = ""


def outcome(line: Line) -> Outcome:
    """Read which action the RBAC filter ended in; what it did not allow is a denial."""
    if line.type == CONNECTION:
        return Outcome(DENY, DENY, undecided=_turned_away(line))
    if line.type == GATE:
        return Outcome(DENY, DENY, undecided=_stopped(line))
    if line.ep is None:
        if line.up is not None or line.details == "via_upstream":
            return Outcome(ALLOW, DENY, unasked=True)
        return Outcome(DENY, DENY, refused=refusal(line.details or ""))
    if line.ep == FORWARD:
        return Outcome(DENY, DENY, undecided=_undelivered(line))
    if line.ep == MISDIRECTED:
        return Outcome(DENY, DENY, undecided=_misdirected(line))
    return _asked(line.ep, line.sp, line.mode, line.cv is not None)


@lru_cache(4096)
def _asked(by: str, shadow_by: str | None, mode: str | None, beside: bool) -> Outcome:
    """What the rules say and, where a candidate is asked beside them, what that says.

    Where none is, a shadow action is of a proxy as it was made before there were candidates: then the door of an
    observed target stands open, and its own rules are in its shadow.
    """
    if by == TUNNEL:
        return Outcome(ALLOW, ALLOW, tunnel=True)
    if beside and shadow_by is not None:
        rule = shadow_by if _is_rule(shadow_by) else ""
        return replace(_asked(by, None, mode, beside), candidate=ALLOW if rule else DENY, candidate_rule=rule)
    if by == OBSERVE and mode == Mode.OBSERVE:
        return Outcome(ALLOW, ALLOW, shadow_by or "") if _is_rule(shadow_by) else Outcome(ALLOW, DENY)
    return Outcome(ALLOW, ALLOW, by) if _is_rule(by) else Outcome(DENY, DENY)


def _undelivered(line: Line) -> str:
    """Why a call did not get to the node that decides it: Envoy's response flags, and TLS's words or else Envoy's."""
    why = (line.flags, line.tls or line.details)
    return f"not delivered: {', '.join(part for part in why if part) or 'the proxy does not say why'}"


def _misdirected(line: Line) -> str:
    connected = f"to {line.sni}" if line.sni else "without a server name"
    return f"misdirected: the request is to {line.authority or 'no host'}, and its TLS connection {connected}"


def _turned_away(line: Line) -> str:
    """Why a connection came to no request, and what is known of who made it, none of which was proven."""
    why = line.tls or ("it asks for nobody here" if line.flags == "NR" else line.details or line.flags)
    says = f", which says that it is {line.claimed}" if line.claimed else ""
    return f"the connection was turned away: {why or 'the proxy does not say why'}, from {line.from_ or '?'}{says}"


def _stopped(line: Line) -> str:
    """What a session had to say to get to the place outside, and what it said: its SNI, if it was TLS at all."""
    host = (line.authority or "").rpartition(":")[0]
    nothing = "it has no server name, or is no TLS" if line.flags == "NR" else "no server name could be read"
    said = f"its server name is {line.sni}" if line.sni else nothing
    return f"the session was stopped: {said}, and only {host or 'the host'} may pass"


def _is_rule(action: str | None) -> bool:
    return action is not None and not action.startswith(INTERNAL)


def protocol(line: Line) -> str:
    """What was asked for: websocket, tcp (a CONNECT), grpc or http."""
    if line.upgrade is not None and line.upgrade.lower() == "websocket":
        return "websocket"
    if line.method == "CONNECT" or line.type == CONNECTION:
        return "tcp"
    if line.ctype is not None and line.method == "POST" and _is_grpc(line.ctype):
        return "grpc"
    return "http"


def _is_grpc(content_type: str) -> bool:
    """`application/grpc`, also with `+proto` or parameters; gRPC-Web is plain HTTP here."""
    head = content_type[:17].lower()
    return head.startswith("application/grpc") and head[16:] in ("", "+", ";", " ")


def operation(line: Line, asked: str, refused: str) -> Operation:
    """The operation as the policy knows it; `asked` is the protocol."""
    method, path = line.method or "", line.path or ""
    if refused:
        return RefusedOperation(f"{method} {path}".strip(), refused)
    if asked == "tcp":
        return ConnectOperation()
    service, slash, called = path[1:].partition("/")
    if asked == "grpc" and service and slash and "/" not in called:
        return GrpcOperation(service, called)
    return HttpOperation(method, path, websocket=asked == "websocket")
