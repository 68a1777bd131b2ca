"""What many nodes ship into one store: each by its own name, each in its turn, and none in another's way."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import msgspec
import pytest

from fakes.decision_log import Always, line, policy
from septum.audit.parcel import MOST, Kept, Parcel, Position, Sample
from septum.audit.query import Filter, Reader
from septum.audit.receive import Receiver
from septum.audit.sink import SinkUnavailable
from septum.model.policy import Policy
from septum.model.record import Record

pytestmark = pytest.mark.anyio


def receiver(directory: Path, **settings: object) -> Receiver:
    return Receiver(directory / "d.db", lambda: "shop.test", Always(policy()), **settings)  # type: ignore[arg-type]


def parcel(start: Position, *lines: bytes) -> Parcel:
    data = b"".join(lines)
    return Parcel(start, data, start.after(data))


def rows(directory: Path) -> list[Record]:
    return [row.record for row in Reader(directory / "d.db").newest(Filter(), 1000)]


async def test_each_node_has_its_own_place(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    places = {}
    for node in ("alpha", "beta", "alpha"):
        places[node] = await one.take(node, parcel(await one.position(node), line(id=node, node=node)))
    assert places["alpha"].offset > places["beta"].offset > 0
    await one.close()
    again = receiver(tmp_path)
    assert {node: await again.position(node) for node in places} == places
    assert {node: kept.ingested for node, kept in again.kept().items()} == {"alpha": 2, "beta": 1}
    await again.close()


async def test_a_parcel_from_elsewhere_changes_nothing_and_is_told_where_to_go_on(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    first = parcel(Position(), line(id="a", node="n1"))
    there = await one.take("n1", first)
    for odd in (first, parcel(Position(0, 5), line()), parcel(Position(7), line()), parcel(Position(0, there.offset))):
        assert await one.take("n1", odd) == there
    assert [row.request_id for row in rows(tmp_path)] == ["a"]
    await one.close()


async def test_the_node_of_a_record_is_who_shipped_it(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    await one.take("alpha", parcel(Position(), line(node="beta"), line(node=None), line(node="alpha")))
    assert [row.node for row in rows(tmp_path)] == ["alpha"] * 3
    assert [row.reason for row in rows(tmp_path)] == ["septum: it came from node alpha and names node beta", "", ""]
    assert one.kept()["alpha"] == Kept(3, disagreements=1, last=rows(tmp_path)[-1].time)
    await one.close()


async def test_what_a_node_cannot_have_decided_is_kept_and_is_no_record(tmp_path: Path) -> None:
    def may_ship(node: str, record: Record) -> str:
        return "" if record.target == "orders" else f"{node} does not front {record.target}"

    one = receiver(tmp_path, may_ship=may_ship)
    forged = line(target="ledger")
    await one.take("n1", parcel(Position(), line(), forged, line()))
    assert [row.target for row in rows(tmp_path)] == ["orders", "orders"]
    with sqlite3.connect(tmp_path / "d.db") as connection:
        kept = connection.execute("SELECT node, reason, line FROM unreadable").fetchall()
    assert kept == [("n1", "n1 does not front ledger", forged[:-1])]
    assert (one.kept()["n1"].ingested, one.kept()["n1"].unreadable) == (2, 1)
    await one.close()


async def test_a_file_that_cannot_be_opened_is_tried_again_at_each_call(tmp_path: Path) -> None:
    (tmp_path / "d.db").mkdir()
    one = receiver(tmp_path)
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="unable to open"):
            await one.position("n1")
    assert "unable to open" in one.stalled
    (tmp_path / "d.db").rmdir()
    assert await one.position("n1") == Position()
    assert one.stalled == ""
    await one.close()


async def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE x (y)")
    one = receiver(tmp_path)
    with pytest.raises(SinkUnavailable, match="version 99"):
        await one.position("n1")
    await one.close()


async def test_a_full_disk_holds_all_nodes_and_loses_nothing(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    await one.position("alpha")
    assert one._opened  # the limit is a connection's, and stands for the disk
    connection = one._opened[0].connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    parcels = {node: parcel(Position(), line(node=node, path="/" + "x" * 100_000)) for node in ("alpha", "beta")}
    for node, shipped in parcels.items():
        with pytest.raises(SinkUnavailable, match="full"):
            await one.take(node, shipped)
        assert await one.position(node) == Position()
    connection.execute("PRAGMA max_page_count = 1000000")
    for node, shipped in parcels.items():
        assert await one.take(node, shipped) == shipped.end
    assert [row.node for row in rows(tmp_path)] == ["alpha", "beta"]
    await one.close()


class Slow:
    """Policies behind a gate, which counts who waits there."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()

    def policy_for(self, target: str | None, slice: str | None, time: float) -> Policy:
        self.entered.set()
        assert self.gate.wait(20)
        return policy()


