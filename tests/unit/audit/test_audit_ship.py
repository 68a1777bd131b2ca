"""The shipper in an event loop: it follows, rotates, waits while nobody takes anything, and says how it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fakes.decision_log import Always, Writer, line, policy
from septum.audit.account import Counted
from septum.audit.files import LogFiles
from septum.audit.parcel import Kept, Parcel, Position, Sample
from septum.audit.query import Filter, Reader
from septum.audit.reading import Reading
from septum.audit.receive import Receiver
from septum.audit.ship import Pace, Shipper
from septum.audit.sink import SinkUnavailable

pytestmark = pytest.mark.anyio

QUICK = Pace(poll=0.002, account=0.01, retry=0.002, retry_most=0.01, rotate_at=2000)


class Envoy:
    """The writer's side of the port; `deaf` leaves so many requests to reopen without effect."""

    def __init__(self, directory: Path) -> None:
        self.log, self.deaf = Writer(directory), 0
        self.counted: dict[str, int] = {"": 0}

    def decide(self, *lines: bytes, logged: bool = True, run: str = "") -> None:
        self.counted[run] = self.counted.get(run, 0) + len(lines)
        if logged:
            self.log.write(b"".join(lines))

    async def reopen(self) -> None:
        if self.deaf:
            self.deaf -= 1
        else:
            self.log.reopen()

    async def counts(self) -> Sequence[Counted]:
        return [Counted(run, count) for run, count in self.counted.items()]


