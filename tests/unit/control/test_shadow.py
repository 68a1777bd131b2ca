"""A candidate beside what is enforced: proposed, held or taken back, kept, promoted; and nothing enforced by it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from control_world import HOSTS, HOSTS_RULES, NOW, World

from fakes.envoy_node import FakeNode
from meshes import SHOP, SHOP_RULES
from septum.control.registry import Quarantined
from septum.control.state import StateError
from septum.model.snapshot import MANIFEST
from septum.xds.types import LISTENER, ROUTE, SCOPE

pytestmark = pytest.mark.anyio

NARROWER = SHOP_RULES.replace(", POST /orders", "")
WIDER = SHOP_RULES.replace("POST /orders]", "POST /orders, GET /basket]")
ROUTES = {("n1", ROUTE, name) for name in ("storefront", "orders", "payments", "ledger")}


async def shadow(
    world: World, rules: str = NARROWER, targets: list[str] | None = None, mesh: str = SHOP, patience: float = 5.0
) -> dict[str, Any]:
    files = {"septum.yaml": mesh, "policy/rules.yaml": rules}
    return await world.ask("shadow.apply", files=files, targets=targets, author="ada", patience=patience)


async def shown(world: World) -> dict[str, Any]:
    return (await world.ask("shadow.show"))["candidate"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the loop's turns are the event."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.fixture
async def node(world: World) -> FakeNode:
    """The one node, with a policy enforced."""
    node = world.node()
    await world.apply()
    return node


async def test_a_candidate_is_routes_and_changes_nothing_that_is_enforced(world: World, node: FakeNode) -> None:
    version, listeners = world.version(), {key: held for key, held in node.holds.items() if key[0] == LISTENER}
    applied = await shadow(world)
    assert (applied["outcome"], applied["left_out"]) == ("held", [])
    assert {tuple(one) for one in applied["resources_changed"]} == {*ROUTES, ("n1", MANIFEST, "manifest")}
    assert world.version() == world.enforced() == version
    assert {key: held for key, held in node.holds.items() if key[0] == LISTENER} == listeners
    assert await shown(world) == {
        "version": applied["version"],
        "targets": None,
        "author": "ada",
        "since": NOW,
        "base": version,
        "moved": False,
        "rules": 3,
        "files": ["policy/rules.yaml", "septum.yaml"],
        "left_out": [],
    }
    assert (await world.ask("status"))["candidate"]["version"] == applied["version"]


async def test_only_named_targets_are_touched(world: World, node: FakeNode) -> None:
    applied = await shadow(world, targets=["orders"])
    assert applied["resources_changed"] == [["n1", ROUTE, "orders"], ["n1", MANIFEST, "manifest"]]
    assert (await shown(world))["targets"] == ["orders"]


async def test_stopping_gives_the_node_what_it_had(world: World, node: FakeNode) -> None:
    before = dict(node.holds)
    applied = await shadow(world)
    assert node.holds != before
    stopped = await world.ask("shadow.stop", author="ada")
    assert (stopped["outcome"], stopped["version"]) == ("held", applied["version"])
    assert node.holds == before
    assert (await shown(world), (await world.ask("status"))["candidate"]) == (None, None)
    assert world.plane.policy is not None
    for op in ("shadow.stop", "shadow.promote"):
        assert "no candidate is asked" in (await world.ask(op, author="ada"))["error"]


async def test_what_a_node_refuses_is_taken_back_and_the_candidate_before_is_asked(
    world: World, node: FakeNode
) -> None:
    first = await shadow(world)
    held = dict(node.holds)
    node.refuses["orders"] = "no such matcher"
    refused = await shadow(world, WIDER)
    assert refused["outcome"] == "rejected"
    assert [one["reason"] for one in refused["nodes"][0]["refusals"]] == ["no such matcher"]
    assert (await shown(world))["version"] == first["version"]
    assert node.holds == held, "the good part of it is taken back too"


async def test_a_refusal_that_comes_after_the_wait_is_taken_back(world: World, node: FakeNode) -> None:
    held, running = dict(node.holds), asyncio.create_task(world.plane.run())
    node.silent, node.refuses = True, {"orders": "too late"}
    assert (await shadow(world, patience=0.01))["outcome"] == "sent"
    assert await shown(world) is not None
    node.silent = False
    node.answer()
    node.refuses.clear()
    await until(lambda: world.plane.beside is None and node.holds == held)
    running.cancel()
    again = World(world.path.parent)
    assert again.plane.restore()
    assert again.plane.beside is None
    again.state.close()


async def test_what_cannot_be_stored_is_not_asked(world: World, node: FakeNode) -> None:
    held = dict(node.holds)
    with closing(sqlite3.connect(world.path)) as other:
        other.execute("ALTER TABLE candidate RENAME TO away")
        with pytest.raises(StateError, match=r"state\.db"):
            await shadow(world)
        assert (node.holds, world.plane.beside) == (held, None)
        other.execute("ALTER TABLE away RENAME TO candidate")
    assert (await shadow(world))["outcome"] == "held"


async def test_it_outlives_a_restart_and_new_versions(world: World, node: FakeNode) -> None:
    applied = await shadow(world, targets=["orders", "ledger"])
    assert (await world.apply(WIDER)).outcome == "held"
    candidate = await shown(world)
    assert (candidate["version"], candidate["moved"]) == (applied["version"], True)
    again = World(world.path.parent)
    assert again.plane.restore()
    assert await shown(again) == candidate
    back = again.node()
    assert [arrival.arrived for arrival in await again.plane.ready(5.0)] == ["held"]
    assert back.holds == node.holds
    again.state.close()


async def test_a_stored_candidate_that_is_not_what_was_proposed_is_not_asked(world: World, node: FakeNode) -> None:
    await shadow(world)
    with closing(sqlite3.connect(world.path)) as other:
        other.execute("UPDATE candidate SET files = replace(files, 'GET,HEAD', 'GET')")
        other.commit()
    again = World(world.path.parent)
    assert again.plane.restore()
    assert again.plane.beside is None
    again.state.close()


async def test_quarantine_is_of_the_candidate_too_and_its_version_stays(world: World, node: FakeNode) -> None:
    applied = await shadow(world)
    before = dict(node.holds)
    world.registry.quarantine(Quarantined("storefront", None, NOW, "ada"))
    await world.plane.refresh("quarantine")
    assert world.plane.beside is not None
    assert world.plane.beside.candidate.policy.quarantined == {"storefront"}
    assert (await shown(world))["version"] == applied["version"]
    assert not (await shown(world))["moved"]
    assert node.holds[ROUTE, "orders"] != before[ROUTE, "orders"]


@pytest.mark.parametrize(
    ("targets", "mesh", "said"),
    [
        (["nobody"], SHOP, "no target is called `nobody`; there are ledger, orders, payments, storefront"),
        (None, SHOP.replace("trust_domain: shop.test", "trust_domain: other.test"), "trust domain other.test and not"),
    ],
)
async def test_what_does_not_fit_the_mesh_is_said(
    world: World, node: FakeNode, targets: list[str] | None, mesh: str, said: str
) -> None:
    assert said in (await shadow(world, targets=targets, mesh=mesh))["error"]
    assert world.plane.beside is None


async def test_one_that_is_not_valid_is_told_all_that_is_wrong(world: World, node: FakeNode) -> None:
    applied = await shadow(world, "allow: [{from: nobody, to: noone}]\n")
    assert applied["outcome"] == "invalid"
    assert [diagnostic["code"] for diagnostic in applied["diagnostics"]] == ["SEP203", "SEP203"]
    assert world.plane.beside is None


async def test_what_of_its_mesh_is_not_asked_is_said(world: World, node: FakeNode) -> None:
    mesh = SHOP.replace("enforce: [pci, data]", "enforce: [pci, data, core]").replace("9102", "9112")
    applied = await shadow(world, mesh=mesh)
    assert applied["outcome"] == "held"
    assert applied["left_out"] == [
        "`orders` would be enforced: a candidate carries nothing out, whatever its mode",
        "`orders` has another `at` in the candidate: the enforced one stays",
    ]


async def test_before_anything_is_enforced_there_is_nothing_to_stand_beside(world: World) -> None:
    assert "nothing is enforced yet" in (await shadow(world))["error"]
    assert (await world.ask("shadow.show"))["candidate"] is None


async def test_promoting_enforces_its_files_and_asks_it_no_more(world: World, node: FakeNode) -> None:
    applied = await shadow(world)
    promoted = await world.ask("shadow.promote", author="ada", message="narrower")
    assert (promoted["outcome"], promoted["version"]) == ("held", applied["version"])
    assert world.version() == world.enforced() == applied["version"]
    assert await shown(world) is None
    stored = world.state.enforced()
    assert stored is not None
    assert (stored.author, stored.message, stored.files["policy/rules.yaml"]) == ("ada", "narrower", NARROWER.encode())
    assert world.logged[-1]["event"] == "applied"


async def test_promoting_is_refused_when_something_else_is_enforced_by_now(world: World, node: FakeNode) -> None:
    applied = await shadow(world)
    await world.apply(WIDER)
    refused = await world.ask("shadow.promote", author="ada")
    assert "ask it anew" in refused["error"]
    assert (await shown(world))["version"] == applied["version"] != world.version()
    forced = await world.ask("shadow.promote", author="ada", force=True)
    assert forced["outcome"] == "held"
    assert world.version() == applied["version"]


async def test_a_promotion_that_is_refused_leaves_the_candidate(world: World, node: FakeNode) -> None:
    applied = await shadow(world)
    node.refuses["orders"] = "no"
    assert (await world.ask("shadow.promote", author="ada"))["outcome"] == "rejected"
    assert (await shown(world))["version"] == applied["version"] != world.version()


async def test_between_nodes_the_callers_node_is_asked_about_whom_no_rule_names(hosts: World) -> None:
    agents = await hosts.spread()
    before = {name: dict(agent.holds) for name, agent in agents.items()}
    rules = (
        HOSTS_RULES
        + '  - {name: audit, from: storefront, to: ledger}\n  - {from: payments, to: orders, http: ["GET /x"]}\n'
    )
    applied = await shadow(hosts, rules, mesh=HOSTS)
    assert applied["outcome"] == "held"
    for name, agent in agents.items():
        new = {kind for (kind, _), version in agent.holds.items() if version not in before[name].values()}
        assert new <= {ROUTE, SCOPE, MANIFEST}, name
    # No rule leads from the host of `storefront` to `ledger`, so there was no route to it either.
    assert (ROUTE, "ledger") not in before["web"]
    assert (ROUTE, "ledger") in agents["web"].holds
    assert (SCOPE, "ledger:9104") in agents["web"].holds
    await hosts.ask("shadow.stop", author="ada")
    assert {name: dict(agent.holds) for name, agent in agents.items()} == before
