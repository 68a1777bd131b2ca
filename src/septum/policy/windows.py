"""A rule's `from_time` and `until`. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

from septum.model.diagnostic import Diagnostic
from septum.model.window import Window, parse_time
from septum.policy.codes import OUT_OF_TIME
from septum.policy.source import Mapping, Node, Scalar


def read_window(node: Mapping) -> tuple[Window | None, tuple[Diagnostic, ...]]:
    """When a rule holds (None: always), and what is wrong with what is written."""
    begins, not_begins = read_time(node.get("from_time"))
    ends, not_ends = read_time(node.get("until"))
    found = (*not_begins, *not_ends)
    until = node.get("until")
    if begins is not None and ends is not None and until is not None and ends <= begins:
        found += (Diagnostic(OUT_OF_TIME, "the rule ends before it begins", until.span, "it would never hold"),)
    return (None if begins is None and ends is None else Window(begins, ends)), found


def read_time(node: Node | None) -> tuple[int | None, tuple[Diagnostic, ...]]:
    """A time in seconds since 1970, and what is wrong with it."""
    if not isinstance(node, Scalar) or not node.text:
        return None, ()  # the shape check has said so
    try:
        return parse_time(node.text), ()
    except ValueError:
        message = f"`{node.text}` is not a time"
        help = "write date, time of day and offset, such as 2027-01-31T00:00:00Z"
        return None, (Diagnostic(OUT_OF_TIME, message, node.span, help=help),)
