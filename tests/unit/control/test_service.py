"""What the control socket answers, as JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from control_world import NOW, World

from meshes import SHOP, SHOP_RULES
from septum.control.versions import Ended, Versions

pytestmark = pytest.mark.anyio

NARROWER = SHOP_RULES.replace(", POST /orders", "")
WIDER = SHOP_RULES.replace("POST /orders]", "POST /orders, GET /basket]")


async def apply(world: World, rules: str = SHOP_RULES, **request: Any) -> dict[str, Any]:
    files = {"septum.yaml": SHOP, "policy/rules.yaml": rules}
    return await world.ask("apply", **{"files": files, "author": "ada"} | request)


async def test_before_anything_was_applied(world: World) -> None:
    status = await world.ask("status")
    assert (status["mesh"], status["version"], status["applied"], status["workloads"]) == ("", "", None, [])
    assert (status["nodes"], status["quarantined"], status["records"]) == ([], [], {})


async def test_apply_and_status(world: World) -> None:
    world.node()
    applied = await apply(world)
    assert (applied["outcome"], applied["previous"]) == ("held", "")
    status = await world.ask("status")
    assert (status["version"], status["applied"], status["author"]) == (applied["version"], NOW, "ada")
    assert (status["mesh"], status["rules"], status["quarantined"]) == ("shop", 3, [])
    assert status["workloads"][1] == {
        "name": "orders",
        "segment": "core",
        "protocol": "http",
        "at": "127.0.0.1:9102",
        "node": "",
        "mode": "observe",
        "outbound": "127.0.0.1:19001",
        "dials": {},
    }
    (node,) = status["nodes"]
    assert (node["node"], node["standing"], node["connected"], node["held"]) == ("n1", "joined", True, True)
    assert node["version"] == node["desired"] == applied["version"]
    assert node["resources"] == node["resources_held"] > 0
    (ready,) = (await world.ask("ready"))["nodes"]
    assert (ready["node"], ready["arrived"], ready["resources"]) == ("n1", "held", node["resources"])


async def test_each_apply_is_logged_once(world: World) -> None:
    node = world.node()
    await apply(world)
    node.refuses["orders"] = "bad route"
    await apply(world, SHOP_RULES.replace(", POST /orders", ""))
    await apply(world, "allow: nonsense\n")
    assert [(line["event"], line["outcome"], line["author"]) for line in world.logged] == [
        ("applied", "held", "ada"),
        ("applied", "rejected", "ada"),
        ("applied", "invalid", "ada"),
    ]
    assert world.logged[1]["not_held"] == {"n1": "RouteConfiguration orders: bad route"}
    assert world.logged[2]["diagnostics"] == 1
    json.dumps(world.logged)


async def test_diagnostics_cross_the_socket(world: World) -> None:
    (found,) = (await apply(world, "allow: nonsense\n"))["diagnostics"]
    assert (found["code"], found["span"]["file"], found["span"]["line"]) == ("SEP204", "policy/rules.yaml", 1)


async def test_bytes_that_are_no_text_cross_the_socket(world: World) -> None:
    (found,) = (await apply(world, b"\xff".decode("utf-8", "surrogateescape")))["diagnostics"]
    assert found["code"] == "SEP106"


async def test_a_file_that_could_not_be_read_refuses_the_whole(world: World) -> None:
    applied = await apply(world, unreadable={"policy/other.yaml": "Permission denied"})
    assert applied["outcome"] == "invalid"
    (found,) = applied["diagnostics"]
    assert (found["code"], found["span"]["file"]) == ("SEP109", "policy/other.yaml")
    assert "Permission denied" in found["message"]


async def test_it_waits_as_long_as_it_is_told(world: World) -> None:
    assert (await apply(world, patience=0.01))["outcome"] == "sent"
    (ready,) = (await world.ask("ready", patience=0.01))["nodes"]
    assert (ready["arrived"], ready["why"]) == ("missing", "not connected")


async def test_what_is_said_of_a_change_is_kept_with_it(world: World) -> None:
    world.node()
    await apply(world, message="why", commit="c0ffee-dirty")
    stored = world.plane.stored
    assert stored is not None
    assert (stored.number, stored.author, stored.message, stored.commit) == (1, "ada", "why", "c0ffee-dirty")
    assert world.state.enforced() == stored


async def test_half_a_character_can_be_stored(world: World) -> None:
    world.node()
    assert (await apply(world, author="\udcff", message="\ud83d"))["outcome"] == "held"
    stored = world.state.enforced()
    assert stored is not None
    assert (stored.author, stored.message) == ("?", "?")


class TestBase:
    """A change that was looked at against one version is not made to another."""

    async def test_what_has_moved_is_said_and_nothing_changes(self, world: World) -> None:
        world.node()
        first = await apply(world, base="")
        assert first["outcome"] == "held"
        moved = await apply(world, NARROWER, base="")
        assert (moved["outcome"], moved["previous"], moved["version"]) == ("moved", first["version"], "")
        assert world.version() == world.enforced() == first["version"]
        assert (await apply(world, NARROWER, base=first["version"]))["outcome"] == "held"

    async def test_of_two_that_were_made_against_the_same_one_is_applied(self, world: World) -> None:
        world.node()
        base = (await apply(world))["version"]
        both = await asyncio.gather(apply(world, NARROWER, base=base), apply(world, WIDER, base=base))
        assert sorted(one["outcome"] for one in both) == ["held", "moved"]
        held, moved = sorted(both, key=lambda one: str(one["outcome"]))
        assert moved["previous"] == world.version() == world.enforced() == held["version"]

    async def test_a_quarantine_moves_it_too(self, world: World) -> None:
        world.node()
        base = (await apply(world))["version"]
        await world.ask("quarantine", workload="orders", author="eve")
        assert (await apply(world, NARROWER, base=base))["outcome"] == "moved"

    async def test_errors_of_the_files_come_after_that(self, world: World) -> None:
        world.node()
        await apply(world)
        assert (await apply(world, "allow: nonsense\n", base="another"))["outcome"] == "moved"


class TestRollback:
    async def test_one_step_back_and_one_more(self, world: World) -> None:
        world.node()
        made = [(await apply(world, rules))["version"] for rules in (SHOP_RULES, NARROWER, WIDER)]
        back = await world.ask("rollback", author="bob", message="no")
        assert (back["outcome"], back["version"], back["previous"], back["restored"]) == ("held", made[1], made[2], 2)
        assert (await world.ask("rollback", author="bob"))["version"] == made[0]
        assert world.version() == world.enforced() == made[0]
        none = await world.ask("rollback", author="bob")
        assert none == {"error": "there is no earlier version to go back to: `septum history`"}

    async def test_to_a_version_by_name(self, world: World) -> None:
        world.node()
        made = [(await apply(world, rules))["version"] for rules in (SHOP_RULES, NARROWER, WIDER)]
        assert (await world.ask("rollback", author="bob", version=made[0][:12]))["version"] == made[0]
        assert (await world.ask("rollback", author="bob", version="3"))["version"] == made[2]
        assert (await world.ask("rollback", author="bob", version="3"))["outcome"] == "unchanged"
        unknown = await world.ask("rollback", author="bob", version="99")
        assert unknown == {"error": "no version is called `99`: `septum history` lists them"}

    async def test_who_is_in_quarantine_stays_there(self, world: World) -> None:
        world.node()
        await apply(world)
        await apply(world, NARROWER)
        await world.ask("quarantine", workload="ledger", author="eve")
        await world.ask("rollback", author="bob")
        status = await world.ask("status")
        assert (status["quarantined"], world.plane.stored and world.plane.stored.restores) == (["ledger"], 1)
        await world.ask("quarantine", workload="ledger", author="eve", release=True)
        assert world.version() == (await apply(world))["version"]

    async def test_what_nodes_refused_is_in_the_history_and_nobody_goes_back_to_it(self, world: World) -> None:
        node = world.node()
        first = await apply(world)
        node.refuses["orders"] = "bad route"
        assert (await apply(world, NARROWER, message="less"))["outcome"] == "rejected"
        node.refuses.clear()
        assert world.version() == world.enforced() == first["version"]
        refused, enforced = Versions(world.state.rows).history()
        assert (refused.ended, refused.why) == (Ended.REFUSED, "n1: RouteConfiguration orders: bad route")
        assert (refused.version.message, enforced.ended) == ("less", Ended.ENFORCED)
        said = await world.ask("rollback", author="bob", version="2")
        assert "version 2 was refused" in said["error"]
        again = World(world.path.parent)
        assert again.plane.restore(), "it is signed as refused"
        assert again.version() == first["version"]
        again.state.close()

    async def test_a_refresh_that_is_refused_makes_no_history(self, world: World) -> None:
        node = world.node()
        await apply(world)
        node.refuses["orders"] = "bad route"
        assert (await world.ask("quarantine", workload="orders", author="eve"))["applied"]["outcome"] == "rejected"
        assert len(Versions(world.state.rows).history()) == 1


async def test_a_policy_that_breaks_its_guarantees_is_not_applied(world: World) -> None:
    node = world.node()
    first = await apply(world)
    seen = len(node.received)
    broken = SHOP_RULES + "guarantees: [{name: g, never: {from: storefront, to: orders}}]\n"
    applied = await apply(world, broken)
    assert (applied["outcome"], applied["previous"]) == ("invalid", first["version"])
    (found,) = applied["diagnostics"]
    assert (found["code"], found["severity"]) == ("SEP501", "error")
    assert node.received[seen:] == []
    assert world.version() == world.enforced() == first["version"]


async def test_a_guarantee_that_is_overridden_is_said_and_applied(world: World) -> None:
    world.node()
    override = "override: {name: until it is mended, because: it is, until: 2027-01-16T00:00:00Z}"
    applied = await apply(
        world, SHOP_RULES + f"guarantees: [{{name: g, never: {{from: storefront, to: orders}}, {override}}}]\n"
    )
    assert applied["outcome"] == "held"
    assert [found["code"] for found in applied["diagnostics"]] == ["SEP502"]


async def test_a_quarantine_breaks_no_guarantee_of_the_files(world: World) -> None:
    """What must always pass does not, while one of the two is in quarantine: that is not the files' fault."""
    world.node()
    always = "guarantees: [{name: g, always: {from: orders, to: ledger}}]\n"
    await apply(world, SHOP_RULES + always)
    await world.ask("quarantine", workload="ledger", author="eve")
    assert (await apply(world, NARROWER + always))["outcome"] == "held"
