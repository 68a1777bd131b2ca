"""The node's record keeping: it ships the log, waits for a record that cannot be had, and stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fakes.decision_log import Always, denied, line, policy
from septum.audit.account import Counted
from septum.audit.receive import Receiver
from septum.audit.schema import FILE
from septum.audit.ship import Pace
from septum.node import adopted
from septum.node.records import Records
from septum.node.writer import EnvoyWriter

pytestmark = pytest.mark.anyio

SOON = Pace(poll=0.005, retry=0.01, retry_most=0.02)


class NoWriter:
    """An Envoy that is not there."""

    async def reopen(self) -> None:
        """Nobody opens anything."""

    async def counts(self) -> Sequence[Counted]:
        return []


@asynccontextmanager
async def receiving(directory: Path) -> AsyncIterator[Receiver]:
    receiver = Receiver(directory / FILE, lambda: "shop.test", Always(policy()))
    yield receiver
    await receiver.close()


def records(directory: Path, receiver: Receiver) -> Records:
    return Records(directory, receiver.sink("n1"), NoWriter(), SOON)


def ingested(receiver: Receiver) -> int:
    return receiver.kept()["n1"].ingested if "n1" in receiver.kept() else 0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the record has no event that a test could wait for
            await asyncio.sleep(0.01)


async def end(kept: Records, running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.wait([running])
    await kept.finish()
    assert running.cancelled()


async def test_what_is_in_the_log_gets_into_the_record(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line() + denied())
    async with receiving(tmp_path) as receiver:
        kept = records(tmp_path, receiver)
        running = asyncio.create_task(kept.run())
        await until(lambda: ingested(receiver) == 2)
        await until(lambda: kept.status() == {"behind": 0, "stalled": "", "since": None})
        await end(kept, running)


async def test_what_is_left_at_the_end_is_shipped(tmp_path: Path) -> None:
    async with receiving(tmp_path) as receiver:
        kept = records(tmp_path, receiver)
        running = asyncio.create_task(kept.run())
        await until(lambda: "n1" in receiver.kept())
        running.cancel()
        await asyncio.wait([running])
        (tmp_path / "decisions.jsonl").write_bytes(line())
        await kept.finish()
        assert ingested(receiver) == 1


async def test_a_record_that_takes_nothing_is_said_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    (tmp_path / "decisions.jsonl").write_bytes(line())
    async with receiving(tmp_path) as receiver:
        kept = records(tmp_path, receiver)
        running = asyncio.create_task(kept.run())
        await until(lambda: kept.status()["stalled"])
        assert "unable to open" in str(kept.status()["stalled"])
        assert kept.status()["behind"] == len(line())
        (tmp_path / FILE).rmdir()
        await until(lambda: ingested(receiver) == 1)
        await until(lambda: kept.status()["stalled"] == "")
        await end(kept, running)


async def test_one_that_cannot_ship_ends_too(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line())
    (tmp_path / FILE).mkdir()
    async with receiving(tmp_path) as receiver:
        await records(tmp_path, receiver).finish()
    assert (tmp_path / "decisions.jsonl").read_bytes()


async def test_shipping_what_is_left_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line())
    async with receiving(tmp_path) as receiver:
        kept = records(tmp_path, receiver)
        await kept.finish(patience=0)
        assert ingested(receiver) == 0


async def test_what_a_run_counted_that_another_took_over_from_is_told_too(tmp_path: Path) -> None:
    writer = EnvoyWriter(tmp_path, "septum.decisions")
    assert await writer.counts() == []
    adopted.note_count(tmp_path, "envoy", "run1", 7)
    assert await writer.counts() == [Counted("run1", 7)]
