"""When a grant ends, the live calls that it had let through are cut: once, also after a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from control_world import NOW, World

from fakes.waiting import until
from septum.control.grants import Grants
from septum.control.registry import Pair
from septum.model.window import time_text

pytestmark = pytest.mark.anyio

END = int(NOW) + 100
PAIR = ("orders", "ledger")
ALWAYS = "  - {name: always, from: storefront, to: payments, grpc: ['*']}"
LATER = f"  - {{name: later, from: storefront, to: ledger, until: {time_text(END + 50)}}}"
GRANT = f"  - {{name: books, from: orders, to: ledger, until: {time_text(END)}}}"
RENEWED = (
    f"  - {{name: more, from: orders, to: ledger, from_time: {time_text(END - 10)}, until: {time_text(END + 90)}}}"
)


def rules(*written: str) -> str:
    return "\n".join(["allow:", ALWAYS, *written]) + "\n"


def grants_of(world: World) -> Grants:
    return Grants(world.plane, world.clock)


def cuts(world: World) -> dict[Pair, str]:
    return world.registry.cuts()


async def test_the_pairs_of_a_grant_are_cut_when_it_ends_and_not_again(world: World) -> None:
    world.node()
    await world.apply(rules(GRANT, LATER))
    grants = grants_of(world)
    await grants.look()
    world.now = END - 0.001
    await grants.look()
    assert cuts(world) == {}
    world.now = float(END)
    await grants.look()
    first = cuts(world)
    assert first.keys() == {PAIR}
    world.now += 10
    await grants.look()
    assert cuts(world) == first
    world.now += 50
    await grants.look()
    assert cuts(world).keys() == {PAIR, ("storefront", "ledger")}
    assert cuts(world)[PAIR] == first[PAIR]


async def test_taking_out_a_grant_that_ended_cuts_nobody_once_more(world: World) -> None:
    world.node()
    await world.apply(rules(GRANT))
    grants = grants_of(world)
    world.now = float(END)
    await grants.look()
    at_its_end = cuts(world)
    world.now += 10
    await world.apply(rules())
    assert cuts(world) == at_its_end


async def test_it_looks_again_when_the_next_one_ends_and_for_other_policies_before(world: World) -> None:
    world.node()
    assert await grants_of(world).look() == 0.5
    await world.apply(rules(GRANT))
    world.now = END - 0.25
    assert await grants_of(world).look() == pytest.approx(0.25)
    world.now = END - 60.0
    assert await grants_of(world).look() == 0.5


async def test_it_is_done_by_itself(world: World) -> None:
    world.node()
    await world.apply(rules(GRANT))
    world.now = END - 0.05
    keeping = asyncio.create_task(grants_of(world).keep())
    world.now = float(END)
    await until(lambda: cuts(world).keys() == {PAIR})
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def test_what_another_grant_goes_on_to_allow_is_not_cut(world: World) -> None:
    world.node()
    await world.apply(rules(GRANT, RENEWED))
    grants = grants_of(world)
    await grants.look()
    world.now = END + 1.0
    await grants.look()
    assert cuts(world) == {}
    world.now = END + 90.0
    await grants.look()
    assert cuts(world).keys() == {PAIR}


async def test_what_ended_while_nobody_was_there_is_cut_at_the_start_and_only_once(
    world: World, tmp_path: Path
) -> None:
    world.node()
    await world.apply(rules(GRANT))
    world.state.close()
    for expected in (1, 1):
        again = World(tmp_path)
        again.now = END + 1000.0
        again.node()
        assert again.plane.restore()
        await grants_of(again).look()
        assert len(cuts(again)) == expected
        seen = dict(cuts(again))
        again.state.close()
    assert seen[PAIR] == f"{(END + 1000) * 1000:x}"


async def test_a_grant_that_was_over_when_it_was_applied_cuts_nobody(world: World) -> None:
    world.node()
    world.now = END + 1000.0
    await world.apply(rules(GRANT))
    grants = grants_of(world)
    await grants.look()
    assert cuts(world) == {}


async def test_an_end_that_cannot_be_stored_is_tried_again(world: World) -> None:
    world.node()
    await world.apply(rules(GRANT))
    grants = grants_of(world)
    await grants.look()
    world.now = END + 1.0
    with closing(sqlite3.connect(world.path)) as other:
        other.execute("ALTER TABLE version RENAME TO away")
        await grants.look()
        assert cuts(world) == {}
        other.execute("ALTER TABLE away RENAME TO version")
    world.now += 1.0
    await grants.look()
    assert cuts(world).keys() == {PAIR}


async def test_the_enforced_grants_are_told(world: World) -> None:
    grants = grants_of(world)
    assert await grants.listed({}) == {"grants": []}
    world.node()
    await world.apply(rules(LATER, GRANT))
    told = (await grants.listed({}))["grants"]
    assert [(one["rule"], one["until"]) for one in told] == [("books", END), ("later", END + 50)]
