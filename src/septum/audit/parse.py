"""A line of Envoy's log to a Record."""

from __future__ import annotations

from septum.audit.explain import DISAGREES, Explainer
from septum.audit.line import Line
from septum.audit.outcome import outcome, protocol
from septum.model.record import Record


class Recorder:
    """Makes records of the lines of one trust domain's proxies."""

    def __init__(self, trust_domain: str, explainer: Explainer) -> None:
        self._prefix = f"spiffe://{trust_domain}/"
        self._explainer = explainer

    def record(self, line: Line, node: str) -> Record:
        """The record of one line that a node shipped, whatever node the line names."""
        caller = (line.caller or "").removeprefix(self._prefix)
        asked, what = protocol(line), outcome(line)
        why = self._explainer.explain(line, node, caller, asked, what)
        connect = asked == "tcp"
        return Record(
            time=line.time,
            request_id=line.id or "",
            trace_id=_trace_id(line.tp),
            node=node,
            caller=caller,
            target=why.target,
            protocol=asked,
            method="connect" if connect else line.method or "",
            path="" if connect else line.path or "",
            decision=what.decision,
            mode=line.mode or "",
            would_be=what.would_be,
            rule=what.rule,
            nearest=why.nearest,
            reason=_reason(line, node, why.reason),
            jwt_issuer=line.iss or "",
            jwt_subject=line.sub or "",
            policy_version=why.policy_version,
            candidate=what.candidate,
            candidate_rule=what.candidate_rule,
            candidate_version=(line.cv or "") if what.candidate else "",
            status=line.code or 0,
            flags=line.flags or "",
            bytes_received=line.in_ or 0,
            bytes_sent=line.out or 0,
            duration=(line.ms or 0.0) if line.us is None else line.us / 1000,
            upstream=line.up or "",
            upstream_duration=(line.uus or 0) / 1000,
            open=line.type == "DownstreamPeriodic",
        )


def _reason(line: Line, node: str, reason: str) -> str:
    """The reason, unless the line is not of the node that shipped it."""
    if not line.node or line.node == node:
        return reason
    return f"{DISAGREES}it came from node {node} and names node {line.node}" + (f"; {reason}" if reason else "")


def _trace_id(traceparent: str | None) -> str:
    """The trace id of a `traceparent` header (W3C Trace Context, 3.2: version, trace id, parent id, flags)."""
    if traceparent is None or len(traceparent) < 55:
        return ""
    return traceparent[3:35]
