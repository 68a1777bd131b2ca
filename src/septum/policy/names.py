"""Names that nothing has: the diagnostic, with the nearest name and where that one is defined."""

from __future__ import annotations

from collections.abc import Mapping

from septum.model.diagnostic import Diagnostic, Span
from septum.policy.codes import UNKNOWN_NAME
from septum.policy.fit import nearest, suggestion


def unknown_name(kind: str, name: str, span: Span, known: Mapping[str, Span | None]) -> Diagnostic:
    """The diagnostic for a segment or workload (`kind`) that does not exist; `known`: those that do, and where."""
    help = suggestion(name, known)
    close = nearest(name, known)
    where = known[close] if close is not None else None
    if where is not None:
        help += f" it is defined at {where.place}"
    return Diagnostic(UNKNOWN_NAME, f"unknown {kind} `{name}`", span, f"no {kind} has this name", help)
