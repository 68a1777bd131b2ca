"""Why a moment is outside a rule's window, in words."""

from __future__ import annotations

from septum.model.window import Window, time_text


def out_of_time(window: Window, time: float | None) -> str:
    """What a record says of a rule that does not hold at this moment."""
    if time is None:
        return f"time: the rule holds {window_text(window)}, and it is not known when this was asked"
    if window.over(time):
        return f"time: the rule ended at {time_text(window.until or 0)}"
    return f"time: the rule begins at {time_text(window.from_time or 0)}"


def window_text(window: Window) -> str:
    """A window as words: `from A until B`."""
    begins = [] if window.from_time is None else [f"from {time_text(window.from_time)}"]
    ends = [] if window.until is None else [f"until {time_text(window.until)}"]
    return " ".join([*begins, *ends])