async def test_a_node_with_much_to_ship_does_not_make_another_wait_for_all_of_it(tmp_path: Path) -> None:
    slow = Slow()
    one = Receiver(tmp_path / "d.db", lambda: "shop.test", slow)
    places = [Position()]
    for number in range(20):
        places.append(places[-1].after(line(id=f"a{number}", t="1.5")))
    busy = []
    for number in range(20):
        shipped = parcel(places[number], line(id=f"a{number}", t="1.5"))
        busy.append(asyncio.create_task(one.take("alpha", shipped)))
    await asyncio.to_thread(slow.entered.wait, 20)
    other = asyncio.create_task(one.take("beta", parcel(Position(), line(id="b", node="beta"))))
    await asyncio.sleep(0)
    slow.gate.set()
    await asyncio.gather(other, *busy)
    assert [row.request_id for row in rows(tmp_path)].index("b") <= 2
    await one.close()


async def test_a_node_that_ships_rubbish_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    rubbish = Parcel(Position(), b"\n" * 100_000, Position(0, 100_000))
    busy = asyncio.create_task(one.take("evil", rubbish))
    place = Position()
    while not busy.done():
        place = await one.take("good", parcel(place, line(node="good")))
    assert await busy == rubbish.end
    assert one.kept()["good"].ingested > 10
    assert one.kept()["evil"].unreadable == 100_000
    await one.close()


@pytest.mark.parametrize("lines", [1, 2, 3, 100])
async def test_the_pieces_of_a_parcel_are_the_parcel(lines: int) -> None:
    data = b"a\n\nbb\nccc\nrest"
    whole = Parcel(Position(1, 5, b"."), data, Position(2), durable=True)
    pieces = list(whole.pieces(lines))
    assert b"".join(piece.data for piece in pieces) == data
    assert [piece.start for piece in pieces] == [whole.start, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == whole.end
    assert [piece.durable for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(piece.data.count(b"\n") <= lines for piece in pieces)


async def test_who_stops_waiting_undoes_nothing(tmp_path: Path) -> None:
    slow = Slow()
    one = Receiver(tmp_path / "d.db", lambda: "shop.test", slow)
    first = parcel(Position(), line(id="a"))
    waiting = asyncio.create_task(one.take("n1", first))
    await asyncio.to_thread(slow.entered.wait, 20)
    waiting.cancel()
    slow.gate.set()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await one.position("n1") == first.end
    await one.close()
    with pytest.raises(SinkUnavailable, match="stopping"):
        await one.position("n1")


async def test_losses_are_told_by_node(tmp_path: Path) -> None:
    one = receiver(tmp_path, grace=0.0)
    await one.take("alpha", parcel(Position(), line(node="alpha", run="r")))
    for asked in (1.0, 2.0):
        for node in ("alpha", "beta"):
            await one.account(node, Sample("r", 1, asked, asked))
    assert {node: kept.lost for node, kept in one.kept().items()} == {"alpha": 0, "beta": 1}
    await one.close()


async def test_a_node_without_a_name_ships_nothing(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    with pytest.raises(AssertionError):
        await one.position("")
    await one.close()


@pytest.mark.parametrize(
    "odd",
    [
        Parcel(Position(), b"x" * (MOST + 1), Position()),
        Parcel(Position(-1), b"", Position()),
        Parcel(Position(0, 1 << 63), b"", Position()),
        Parcel(Position(), b"", Position(0, 0, b"x" * 65)),
        Parcel(Position(), b"", Position(), gap="x" * 201),
    ],
)
async def test_a_parcel_is_checked_where_it_is_read(odd: Parcel) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(odd), type=Parcel)


async def test_a_parcel_that_was_sent_is_the_one_that_was_made() -> None:
    sent = Parcel(Position(3, 9, b"end"), b"\xff\n", Position(4), durable=True, gap="odd")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Parcel) == sent
