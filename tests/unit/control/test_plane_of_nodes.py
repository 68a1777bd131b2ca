"""A change in a mesh of several nodes: all of them or none, each named, and only those that it concerns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from control_world import BY_NODE, HOSTS, HOSTS_RULES, NOW, World

from septum.control.applied import Applied, Outcome
from septum.control.arrivals import Arrived, slowest
from septum.control.registry import Quarantined, Standing
from septum.model.snapshot import MANIFEST
from septum.xds.types import LISTENER, ROUTE

pytestmark = pytest.mark.anyio

NARROWER = HOSTS_RULES.replace(", POST /orders", "")
WIDER = HOSTS_RULES.replace("POST /orders]", "POST /orders, GET /basket]")
SILENT = "".join(HOSTS_RULES.splitlines(keepends=True)[:2])


def arrived(applied: Applied) -> dict[str, str]:
    return {arrival.node: str(arrival.arrived) for arrival in applied.nodes}


def touched(applied: Applied) -> set[str]:
    return {node for node, _, _ in applied.resources_changed}


async def test_a_version_is_held_by_every_node_and_each_has_its_own(hosts: World) -> None:
    agents = await hosts.spread()
    applied = await hosts.apply_hosts(WIDER)
    assert (applied.outcome, arrived(applied)) == (Outcome.HELD, dict.fromkeys(BY_NODE, "held"))
    for name, agent in agents.items():
        served = {resource.removeprefix("outbound/") for kind, resource in agent.holds if kind == LISTENER}
        assert BY_NODE[name] <= served, name
        others = set().union(*(of for node, of in BY_NODE.items() if node != name))
        assert not served & others, name
        assert (MANIFEST, "manifest") in agent.holds


async def test_a_rule_goes_to_the_node_where_it_is_decided_alone(hosts: World) -> None:
    agents = await hosts.spread()
    seen = {name: len(agent.received) for name, agent in agents.items()}
    applied = await hosts.apply_hosts(WIDER)
    assert applied.resources_changed == (("app", ROUTE, "orders"), ("app", MANIFEST, "manifest"))
    assert {name: agent.received[seen[name] :] for name, agent in agents.items()} == {
        "web": [],
        "app": [(ROUTE, "orders"), (MANIFEST, "manifest")],
        "db": [],
    }


async def test_a_way_that_goes_concerns_both_of_its_ends_and_nobody_else(hosts: World) -> None:
    await hosts.spread()
    assert touched(await hosts.apply_hosts(SILENT)) == {"app", "db"}


async def test_what_one_node_refuses_is_taken_back_on_all_of_them(hosts: World) -> None:
    agents = await hosts.spread()
    before, held = hosts.version(), {name: dict(agent.holds) for name, agent in agents.items()}
    agents["db"].refuses["ledger"] = "no such thing"
    applied = await hosts.apply_hosts(SILENT)
    assert applied.outcome is Outcome.REJECTED
    assert arrived(applied) == {"web": "held", "app": "held", "db": "refused"}
    assert {refusal.name for refusal in applied.refusals} == {"ledger"}
    assert [a.why for a in applied.nodes if a.arrived is Arrived.REFUSED] == [
        "RouteConfiguration ledger: no such thing"
    ]
    assert hosts.version() == hosts.enforced() == before
    assert {name: agent.holds for name, agent in agents.items()} == held
    assert hosts.registry.cuts() == {}, "what was not enforced has cut nobody off"


async def test_a_node_that_is_away_is_named_and_served_when_it_comes(hosts: World) -> None:
    agents = await hosts.spread()
    agents["db"].leave()
    applied = await hosts.apply_hosts(SILENT, patience=0.01)
    assert (applied.outcome, arrived(applied)) == (Outcome.SENT, {"web": "held", "app": "held", "db": "missing"})
    assert [a.why for a in applied.nodes if a.arrived is Arrived.MISSING] == ["not connected"]
    assert hosts.enforced() == applied.version
    assert slowest(applied.nodes) is not None
    hosts.node("db")
    assert {a.arrived for a in await hosts.plane.ready(5.0)} == {Arrived.HELD}


async def test_one_node_can_be_waited_for(hosts: World) -> None:
    agents = await hosts.spread()
    agents["db"].leave()
    assert [(a.node, a.arrived) for a in await hosts.plane.ready(5.0, "app")] == [("app", Arrived.HELD)]
    assert [(a.node, a.arrived) for a in await hosts.plane.ready(0.01, "db")] == [("db", Arrived.MISSING)]
    assert await hosts.plane.ready(0.01, "elsewhere") == ()


async def test_a_node_that_was_away_and_then_refuses_takes_it_back(hosts: World) -> None:
    agents = await hosts.spread()
    before = hosts.version()
    agents["db"].leave()
    late = await hosts.apply_hosts(SILENT, patience=0.01)
    running = asyncio.create_task(hosts.plane.run())
    back = hosts.node("db")
    back.refuses["ledger"] = "not with me"
    async with asyncio.timeout(10):
        while hosts.version() == late.version:  # noqa: ASYNC110 - the loop's turns are the event
            await asyncio.sleep(0)
        back.refuses.clear()
        await hosts.plane.ready(5.0)
    running.cancel()
    assert hosts.version() == hosts.enforced() == before


async def test_a_node_with_something_in_its_way_does_not_hold_up_the_others(hosts: World) -> None:
    agents = await hosts.spread()
    agents["db"].leave()
    hosts.node("db").refuses["outbound/ledger"] = "cannot bind"
    applied = await hosts.apply_hosts(WIDER)
    assert (applied.outcome, arrived(applied)) == (Outcome.SENT, {"web": "held", "app": "held", "db": "missing"})
    (why,) = (a.why for a in applied.nodes if a.node == "db")
    assert why == "refused as before: Listener outbound/ledger: cannot bind"
    assert hosts.enforced() == applied.version


async def test_live_calls_that_a_version_takes_away_are_cut_with_it(hosts: World, tmp_path: Path) -> None:
    await hosts.spread()
    await hosts.apply_hosts(NARROWER)
    token = f"{int(NOW * 1000):x}"
    assert hosts.registry.cuts() == {("storefront", "orders"): token}
    hosts.now += 1
    await hosts.apply_hosts(SILENT)
    cuts = hosts.registry.cuts()
    assert cuts.keys() == {("storefront", "orders"), ("orders", "ledger")}
    assert cuts["storefront", "orders"] == token, "a pair that loses nothing is left alone"

    again = World(tmp_path, local="")
    assert again.plane.restore()
    agents = again.three()
    await again.plane.ready(5.0)
    assert {node: again.fleet.status()[n].held_version for n, node in enumerate(sorted(agents))} == {
        status.node: status.held_version for status in hosts.fleet.status()
    }, "a restart of the control plane cuts nobody off once more"
    again.state.close()


async def test_a_quarantine_is_a_version_of_its_own_and_ends_without_a_trace(hosts: World, tmp_path: Path) -> None:
    await hosts.spread()
    before = hosts.version()
    hosts.registry.quarantine(Quarantined("orders", NOW + 60, NOW, "ada"))
    applied = await hosts.plane.refresh("ada: orders in quarantine")
    assert (applied.outcome, applied.previous, hosts.version()) == (Outcome.HELD, before, applied.version)
    assert applied.version != before
    assert hosts.plane.policy is not None
    assert hosts.plane.policy.quarantined == {"orders"}
    assert touched(applied) == set(BY_NODE), "who calls it, where it is, and whom it calls"
    assert hosts.registry.cuts().keys() == {("storefront", "orders"), ("orders", "ledger")}

    again = World(tmp_path, local="")
    assert again.plane.restore()
    assert again.version() == applied.version, "a restart does not end it"
    again.state.close()

    assert (await hosts.apply_hosts(WIDER)).outcome is Outcome.HELD
    assert hosts.plane.policy.quarantined == {"orders"}, "and neither does an apply"
    await hosts.apply_hosts()

    hosts.now += 61
    ended = await hosts.plane.refresh("the end of a quarantine")
    assert (ended.outcome, ended.version) == (Outcome.HELD, before)


async def test_nothing_is_enforced_again_before_anything_was(hosts: World) -> None:
    assert (await hosts.plane.refresh("nobody")).outcome is Outcome.INVALID


async def test_what_stands_beside_the_files_may_leave_all_as_it_is(hosts: World) -> None:
    await hosts.spread()
    applied = await hosts.plane.refresh("nothing new")
    assert (applied.outcome, applied.resources_changed) == (Outcome.UNCHANGED, ())


async def test_live_calls_can_be_cut_that_the_policy_allows(hosts: World) -> None:
    await hosts.spread()
    before = hosts.version()
    applied = await hosts.plane.refresh("node db removed", cut=frozenset({("orders", "ledger")}))
    assert (applied.outcome, applied.version) == (Outcome.HELD, before)
    assert touched(applied) == {"db"}
    assert hosts.registry.cuts().keys() == {("orders", "ledger")}


async def test_a_removed_node_is_forgotten(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("db")
    hosts.registry.set_standing("db", Standing.REMOVED)
    applied = await hosts.plane.refresh("node db removed")
    assert arrived(applied) == {"web": "held", "app": "held"}
    assert set(hosts.plane.nodes()) == set(hosts.fleet.nodes()) == {"web", "app"}


async def test_a_node_that_the_mesh_lists_no_more_is_forgotten(hosts: World) -> None:
    await hosts.spread()
    without = HOSTS.replace("  db:  {inbound: 127.0.0.1:7403}\n", "").replace("{node: db, ", "{node: app,")
    applied = await hosts.apply(HOSTS_RULES, without)
    assert (applied.outcome, arrived(applied)) == (Outcome.HELD, {"web": "held", "app": "held"})
    assert hosts.plane.fronted("app") == {"orders", "payments", "ledger"}
    assert set(hosts.fleet.nodes()) == {"web", "app"}


async def test_a_version_can_be_told_from_what_a_node_holds(hosts: World) -> None:
    agents = await hosts.spread()
    first = hosts.version()
    agents["app"].leave()
    second = (await hosts.apply_hosts(WIDER, patience=0.01)).version
    held = {status.node: status.held_version for status in hosts.fleet.status()}
    versions = {node: hosts.plane.version_of(node, snapshot) for node, snapshot in held.items()}
    assert versions == {"web": second, "app": first, "db": second}, "what a change leaves as it is, is of both"
    assert hosts.plane.version_of("app", "never was") is None
    assert hosts.plane.version_of("app", None) is None
    assert hosts.plane.version_of("nobody", held["app"]) is None
