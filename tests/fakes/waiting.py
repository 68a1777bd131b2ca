"""Waiting for what has no event to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WITHIN = 20.0


async def until(condition: Callable[[], object], within: float = WITHIN) -> None:
    """Look again and again until a condition holds; an AssertionError if it does not in time (seconds)."""
    ends = time.monotonic() + within
    while not condition() and time.monotonic() < ends:  # noqa: ASYNC110 - other processes set no Event
        await asyncio.sleep(0.002)
    assert condition(), f"not within {within} s"
