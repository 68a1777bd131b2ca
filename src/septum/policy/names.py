"""Names that cannot be, and names that nothing has: with the nearest name and where that one is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.spiffe import WORKLOAD_NAME
from septum.policy.codes import REPEATED, UNKNOWN_NAME, WRONG_VALUE
from septum.policy.fit import nearest, suggestion
from septum.policy.source import Scalar

# `localhost` means this host everywhere, and `septum` is ours.
RESERVED_NAMES = ("localhost", "septum")


def not_a_name(key: Scalar) -> Iterator[Diagnostic]:
    """What is wrong with the name of a segment, a workload, a node, an issuer or a place outside, if anything."""
    if not WORKLOAD_NAME.fullmatch(key.text):
        help = "lower-case letters, digits and inner dashes, at most 63: callers use it as a host name"
        yield Diagnostic(WRONG_VALUE, f"`{key.text}` cannot be a name", key.span, help=help)


def reserved_name(kind: str, key: Scalar) -> Iterator[Diagnostic]:
    """What is wrong with a name by which callers are to reach something (`kind`), if it means something else."""
    if key.text in RESERVED_NAMES:
        yield Diagnostic(WRONG_VALUE, f"`{key.text}` cannot be a {kind}", key.span, help="choose another name")


def repeated(written: Iterable[Scalar], meaning: Callable[[Scalar], object]) -> Iterator[Diagnostic]:
    """The words that mean what one before them means."""
    seen: set[object] = set()
    for one in written:
        if meaning(one) in seen:
            yield Diagnostic(REPEATED, f"`{one.text}` is written twice", one.span, severity=Severity.WARNING)
        seen.add(meaning(one))


def unknown_name(kind: str, name: str, span: Span, known: Mapping[str, Span | None]) -> Diagnostic:
    """The diagnostic for something of a `kind` that does not exist; `known`: those that do, and where."""
    help = suggestion(name, known)
    close = nearest(name, known)
    where = known[close] if close is not None else None
    if where is not None:
        help += f" it is defined at {where.place}"
    return Diagnostic(UNKNOWN_NAME, f"unknown {kind} `{name}`", span, f"no {kind} has this name", help)
