"""Operations on nodes, as commands ask for them: what is, who may join, drain, remove, quarantine, the authority."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from control_world import BY_NODE, HOSTS, HOSTS_RULES, NOW, World

from fakes.envoy_node import FakeNode
from fakes.waiting import until
from septum.control import nodes as module
from septum.control.membership import FRESH, digest_of
from septum.control.nodes import SKEW
from septum.control.registry import Standing
from septum.identity.token import read_token
from septum.rpc.messages import Certificate

pytestmark = pytest.mark.anyio


async def status(world: World, node: str) -> dict[str, Any]:
    found: dict[str, Any] = {n["node"]: n for n in (await world.ask("status"))["nodes"]}[node]
    return found


@asynccontextmanager
async def meanwhile(*work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- what is


async def test_a_node_from_its_place_in_the_mesh_to_its_removal(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    for other in ("web", "db"):
        hosts.node(other)
    awaited = await status(hosts, "app")
    assert (awaited["standing"], awaited["joined"], awaited["last_seen"], awaited["connected"]) == (
        "awaited", None, None, False,
    )  # fmt: skip
    assert (awaited["held"], awaited["version"], awaited["desired"]) == (False, None, hosts.version())

    await hosts.join("app")
    hosts.node("app")
    await hosts.plane.ready(5.0, "app")
    await hosts.report("app", certificates=(Certificate("x", NOW + 9), Certificate("y", NOW + 5)), connections=3)
    there = await status(hosts, "app")
    assert (there["standing"], there["joined"], there["last_seen"], there["connected"]) == ("joined", NOW, NOW, True)
    assert (there["held"], there["version"], there["troubles"]) == (True, hosts.version(), [])
    assert there["resources"] == there["resources_held"] > 0
    assert (there["certificate_end"], there["certificates"], there["connections"]) == (NOW + 5, ["x", "y"], 3)

    await hosts.ask("remove", node="app")
    gone = await status(hosts, "app")
    assert (gone["standing"], gone["connected"], gone["held"], gone["resources"]) == ("removed", False, False, 0)


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ({"clock": NOW + SKEW + 1}, "its clock is 61 s ahead"),
        ({"clock": NOW - 3600}, "its clock is 3600 s behind"),
        ({"envoy_up": False}, "its Envoy does not answer"),
        ({"troubles": ("no certificate for orders: not now",)}, "no certificate for orders: not now"),
    ],
)
async def test_what_a_node_is_not_well_by_is_said(hosts: World, said: dict[str, Any], trouble: str) -> None:
    await hosts.spread()
    await hosts.join("app")
    await hosts.report("app", **said)
    assert (await status(hosts, "app"))["troubles"] == [trouble]


async def test_a_node_that_does_not_report_any_more_is_said(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("app")
    await hosts.report("app")
    hosts.now += FRESH
    assert (await status(hosts, "app"))["troubles"] == []
    hosts.now += 1
    assert (await status(hosts, "app"))["troubles"] == ["it does not report"]


async def test_a_workload_that_a_node_may_not_front_is_said(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app", {"orders"})
    (trouble,) = (await status(hosts, "app"))["troubles"]
    assert trouble.startswith("may not front payments: ")


async def test_a_refusal_is_part_of_the_status(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    hosts.node("app").refuses["outbound/orders"] = "cannot bind"
    await hosts.plane.ready(0.05, "app")
    found = await status(hosts, "app")
    assert (found["held"], [r["reason"] for r in found["rejected"]]) == (False, ["cannot bind"])


async def test_records_of_all_nodes_are_summed(hosts: World) -> None:
    await hosts.spread()
    assert (await hosts.ask("status"))["records"] == {}
    hosts.stored = {
        "app": {"ingested": 3, "lost": 1, "unreadable": 0, "disagreements": 0, "unstored": "disk full"},
        "db": {"ingested": 4, "lost": 0, "unreadable": 2, "disagreements": 1, "unstored": "disk full"},
    }
    assert (await hosts.ask("status"))["records"] == {
        "ingested": 7, "lost": 1, "unreadable": 2, "disagreements": 1, "behind": 0, "stalled": "disk full",
    }  # fmt: skip
    assert (await status(hosts, "app"))["records"]["ingested"] == 3


async def test_the_node_of_this_machine_needs_no_token(world: World) -> None:
    world.node()
    await world.apply()
    found = await status(world, "n1")
    assert (found["standing"], found["held"]) == ("joined", True)


# --- tokens


async def test_a_token_is_for_what_the_mesh_puts_on_the_node(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    made = await hosts.ask("token", node="app", lifetime=60)
    assert (made["node"], made["workloads"], made["expires"]) == ("app", ["orders", "payments"], NOW + 60)
    assert made["listen"] == "127.0.0.1:7400"
    token = read_token(made["token"], NOW)
    assert (token.node, token.trust_domain, token.expires) == ("app", "shop.test", NOW + 60)
    (kept,) = hosts.registry.tokens()
    assert (kept.id, kept.node, kept.workloads) == (token.id, "app", {"orders", "payments"})


async def test_a_token_may_be_for_other_workloads(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    assert (await hosts.ask("token", node="app", workloads=["orders"]))["workloads"] == ["orders"]
    assert (await hosts.ask("token", node="app", workloads=[]))["workloads"] == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"node": "nope"}, "the mesh has no node `nope` (web, app, db); add it to `nodes:` and apply"),
        ({"node": "app", "workloads": ["ordres"]}, "no workload is called `ordres`"),
    ],
)
async def test_a_token_for_nothing_there_is_refused(hosts: World, asked: dict[str, Any], said: str) -> None:
    await hosts.apply_hosts(patience=0)
    assert await hosts.ask("token", **asked) == {"error": said}
    assert hosts.registry.tokens() == []


async def test_a_token_where_there_can_be_none_is_refused(world: World) -> None:
    assert "no authority yet" in (await world.ask("token", node="app"))["error"]
    world.node()
    await world.apply()
    assert "no authority yet" in (await world.ask("token", node="app"))["error"]


async def test_the_node_of_this_machine_is_given_no_token(tmp_path: Any) -> None:
    made = World(tmp_path, local="web")
    await made.apply_hosts(patience=0)
    assert await made.ask("token", node="web") == {"error": "`web` is the node of this machine; it needs no token"}
    made.state.close()


# --- drain and remove


async def test_draining_waits_for_the_last_connection(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("app")
    await hosts.report("app", connections=2)
    draining = asyncio.create_task(hosts.ask("drain", node="app", drain=True, patience=15))
    await until(lambda: hosts.registry.members()["app"].standing is Standing.DRAINING)
    await hosts.report("app", connections=2, drained=True)
    await hosts.report("app", connections=0, drained=True)
    assert await draining == {"drained": True, "connections": 0}
    assert (await status(hosts, "app"))["standing"] == "draining"
    await hosts.ask("drain", node="app", drain=False)
    assert hosts.registry.members()["app"].standing is Standing.JOINED


async def test_draining_says_what_is_left(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("app")
    await hosts.report("app", connections=2, drained=True)
    assert await hosts.ask("drain", node="app", drain=True, patience=0.01) == {"drained": False, "connections": 2}


@pytest.mark.parametrize("op", ["drain", "remove"])
async def test_who_never_joined_can_neither_be_drained_nor_removed(hosts: World, op: str) -> None:
    await hosts.spread()
    assert await hosts.ask(op, node="app", drain=True) == {"error": "no node `app` has joined; there are none"}
    await hosts.join("web")
    assert await hosts.ask(op, node="app", drain=True) == {"error": "no node `app` has joined; there are web"}


async def test_a_removed_node_has_nothing_left(hosts: World) -> None:
    agents = await hosts.spread()
    ended: list[str] = []
    agents["app"].end = lambda: ended.append("app")  # type: ignore[method-assign]
    await hosts.join("app")
    serials = hosts.registry.certificates("app")
    removed = await hosts.ask("remove", node="app")
    assert (removed["revoked"], removed["applied"]["outcome"]) == (1, "held")
    assert {arrival["node"] for arrival in removed["applied"]["nodes"]} == {"web", "db"}
    assert hosts.authority.revoked >= serials.keys()
    assert (ended, set(hosts.fleet.nodes())) == (["app"], {"web", "db"})
    cut = {(caller, target) for caller in BY_NODE["app"] for target in ("storefront", "orders", "payments", "ledger")}
    assert hosts.registry.cuts().keys() == cut
    assert await hosts.ask("drain", node="app", drain=True) == {"error": "`app` was removed"}


async def test_what_is_revoked_reaches_the_other_proxies_with_the_removal(hosts: World) -> None:
    agents = await hosts.spread()
    await hosts.join("app")
    before = {name: agent.holds.get(trust_of(agent)) for name, agent in agents.items()}
    await hosts.ask("remove", node="app")
    for name in ("web", "db"):
        assert agents[name].holds[trust_of(agents[name])] != before[name]


def trust_of(agent: FakeNode) -> tuple[str, str]:
    (found,) = (key for key in agent.holds if key[0].endswith(".Secret"))
    return found


# --- quarantine


async def test_quarantine_is_told_with_its_author_and_ends_when_it_is_released(hosts: World) -> None:
    await hosts.spread()
    before = hosts.version()
    done = await hosts.ask("quarantine", workload="orders", lasts=None, author="ada")
    assert done["applied"]["outcome"] == "held"
    assert (await hosts.ask("quarantined"))["quarantined"] == [
        {"workload": "orders", "until": None, "since": NOW, "author": "ada"}
    ]
    assert (await hosts.ask("status"))["quarantined"] == ["orders"]
    done = await hosts.ask("quarantine", workload="orders", release=True, author="ada")
    assert (done["applied"]["outcome"], hosts.version()) == ("held", before)
    assert (await hosts.ask("quarantined"))["quarantined"] == []


async def test_who_is_not_there_cannot_be_quarantined(hosts: World) -> None:
    assert "nothing is enforced yet" in (await hosts.ask("quarantine", workload="orders"))["error"]
    await hosts.spread()
    assert await hosts.ask("quarantine", workload="ordres") == {"error": "no workload is called `ordres`"}


async def test_who_left_the_mesh_in_quarantine_can_be_released(hosts: World) -> None:
    await hosts.spread()
    await hosts.ask("quarantine", workload="payments")
    without = "".join(line for line in HOSTS.splitlines(keepends=True) if "payments" not in line)
    await hosts.apply(HOSTS_RULES, without)
    assert (await hosts.ask("status"))["quarantined"] == []
    assert (await hosts.ask("quarantined"))["quarantined"] != [], "it would be in quarantine if it came back"
    assert "applied" in await hosts.ask("quarantine", workload="payments", release=True)
    assert (await hosts.ask("quarantined"))["quarantined"] == []


async def test_a_quarantine_ends_by_itself(hosts: World) -> None:
    await hosts.spread()
    before = hosts.version()
    await hosts.ask("quarantine", workload="orders", lasts=60)
    async with meanwhile(hosts.nodes.keep_quarantine()):
        await asyncio.sleep(0)
        assert hosts.version() != before
        hosts.now += 61
        await until(lambda: hosts.version() == before)
    assert hosts.enforced() == before


async def test_the_end_of_a_quarantine_that_cannot_be_stored_is_tried_again(hosts: World) -> None:
    await hosts.spread()
    before = hosts.version()
    await hosts.ask("quarantine", workload="orders", lasts=60)
    with closing(sqlite3.connect(hosts.path)) as other:
        other.execute("ALTER TABLE version RENAME TO away")
        hosts.now += 61
        keeping = asyncio.create_task(hosts.nodes.keep_quarantine())
        await asyncio.sleep(0.01)
        assert not keeping.done()
        assert hosts.version() != before
        other.execute("ALTER TABLE away RENAME TO version")
    async with meanwhile(keeping):
        await until(lambda: hosts.version() == before)


# --- the authority


def reporting(world: World, roots: Callable[[], str], issuer: Callable[[], str], *nodes: str) -> Any:
    """Nodes that come along with each step, as agents do."""

    async def report() -> None:
        while True:
            for node in nodes:
                held = Certificate(f"spiffe://shop.test/septum/node/{node}", NOW + 60, issuer())
                await world.report(node, roots=roots(), certificates=(held,))
            await asyncio.sleep(0.005)

    return report()


def now_trusted(world: World) -> str:
    return digest_of(world.authority.bundle(world.now).roots_pem)


async def test_a_rotation_takes_every_node_along(hosts: World) -> None:
    await hosts.spread()
    for node in BY_NODE:
        await hosts.join(node)
    old = hosts.authority.issuer
    current = lambda: hosts.authority.issuer  # noqa: E731
    async with meanwhile(reporting(hosts, lambda: now_trusted(hosts), current, *BY_NODE)):
        done = (await hosts.ask("ca", step="all"))["done"]
    assert [said.partition(":")[0] for said in done] == ["prepared", "activated", "retired"]
    assert hosts.authority.issuer != old
    assert {a.arrived for a in await hosts.plane.ready(5.0)} == {"held"}


async def test_a_rotation_stops_for_a_node_that_does_not_trust_the_new_one(
    hosts: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROTATION", 0.1)
    await hosts.spread()
    for node in BY_NODE:
        await hosts.join(node)
    before, old = now_trusted(hosts), hosts.authority.issuer
    current = lambda: hosts.authority.issuer  # noqa: E731
    async with meanwhile(
        reporting(hosts, lambda: now_trusted(hosts), current, "web", "app"),
        reporting(hosts, lambda: before, current, "db"),
    ):
        await until(lambda: len(hosts.membership.heard) == 3)
        error = (await hosts.ask("ca", step="all"))["error"]
    assert error.startswith("prepared: ")
    assert "because db did not come along" in error
    assert hosts.authority.issuer == old, "it does not sign before everybody trusts it"


async def test_a_rotation_stops_for_a_node_with_an_old_certificate(
    hosts: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROTATION", 0.1)
    await hosts.spread()
    for node in BY_NODE:
        await hosts.join(node)
    old, current = hosts.authority.issuer, lambda: hosts.authority.issuer
    async with meanwhile(
        reporting(hosts, lambda: now_trusted(hosts), current, "web", "app"),
        reporting(hosts, lambda: now_trusted(hosts), lambda: old, "db"),
    ):
        await until(lambda: len(hosts.membership.heard) == 3)
        assert "done" in await hosts.ask("ca", step="prepare")
        error = (await hosts.ask("ca", step="activate"))["error"]
        assert error.startswith("activated: ")
        assert "because db did not come along" in error
        async with meanwhile(reporting(hosts, lambda: now_trusted(hosts), current, "db")):
            await until(lambda: hosts.membership.heard["db"].report.certificates[0].issuer == current())
    assert "done" in await hosts.ask("ca", step="retire")


async def test_a_rotation_stops_for_a_node_that_is_away(hosts: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROTATION", 0.1)
    agents = await hosts.spread()
    for node in BY_NODE:
        await hosts.join(node)
    agents["db"].leave()
    assert "because db did not come along" in (await hosts.ask("ca", step="prepare"))["error"]


async def test_a_rotation_does_not_wait_for_who_was_removed_or_never_came(
    hosts: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROTATION", 0.2)
    agents = await hosts.spread()
    for node in ("web", "db"):
        await hosts.join(node)
    await hosts.report("db", roots=now_trusted(hosts), certificates=(Certificate("x", NOW, hosts.authority.issuer),))
    await hosts.ask("remove", node="db")
    agents["app"].leave()
    current = lambda: hosts.authority.issuer  # noqa: E731
    async with meanwhile(reporting(hosts, lambda: now_trusted(hosts), current, "web")):
        assert len((await hosts.ask("ca", step="all"))["done"]) == 3


@pytest.mark.parametrize("step", ["sideways", "retire"])
async def test_a_step_that_is_none_or_not_due_is_refused(hosts: World, step: str) -> None:
    await hosts.spread()
    assert (await hosts.ask("ca", step=step)).keys() == {"error"}


async def test_what_is_trusted_is_published_when_it_changes(hosts: World) -> None:
    agents = await hosts.spread()
    before = agents["web"].holds[trust_of(agents["web"])]
    async with meanwhile(hosts.nodes.keep_trust()):
        await asyncio.sleep(0)
        hosts.authority.revoke({7: NOW + 60}, NOW)
        await until(lambda: agents["web"].holds[trust_of(agents["web"])] != before)
