"""One thread for what must not hold up the event loop, one piece after the other, in the order in which it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


class Worker:
    """The thread. What it has begun it ends, whoever stops waiting for it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, work: Callable[[], _T]) -> _T:
        """Do a piece of work there, to its end also when the caller is cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def close(self) -> None:
        """End the thread when all work is done; there may be no call after this one."""
        await asyncio.to_thread(self._thread.shutdown)
