"""What each node fronts: what the mesh puts there, as far as its token goes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from control_world import BY_NODE, HOSTS, HOSTS_RULES, pick

from meshes import SHOP, SHOP_RULES, policy
from septum.control.fronts import Fronts
from septum.control.registry import Member, Pair, Standing
from septum.envoy.secret import Trusted
from septum.model.snapshot import Snapshot
from septum.xds.types import LISTENER

POLICY = policy(HOSTS_RULES, HOSTS)


class World:
    """Fronts with members that a test sets."""

    def __init__(self, local: str = "") -> None:
        self.members: dict[str, Member] = {}
        self.fronts = Fronts(local, lambda: self.members, lambda _: Trusted("shop.test", b"roots", b""))

    def join(self, name: str, *workloads: str, standing: Standing = Standing.JOINED) -> None:
        self.members[name] = Member(name, frozenset(workloads), 0.0, standing)

    def snapshots(self, cuts: Mapping[Pair, str] | None = None) -> dict[str, Snapshot]:
        return self.fronts.snapshots(POLICY, pick(POLICY.mesh, {}), cuts or {})


@pytest.fixture
def world() -> World:
    return World()


def served(snapshot: Snapshot) -> set[str]:
    return {name.removeprefix("outbound/") for name in snapshot.of(LISTENER) if name.startswith("outbound/")}


def test_every_node_of_the_mesh_has_a_snapshot_before_it_joins(world: World) -> None:
    assert {node: served(snapshot) for node, snapshot in world.snapshots().items()} == BY_NODE


def test_a_token_narrows_what_a_node_fronts_and_never_widens_it(world: World) -> None:
    world.join("app", "orders", "ledger", "nobody")
    assert world.fronts.fronted(POLICY.mesh, "app") == {"orders"}
    assert served(world.snapshots()["app"]) == {"orders"}
    assert served(world.snapshots()["db"]) == {"ledger"}


def test_a_token_for_nothing_fronts_nothing(world: World) -> None:
    world.join("app")
    assert world.fronts.fronted(POLICY.mesh, "app") == frozenset()
    assert served(world.snapshots()["app"]) == set()


def test_a_removed_node_gets_nothing_more_and_a_draining_one_goes_on(world: World) -> None:
    world.join("app", "orders", "payments", standing=Standing.REMOVED)
    world.join("db", "ledger", standing=Standing.DRAINING)
    assert world.snapshots().keys() == {"web", "db"}
    assert served(world.snapshots()["db"]) == {"ledger"}


def test_the_node_of_this_machine_fronts_what_the_mesh_puts_there() -> None:
    world = World(local="app")
    world.join("app", "orders", standing=Standing.REMOVED)  # as it was when it was another host's
    assert world.fronts.fronted(POLICY.mesh, "app") == {"orders", "payments"}
    assert served(world.snapshots()["app"]) == BY_NODE["app"]


def test_without_nodes_one_node_fronts_everything() -> None:
    found, fronts = policy(SHOP_RULES, SHOP), Fronts("here", dict, lambda _: None)
    (snapshot,) = fronts.snapshots(found, pick(found.mesh, {}), {}).values()
    assert served(snapshot) == set(found.mesh.workloads)
    assert Fronts("", dict, lambda _: None).snapshots(found, pick(found.mesh, {}), {}) == {}


def test_what_did_not_change_is_the_same_snapshot(world: World) -> None:
    first, again = world.snapshots(), world.snapshots()
    assert all(again[node] is snapshot for node, snapshot in first.items())


def test_a_cut_concerns_the_nodes_of_its_pair_alone(world: World) -> None:
    first, cut = world.snapshots(), world.snapshots({("orders", "ledger"): "1"})
    assert {node for node, snapshot in cut.items() if snapshot != first[node]} == {"db"}


def test_a_node_that_comes_back_is_compiled_as_before(world: World) -> None:
    first = world.snapshots()
    world.join("app", *BY_NODE["app"], standing=Standing.REMOVED)
    assert "app" not in world.snapshots()
    world.join("app", *BY_NODE["app"])
    assert world.snapshots()["app"] == first["app"]
