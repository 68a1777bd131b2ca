"""The node's record keeping: it waits for a record file that cannot be opened, and stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.decision_log import Always, denied, line, policy
from septum.audit.account import Counted
from septum.audit.schema import FILE
from septum.node import records as module
from septum.node.records import Records

pytestmark = pytest.mark.anyio


class NoWriter:
    """An Envoy that is not there."""

    async def reopen(self) -> None:
        """Nobody opens anything."""

    async def counted(self) -> Counted | None:
        return None


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.01)


def records(directory: Path) -> Records:
    return Records(directory, lambda: "shop.test", Always(policy()), NoWriter())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the record has no event that a test could wait for
            await asyncio.sleep(0.01)


async def test_what_is_in_the_log_gets_into_the_record(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line() + denied())
    kept = records(tmp_path)
    running = asyncio.create_task(kept.run())
    await until(lambda: kept.status().get("ingested") == 2)
    running.cancel()
    await kept.finish()
    assert (tmp_path / FILE).exists()


async def test_what_is_left_at_the_end_is_taken_in(tmp_path: Path) -> None:
    kept = records(tmp_path)
    running = asyncio.create_task(kept.run())
    await until(lambda: "ingested" in kept.status())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (tmp_path / "decisions.jsonl").write_bytes(line())
    await kept.finish()
    again = records(tmp_path)
    running = asyncio.create_task(again.run())
    await until(lambda: again.status().get("ingested") == 1)
    running.cancel()
    await again.finish()


async def test_a_record_file_that_cannot_be_opened_is_said_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    (tmp_path / "decisions.jsonl").write_bytes(line())
    kept = records(tmp_path)
    assert kept.status() == {}
    running = asyncio.create_task(kept.run())
    await until(lambda: kept.status().get("stalled"))
    assert "unable to open" in kept.status()["stalled"]
    (tmp_path / FILE).rmdir()
    await until(lambda: kept.status().get("ingested") == 1)
    assert kept.status()["stalled"] == ""
    running.cancel()
    await kept.finish()


async def test_one_that_never_began_ends_too(tmp_path: Path) -> None:
    await records(tmp_path).finish()
    assert list(tmp_path.iterdir()) == []
