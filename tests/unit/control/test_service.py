"""What the control socket answers, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.envoy_node import FakeNode
from meshes import SHOP, SHOP_RULES
from septum.control.plane import Plane
from septum.control.service import Service
from septum.control.state import State
from septum.model.mesh import Address
from septum.xds.fleet import Fleet

pytestmark = pytest.mark.anyio


class World:
    """A service with all that is behind it, and the lines that it logged."""

    def __init__(self, directory: Path) -> None:
        self.state = State(directory / "state.db")
        self.fleet = Fleet(lambda: 0.0, lambda _: None)
        picked = {name: Address("127.0.0.1", 19000 + n) for n, name in enumerate(("storefront", "orders", "payments"))}
        picked["ledger"] = Address("127.0.0.1", 19100)
        plane = Plane("n1", "decisions.jsonl", self.state, self.fleet, lambda *_: picked, lambda: 1000.0)
        self.logged: list[dict[str, Any]] = []
        log = lambda event, **fields: self.logged.append({"event": event, **fields})  # noqa: E731
        self._handlers = Service(plane, self.state, self.fleet, lambda: {"ingested": 3}, log).handlers()

    async def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """One request, over JSON as on the socket."""
        answer = await self._handlers[op](json.loads(json.dumps({"op": op, **request})))
        return json.loads(json.dumps(answer))

    async def apply(self, rules: str = SHOP_RULES, **request: Any) -> dict[str, Any]:
        files = {"septum.yaml": SHOP, "policy/rules.yaml": rules}
        return await self.ask("apply", **{"files": files, "author": "ada"} | request)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.state.close()


async def test_before_anything_was_applied(world: World) -> None:
    status = await world.ask("status")
    assert (status["mesh"], status["version"], status["applied"], status["workloads"]) == ("", "", None, [])
    assert [(node["node"], node["connected"]) for node in status["nodes"]] == [("n1", False)]


async def test_apply_and_status(world: World) -> None:
    FakeNode(world.fleet, "n1")
    applied = await world.apply()
    assert (applied["outcome"], applied["previous"]) == ("held", "")
    status = await world.ask("status")
    assert (status["version"], status["applied"], status["author"]) == (applied["version"], 1000.0, "ada")
    assert (status["mesh"], status["rules"], status["records"]) == ("shop", 3, {"ingested": 3})
    assert status["workloads"][1] == {
        "name": "orders",
        "segment": "core",
        "protocol": "http",
        "at": "127.0.0.1:9102",
        "mode": "observe",
        "outbound": "127.0.0.1:19001",
        "dials": {},
    }
    ready = await world.ask("ready")
    assert ready["held_version"] == ready["desired_version"] is not None


async def test_each_apply_is_logged_once(world: World) -> None:
    node = FakeNode(world.fleet, "n1")
    await world.apply()
    node.refuses["orders"] = "bad route"
    await world.apply(SHOP_RULES.replace(", POST /orders", ""))
    await world.apply("allow: nonsense\n")
    assert [(line["event"], line["outcome"], line["author"]) for line in world.logged] == [
        ("applied", "held", "ada"),
        ("applied", "rejected", "ada"),
        ("applied", "invalid", "ada"),
    ]
    assert world.logged[1]["refusals"] == ["bad route"]
    assert world.logged[2]["diagnostics"] == 1
    json.dumps(world.logged)


async def test_diagnostics_cross_the_socket(world: World) -> None:
    (found,) = (await world.apply("allow: nonsense\n"))["diagnostics"]
    assert (found["code"], found["span"]["file"], found["span"]["line"]) == ("SEP204", "policy/rules.yaml", 1)


async def test_bytes_that_are_no_text_cross_the_socket(world: World) -> None:
    (found,) = (await world.apply(b"\xff".decode("utf-8", "surrogateescape")))["diagnostics"]
    assert found["code"] == "SEP106"


async def test_a_file_that_could_not_be_read_refuses_the_whole(world: World) -> None:
    applied = await world.apply(unreadable={"policy/other.yaml": "Permission denied"})
    assert applied["outcome"] == "invalid"
    (found,) = applied["diagnostics"]
    assert (found["code"], found["span"]["file"]) == ("SEP109", "policy/other.yaml")
    assert "Permission denied" in found["message"]


async def test_it_waits_as_long_as_it_is_told(world: World) -> None:
    assert (await world.apply(patience=0.01))["outcome"] == "sent"
    assert (await world.ask("ready", patience=0.01))["held_version"] is None
