"""A line of Envoy's log to a Record. Nothing that is read here is dropped: what is no decision comes back Unreadable."""

from __future__ import annotations

from septum.audit.explain import Explainer
from septum.audit.line import Line, Unreadable, read_line
from septum.audit.outcome import outcome, protocol
from septum.model.record import Record


class Parser:
    """Reads lines of the proxies of one trust domain."""

    def __init__(self, trust_domain: str, explainer: Explainer) -> None:
        self._prefix = f"spiffe://{trust_domain}/"
        self._explainer = explainer

    def parse(self, raw: bytes) -> Record | Unreadable:
        """Read one line without its newline."""
        line = read_line(raw)
        return line if isinstance(line, Unreadable) else self._record(line)

    def _record(self, line: Line) -> Record:
        caller = (line.caller or "").removeprefix(self._prefix)
        asked, what = protocol(line), outcome(line)
        why = self._explainer.explain(line, caller, asked, what)
        connect = asked == "tcp"
        return Record(
            time=line.time,
            request_id=line.id or "",
            trace_id=_trace_id(line.tp),
            node=line.node or "",
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
            reason=why.reason,
            policy_version=why.policy_version,
            status=line.code or 0,
            flags=line.flags or "",
            bytes_received=line.in_ or 0,
            bytes_sent=line.out or 0,
            duration=(line.ms or 0.0) if line.us is None else line.us / 1000,
            upstream=line.up or "",
            upstream_duration=(line.uus or 0) / 1000,
        )


def _trace_id(traceparent: str | None) -> str:
    """The trace id of a `traceparent` header (W3C Trace Context, 3.2: version, trace id, parent id, flags)."""
    if traceparent is None or len(traceparent) < 55:
        return ""
    return traceparent[3:35]
