"""What the control socket answers, as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from control_world import NOW, World

from meshes import SHOP, SHOP_RULES

pytestmark = pytest.mark.anyio


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