class Control:
    """A control plane that comes and goes; `loses` is how many answers get lost on the way back."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.away, self.loses = directory, False, 0
        self.receiver = self._receiver()

    async def restart(self) -> None:
        await self.receiver.close()
        self.receiver = self._receiver()

    def _receiver(self) -> Receiver:
        return Receiver(self._directory / "d.db", lambda: "shop.test", Always(policy()), grace=0.0)

    async def position(self) -> Position:
        self._reach()
        return await self.receiver.position("n1")

    async def take(self, parcel: Parcel) -> Position:
        self._reach()
        position = await self.receiver.take("n1", parcel)
        if self.loses:
            self.loses -= 1
            raise SinkUnavailable("the connection broke")
        return position

    async def account(self, sample: Sample) -> None:
        self._reach()
        await self.receiver.account("n1", sample)

    def _reach(self) -> None:
        if self.away:
            raise SinkUnavailable("nobody answers")

    @property
    def kept(self) -> Kept:
        return self.receiver.kept().get("n1", Kept())


@asynccontextmanager
async def following(directory: Path, control: Control, envoy: Envoy) -> AsyncIterator[Shipper]:
    shipper = Shipper(Reading(LogFiles(directory)), control, envoy, QUICK)
    task = asyncio.create_task(shipper.run())
    try:
        async with asyncio.timeout(20):
            yield shipper
    finally:
        task.cancel()
        await asyncio.wait([task])
        await shipper.close()
        await control.receiver.close()
    assert task.cancelled(), task.exception()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - rows in a file set no event
        await asyncio.sleep(0.001)


def ids(directory: Path) -> list[str]:
    return [row.record.request_id for row in Reader(directory / "d.db").newest(Filter(), 1_000_000)]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path)


@pytest.fixture
def envoy(tmp_path: Path) -> Envoy:
    return Envoy(tmp_path)


async def test_lines_arrive_while_they_are_written(tmp_path: Path, control: Control, envoy: Envoy) -> None:
    async with following(tmp_path, control, envoy) as shipper:
        for number in range(1, 4):
            envoy.decide(line(t=f"{number}.5"))
            await until(lambda number=number: control.kept.ingested == number)
        await until(lambda: shipper.status().behind == 0)
        assert (control.kept.last, shipper.status().stalled, shipper.status().since) == (3.5, "", None)


async def test_rotation_while_lines_come_keeps_each_once_and_in_order(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    envoy.deaf = 3
    async with following(tmp_path, control, envoy):
        for number in range(500):
            envoy.decide(line(id=str(number)))
            if number % 10 == 0:
                await until(lambda number=number: control.kept.ingested > number)
        await until(lambda: control.kept.ingested == 500)
        await until(lambda: len(list(tmp_path.glob("*.jsonl"))) == 1)
        assert (await control.position()).generation > 3
    assert ids(tmp_path) == [str(number) for number in range(500)]


async def test_while_the_control_plane_is_away_the_log_is_set_aside_and_nothing_is_lost(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    async with following(tmp_path, control, envoy) as shipper:
        envoy.decide(line(id="0"))
        await until(lambda: control.kept.ingested == 1)
        control.away = True
        for number in range(1, 60):
            envoy.decide(line(id=str(number)))
            if number % 10 == 0:
                files = number // 10
                await until(lambda files=files: len(list(tmp_path.glob("decisions.*.jsonl"))) >= files)
                await until((tmp_path / "decisions.jsonl").exists)
        await until(lambda: shipper.status().stalled == "nobody answers")
        assert shipper.status().since
        assert shipper.status().behind == sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) - len(
            line(id="0")
        )
        control.away = False
        await until(lambda: control.kept.ingested == 60)
        await until(lambda: not list(tmp_path.glob("decisions.*.jsonl")))
        await until(lambda: shipper.status().stalled == "")
    assert ids(tmp_path) == [str(number) for number in range(60)]


async def test_an_agent_that_starts_while_the_control_plane_is_away_waits_for_it(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    control.away = True
    async with following(tmp_path, control, envoy) as shipper:
        envoy.decide(*(line(id=str(number)) for number in range(50)))
        await until(lambda: shipper.status().stalled)
        assert shipper.status().behind > 10_000
        control.away = False
        await until(lambda: control.kept.ingested == 50)


async def test_answers_that_are_lost_repeat_nothing(tmp_path: Path, control: Control, envoy: Envoy) -> None:
    control.loses = 5
    async with following(tmp_path, control, envoy):
        for number in range(20):
            envoy.decide(line(id=str(number)))
            await until(lambda number=number: control.kept.ingested > number)
    assert (control.loses, ids(tmp_path)) == (0, [str(number) for number in range(20)])


async def test_a_control_plane_that_restarts_goes_on_where_it_was(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    async with following(tmp_path, control, envoy):
        for number in range(5):
            envoy.decide(line(id=str(number)))
            await until(lambda number=number: control.kept.ingested == number + 1)
            await control.restart()
    assert ids(tmp_path) == [str(number) for number in range(5)]


async def test_a_store_that_was_set_back_gets_again_what_it_forgot(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    async with following(tmp_path, control, envoy):
        envoy.decide(line(id="a"))
        await until(lambda: control.kept.ingested == 1)
        await control.receiver.close()
        (tmp_path / "d.db").unlink()
        await control.restart()
        envoy.decide(line(id="b"))
        await until(lambda: control.kept.ingested == 2)
    assert ids(tmp_path) == ["a", "b"]


async def test_decisions_that_never_reach_the_log_are_counted_as_lost(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    async with following(tmp_path, control, envoy):
        envoy.decide(line())
        envoy.decide(line(), line(), logged=False)
        await until(lambda: control.kept.lost == 2)
        await control.restart()
        await until(lambda: control.kept.lost == 2)


async def test_what_was_lost_in_a_run_that_ended_while_nobody_answered_is_told_later(
    tmp_path: Path, control: Control, envoy: Envoy
) -> None:
    async with following(tmp_path, control, envoy) as shipper:
        control.away = True
        envoy.decide(line(run="1"), run="1")
        envoy.decide(line(run="1"), run="1", logged=False)
        await until(lambda: shipper.status().stalled)
        del envoy.counted[""]
        await asyncio.wait_for(_counted_again(envoy), 10)
        del envoy.counted["1"]
        envoy.decide(line(run="2"), run="2")
        control.away = False
        await until(lambda: control.kept.lost == 1)
        assert control.kept.ingested == 2


async def _counted_again(envoy: Envoy) -> None:
    """Until the shipper has asked for the counts once more, and once again."""
    asked, real = 0, envoy.counts

    async def counts() -> Sequence[Counted]:
        nonlocal asked
        asked += 1
        return await real()

    envoy.counts = counts  # type: ignore[method-assign]
    await until(lambda: asked >= 2)


async def test_what_is_there_at_the_end_is_drained(tmp_path: Path, control: Control, envoy: Envoy) -> None:
    shipper = Shipper(Reading(LogFiles(tmp_path)), control, envoy, QUICK)
    envoy.decide(line(id="a"), line(id="b"))
    await shipper.drain()
    await shipper.close()
    await control.receiver.close()
    assert ids(tmp_path) == ["a", "b"]
