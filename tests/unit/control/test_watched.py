"""The control plane as telemetry sees it."""

from __future__ import annotations

import pytest
from control_world import NOW, World, files

from septum import __version__
from septum.control.registry import Quarantined
from septum.rpc.messages import Certificate
from septum.telemetry.control import NodeState, NodeView

pytestmark = pytest.mark.anyio


async def test_before_anything_was_enforced(hosts: World) -> None:
    view = hosts.watched.view()
    assert (view.septum, view.mesh, view.version, view.nodes, view.applies) == (__version__, "", "", [], {})
    assert (view.applied, view.certificates, view.quarantined) == (None, {}, 0)


async def test_nodes_by_how_they_stand(hosts: World) -> None:
    agents = await hosts.spread()
    agents["web"].leave()
    hosts.node("web").refuses["outbound/storefront"] = "cannot bind"
    agents["db"].leave()
    await hosts.join("app")
    await hosts.report("app", certificates=(Certificate("x", NOW + 5),))
    await hosts.apply_hosts("allow: []\n", patience=0.05)
    assert hosts.watched.view().nodes == [
        NodeView("app", True, NodeState.HELD, NOW, NOW + 5),
        NodeView("db", False, NodeState.MISSING),
        NodeView("web", True, NodeState.REFUSED),
    ]


async def test_a_removed_node_is_nobody_s_concern_any_more(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("db")
    await hosts.ask("remove", node="db")
    assert {node.name for node in hosts.watched.view().nodes} == {"web", "app"}


async def test_applies_are_counted_by_what_came_of_them(world: World) -> None:
    world.node()
    texts = {path: str(text, "utf-8") for path, text in files().items() if isinstance(text, bytes)}
    for _ in range(2):
        await world.ask("apply", files=texts, author="ada")
    await world.ask("apply", files=texts | {"policy/rules.yaml": "allow: nonsense\n"}, author="ada")
    view = world.watched.view()
    assert view.applies == {"held": 1, "unchanged": 1, "invalid": 1}
    assert view.apply_seconds.counts[-1] == 1, "what changed nothing took no time"
    assert (view.mesh, view.version, view.applied) == ("shop", world.version(), NOW)


async def test_quarantine_records_and_certificates(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("app")
    hosts.registry.quarantine(Quarantined("orders", None, NOW, "ada"))
    await hosts.plane.refresh("ada")
    hosts.stored = {"app": {"ingested": 3, "lost": 1, "unreadable": 2}, "db": {"ingested": 4}}
    hosts.watched.port_ends = lambda: NOW + 7
    view = hosts.watched.view()
    assert (view.quarantined, view.issued) == (1, {"node": 1})
    assert (view.records_stored, view.records_lost, view.records_unreadable) == (7, 1, 2)
    assert view.certificates["control"] == NOW + 7
    assert view.certificates.keys() == {"control", "root", "intermediate"}


async def test_a_state_that_cannot_be_read_leaves_a_gap_and_breaks_nothing(hosts: World) -> None:
    await hosts.spread()
    hosts.state.write(("ALTER TABLE version RENAME TO away", ()))
    assert hosts.watched.view().applied is None
