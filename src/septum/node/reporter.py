"""Tells the control plane how the node is, every two seconds or as it orders, and does what it orders."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from septum.rpc.client import ControlRefuses, ControlUnavailable
from septum.rpc.messages import REPORT_EVERY, Orders, Report

INTERVAL = REPORT_EVERY


class Link(Protocol):
    """Where reports go."""

    async def report(self, report: Report) -> Orders:
        """Raises ControlUnavailable or ControlRefuses."""
        ...


class Reporter:
    """`observe` makes the report, `obey` carries out the orders. `heard` is when the control plane answered last."""

    def __init__(
        self,
        link: Link,
        observe: Callable[[], Awaitable[Report]],
        obey: Callable[[Orders], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._link, self._observe, self._obey, self._clock = link, observe, obey, clock
        self.heard: float | None = None
        self.trouble = ""
        self.soon = asyncio.Event()

    async def run(self) -> None:
        """Report until cancelled; `soon` asks for the next report at once."""
        while True:
            pause = INTERVAL
            try:
                orders = await self._link.report(await self._observe())
            except (ControlUnavailable, ControlRefuses) as error:
                self.trouble = str(error)
            else:
                self.heard, self.trouble = self._clock(), ""
                pause = max(INTERVAL, orders.every)
                await self._obey(orders)
            try:
                async with asyncio.timeout(pause):
                    await self.soon.wait()
            except TimeoutError:
                pass
            self.soon.clear()
