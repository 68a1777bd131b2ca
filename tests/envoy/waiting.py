"""Waiting for a condition with a deadline: tests never sleep for a length of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], within: float = 10, what: str = "", says: Callable[[], str] = str) -> T:
    """What `condition` answers as soon as that is true. Fails after `within` seconds, with what `says` tells."""
    deadline, pause = time.monotonic() + within, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {what or condition}\n{says()}"
        pause.wait(0.01)
    return found
