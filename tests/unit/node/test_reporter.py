"""How a node is, told in turn and at once when it matters; what is ordered in answer, done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakes.waiting import until
from septum.node.reporter import Reporter
from septum.rpc.client import ControlRefuses, ControlUnavailable
from septum.rpc.messages import Orders, Report

pytestmark = pytest.mark.anyio


class World:
    """A control plane that takes reports, or what it raises; `now` is the node's clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.raises: Exception | None = None
        self.orders = Orders(issuer="i")
        self.told: list[Report] = []
        self.obeyed: list[Orders] = []
        self.observed = 0
        self.reporter = Reporter(self, self.observe, self.obey, lambda: self.now)

    async def report(self, report: Report) -> Orders:
        if self.raises:
            raise self.raises
        self.told.append(report)
        return self.orders

    async def observe(self) -> Report:
        self.observed += 1
        return Report(connections=self.observed)

    async def obey(self, orders: Orders) -> None:
        self.obeyed.append(orders)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reporter.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), "nothing that goes wrong ends it"


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_report_is_made_at_once_and_its_orders_are_obeyed(world: World) -> None:
    assert (world.reporter.heard, world.reporter.trouble) == (None, "")
    async with world.running():
        await until(lambda: world.obeyed)
    assert world.told == [Report(connections=1)]
    assert world.obeyed == [Orders(issuer="i")]
    assert (world.reporter.heard, world.reporter.trouble) == (100.0, "")


async def test_each_report_is_observed_anew(world: World) -> None:
    async with world.running():
        for number in (1, 2, 3):
            await until(lambda number=number: len(world.told) == number)
            world.reporter.soon.set()
    assert [report.connections for report in world.told[:3]] == [1, 2, 3]


async def test_it_reports_by_itself_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("septum.node.reporter.INTERVAL", 0.01)
    async with world.running():
        await until(lambda: len(world.told) >= 4)


async def test_it_reports_as_seldom_as_it_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("septum.node.reporter.INTERVAL", 0.01)
    world.orders = Orders(every=60.0)
    often = World()
    async with world.running(), often.running():
        await until(lambda: len(often.told) >= 5)
        assert len(world.told) == 1
        world.reporter.soon.set()
        await until(lambda: len(world.told) == 2)


@pytest.mark.parametrize("error", [ControlUnavailable("failed to connect"), ControlRefuses("node web was removed")])
async def test_a_control_plane_that_does_not_take_it_is_a_trouble_until_it_does(world: World, error: Exception) -> None:
    world.raises = error
    async with world.running():
        await until(lambda: world.reporter.trouble)
        assert (world.reporter.trouble, world.reporter.heard, world.obeyed) == (str(error), None, [])
        world.raises, world.now = None, 200.0
        world.reporter.soon.set()
        await until(lambda: world.obeyed)
        assert (world.reporter.trouble, world.reporter.heard) == ("", 200.0)
