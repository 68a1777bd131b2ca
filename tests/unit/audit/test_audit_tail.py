"""The tail in an event loop: it follows, rotates, stalls and recovers, and says how it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.decision_log import Writer, ingest, line
from septum.audit.account import Counted
from septum.audit.query import Filter, Reader
from septum.audit.store import Store
from septum.audit.tail import Pace, Tail

QUICK = Pace(poll=0.002, account=0.01, grace=0.0, retry=0.002, retry_most=0.01, rotate_at=2000)


class Envoy:
    """The writer's side of the port; `deaf` leaves so many requests to reopen without effect."""

    def __init__(self, directory: Path) -> None:
        self.log, self.count, self.deaf = Writer(directory), Counted("", 0), 0

    def decide(self, *lines: bytes, logged: bool = True) -> None:
        self.count = Counted("", self.count.decisions + len(lines))
        if logged:
            self.log.write(b"".join(lines))

    async def reopen(self) -> None:
        if self.deaf:
            self.deaf -= 1
        else:
            self.log.reopen()

    async def counted(self) -> Counted | None:
        return self.count


@asynccontextmanager
async def following(directory: Path, store: Store, envoy: Envoy) -> AsyncIterator[Tail]:
    tail = Tail(ingest(directory, store), store, envoy, QUICK)
    task = asyncio.create_task(tail.run())
    try:
        async with asyncio.timeout(20):
            yield tail
    finally:
        task.cancel()
        await asyncio.wait([task])
        await tail.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - rows in a file set no event
        await asyncio.sleep(0.001)


def ids(directory: Path) -> list[str]:
    return [row.record.request_id for row in Reader(directory / "d.db").newest(Filter(), 1_000_000)]


def test_lines_arrive_while_they_are_written(tmp_path: Path) -> None:
    async def main() -> None:
        store, envoy = Store(tmp_path / "d.db"), Envoy(tmp_path)
        async with following(tmp_path, store, envoy) as tail:
            for number in range(1, 4):
                envoy.decide(line(t=f"{number}.5"))
                await until(lambda number=number: tail.status().ingested == number)
            assert (tail.status().last, tail.status().behind, tail.status().stalled) == (3.5, 0, "")

    asyncio.run(main())


def test_rotation_while_lines_come_keeps_each_once_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        store, envoy = Store(tmp_path / "d.db"), Envoy(tmp_path)
        envoy.deaf = 3
        async with following(tmp_path, store, envoy) as tail:
            for number in range(500):
                envoy.decide(line(id=str(number)))
                if number % 10 == 0:
                    await until(lambda number=number: tail.status().ingested > number)
            await until(lambda: tail.status().ingested == 500)
            await until(lambda: len(list(tmp_path.glob("*.jsonl"))) == 1)
        assert store.mark().generation > 3

    asyncio.run(main())
    assert ids(tmp_path) == [str(number) for number in range(500)]


def test_a_full_disk_stalls_and_nothing_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        store, envoy = Store(tmp_path / "d.db"), Envoy(tmp_path)
        pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
        store.connection.execute(f"PRAGMA max_page_count = {pages}")
        async with following(tmp_path, store, envoy) as tail:
            envoy.decide(*(line(id=str(number), path="/" + "x" * 5000) for number in range(10)))
            await until(lambda: "full" in tail.status().stalled)
            assert (tail.status().ingested, tail.status().lost) == (0, 0)
            assert tail.status().behind > 50_000
            store.connection.execute("PRAGMA max_page_count = 1000000")
            await until(lambda: tail.status().ingested == 10)
            await until(lambda: tail.status().stalled == "")

    asyncio.run(main())
    assert ids(tmp_path) == [str(number) for number in range(10)]


def test_decisions_that_never_reach_the_log_are_counted_as_lost(tmp_path: Path) -> None:
    async def main() -> None:
        store, envoy = Store(tmp_path / "d.db"), Envoy(tmp_path)
        async with following(tmp_path, store, envoy) as tail:
            envoy.decide(line())
            envoy.decide(line(), line(), logged=False)
            await until(lambda: tail.status().lost == 2)
            await until(lambda: store.lost() == {"": 2})

    asyncio.run(main())
    assert Store(tmp_path / "d.db").lost() == {"": 2}


def test_what_is_there_at_the_end_is_drained(tmp_path: Path) -> None:
    async def main() -> None:
        store, envoy = Store(tmp_path / "d.db"), Envoy(tmp_path)
        tail = Tail(ingest(tmp_path, store), store, envoy, QUICK)
        envoy.decide(line(id="a"), line(id="b"))
        await tail.drain()
        await tail.close()

    asyncio.run(main())
    assert ids(tmp_path) == ["a", "b"]
