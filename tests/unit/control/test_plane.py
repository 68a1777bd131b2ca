"""Applying a change: what is enforced is what the node holds, what is stored, and what the author was told."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from control_world import NOW, World, files

from meshes import SHOP, SHOP_RULES
from septum.control.applied import Outcome
from septum.control.arrivals import Arrival, Arrived
from septum.control.state import StateError, Version
from septum.model.mesh import Address
from septum.model.snapshot import MANIFEST
from septum.xds.types import LISTENER, ROUTE

pytestmark = pytest.mark.anyio

NARROWER = SHOP_RULES.replace(", POST /orders", "")
WIDER = SHOP_RULES.replace("POST /orders]", "POST /orders, GET /basket]")


async def test_a_version_that_the_node_holds_is_enforced_and_stored(world: World) -> None:
    node = world.node()
    applied = await world.apply()
    assert (applied.outcome, applied.previous, applied.refusals) == (Outcome.HELD, "", ())
    assert applied.nodes == (Arrival("n1", Arrived.HELD),)
    assert applied.version == world.version() == world.enforced()
    assert applied.milliseconds.keys() == {"check", "compile", "held"}
    assert {("n1", *key) for key in node.holds} == set(applied.resources_changed)
    stored = world.state.enforced()
    assert stored is not None
    assert (stored.files, stored.author, stored.applied) == (files(), "ada", NOW)
    assert stored.slices.keys() == world.plane.policy.mesh.workloads.keys()  # type: ignore[union-attr]


async def test_a_changed_rule_sends_one_route_configuration(world: World) -> None:
    node = world.node()
    first = await world.apply()
    seen = len(node.received)
    applied = await world.apply(NARROWER)
    assert (applied.outcome, applied.previous) == (Outcome.HELD, first.version)
    assert applied.resources_changed == (("n1", ROUTE, "orders"), ("n1", MANIFEST, "manifest"))
    assert node.received[seen:] == [(ROUTE, "orders"), (MANIFEST, "manifest")]


async def test_the_same_files_send_nothing(world: World) -> None:
    node = world.node()
    await world.apply()
    seen = len(node.received)
    applied = await world.apply()
    assert (applied.outcome, applied.resources_changed) == (Outcome.UNCHANGED, ())
    assert node.received[seen:] == []


async def test_invalid_files_change_nothing(world: World) -> None:
    node = world.node()
    before = await world.apply()
    seen = len(node.received)
    applied = await world.apply("allow: [{from: nobody, to: noone}]\n")
    assert (applied.outcome, applied.version) == (Outcome.INVALID, "")
    assert [d.code for d in applied.diagnostics] == ["SEP203", "SEP203"]
    assert world.version() == world.enforced() == before.version
    assert node.received[seen:] == []


async def test_what_the_node_refuses_is_taken_back(world: World) -> None:
    node = world.node()
    before = await world.apply()
    held = dict(node.holds)
    node.refuses["orders"] = "no such cluster"
    applied = await world.apply(NARROWER.replace("Authorize", "*"))
    assert (applied.outcome, applied.previous) == (Outcome.REJECTED, before.version)
    assert [(r.type_url, r.name, r.reason) for r in applied.refusals] == [(ROUTE, "orders", "no such cluster")]
    assert world.version() == world.enforced() == before.version
    assert node.holds == held, "the good part of the change is taken back too"
    del node.refuses["orders"]
    assert (await world.apply(NARROWER)).outcome is Outcome.HELD


async def test_a_node_that_is_not_there_is_sent_to_and_named(world: World) -> None:
    applied = await world.apply(patience=0.01)
    assert applied.outcome is Outcome.SENT
    assert applied.nodes == (Arrival("n1", Arrived.MISSING, "not connected"),)
    assert applied.version == world.enforced()
    node = world.node()
    assert await world.plane.ready(5.0) == (Arrival("n1", Arrived.HELD),)
    assert (LISTENER, "outbound/orders") in node.holds


async def test_a_node_that_does_not_answer_is_waited_for_and_named(world: World) -> None:
    node = world.node()
    await world.apply()
    node.silent = True
    applied = await world.apply(NARROWER, patience=0.01)
    assert (applied.outcome, applied.nodes) == (Outcome.SENT, (Arrival("n1", Arrived.MISSING, "no answer yet"),))
    node.silent = False
    node.answer()
    assert (await world.apply(NARROWER)).outcome is Outcome.UNCHANGED


async def test_what_cannot_be_stored_is_not_enforced(world: World) -> None:
    node = world.node()
    before = await world.apply()
    held = dict(node.holds)
    with closing(sqlite3.connect(world.path)) as other:
        other.execute("ALTER TABLE version RENAME TO away")
        with pytest.raises(StateError, match=r"state\.db"):
            await world.apply(NARROWER)
        assert node.holds == held
        assert world.version() == before.version
        other.execute("ALTER TABLE away RENAME TO version")
    assert (await world.apply(NARROWER)).outcome is Outcome.HELD


async def test_changes_come_one_after_another(world: World) -> None:
    world.node()
    await world.apply()
    both = await asyncio.gather(world.apply(NARROWER), world.apply(SHOP_RULES))
    assert [applied.outcome for applied in both] == [Outcome.HELD, Outcome.HELD]
    assert both[1].previous == both[0].version
    assert world.enforced() == both[1].version


async def test_a_restart_takes_up_what_was_enforced(world: World) -> None:
    world.node()
    applied = await world.apply()
    again = World(world.path.parent)
    assert again.plane.policy is None
    assert again.plane.restore()
    assert again.version() == applied.version
    node = again.node()
    assert [arrival.arrived for arrival in await again.plane.ready(5.0)] == [Arrived.HELD]
    assert (ROUTE, "orders") in node.holds
    again.state.close()


async def test_there_is_nothing_to_take_up_the_first_time(world: World) -> None:
    assert not world.plane.restore()
    assert world.plane.outbound() == {}
    assert await world.plane.ready(0.01) == ()


async def test_a_stored_version_that_is_not_valid_any_more_is_said(world: World) -> None:
    version = Version(1, "d" * 64, 1.0, "ada", {"septum.yaml": b"mesh: [\n"}, {})
    world.state.enforce(world.signer.signed(version))
    with pytest.raises(ValueError, match="the stored version dddddddddddd is not valid any more"):
        world.plane.restore()
    assert world.plane.policy is None


async def test_outbound_addresses_are_kept(world: World) -> None:
    world.node()
    await world.apply()
    assert world.plane.outbound()["orders"] == Address("127.0.0.1", 19001)
    assert world.state.outbound()["orders"] == "127.0.0.1:19001"
    shorter = SHOP.replace("  storefront: {segment: edge, at: 127.0.0.1:9101, protocol: http}\n", "").replace(
        "  edge: takes traffic from outside\n", ""
    )
    await world.apply("allow: []\n", shorter)
    assert world.plane.outbound() == {
        "orders": Address("127.0.0.1", 19001),
        "payments": Address("127.0.0.1", 19002),
        "ledger": Address("127.0.0.1", 19003),
    }


async def test_a_workload_may_say_where_its_listener_opens(world: World) -> None:
    world.node()
    mesh = SHOP.replace("at: 127.0.0.1:9102,", "at: 127.0.0.1:9102, outbound: 127.0.0.1:7000,")
    await world.apply(mesh=mesh)
    assert world.plane.outbound()["orders"] == Address("127.0.0.1", 7000)


async def test_a_refusal_that_comes_after_the_wait_is_taken_back(world: World) -> None:
    node = world.node()
    first = await world.apply()
    node.silent, node.refuses = True, {"orders": "too late"}
    late = await world.apply(NARROWER, patience=0.01)
    assert late.outcome is Outcome.SENT
    assert world.enforced() == world.version() == late.version
    running = asyncio.create_task(world.plane.run())
    node.silent = False
    node.answer()
    node.refuses.clear()  # it refused what is new; what it had before is good
    async with asyncio.timeout(10):
        while world.version() != first.version or not await held(world):  # noqa: ASYNC110 - the loop's turns are the event
            await asyncio.sleep(0)
    running.cancel()
    assert world.enforced() == first.version


async def held(world: World) -> bool:
    return all(arrival.arrived is Arrived.HELD for arrival in await world.plane.ready(5.0))


async def test_a_later_apply_is_not_taken_back_by_an_older_refusal(world: World) -> None:
    node = world.node()
    await world.apply()
    running = asyncio.create_task(world.plane.run())
    node.silent = True
    await world.apply(NARROWER, patience=0.01)
    node.silent = False
    node.answer()
    again = await world.apply()
    assert again.outcome in (Outcome.HELD, Outcome.UNCHANGED)
    await asyncio.sleep(0)
    running.cancel()
    assert world.enforced() == world.version() == again.version
