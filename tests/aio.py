"""Tests of grpc.aio, each in an event loop of its own that ends after all that gRPC does in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

WITHIN = 15.0

P = ParamSpec("P")


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and wait for the tasks that it has left.

    A call that is cancelled ends in a task of gRPC. What that waits for is delivered through a queue that all event
    loops of a process share, and would reach the next one when this one is closed.
    """
    try:
        await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, running = await asyncio.wait(left, timeout=WITHIN)
            assert not running


def runs(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A decorator: the test runs in an event loop of its own."""

    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(to_its_end(test(*arguments, **named)))

    return run
