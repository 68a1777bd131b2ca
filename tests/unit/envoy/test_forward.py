"""The way to a target on another node: who is let through on the caller's own node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute

from septum.envoy import names
from septum.envoy.forward import Way, forward_routes
from septum.model.mesh import Address, Mesh, Node, Protocol, Segment, Workload

NODES = {name: Node(name, Address(f"10.0.0.{at}", 7443)) for at, name in enumerate(("alpha", "beta"), start=11)}
WORKLOADS = {
    name: Workload(name, "core", Address("127.0.0.1", port), Protocol.HTTP, node=node)
    for name, port, node in (("web", 9101, "alpha"), ("shop", 9102, "alpha"), ("api", 9101, "beta"))
}
MESH = Mesh("lab", "lab.test", {"core": Segment("core")}, WORKLOADS, frozenset({"core"}), NODES)
WAYS = (Way("web", True), Way("shop", True))


def ends(quarantined: Iterable[str]) -> dict[str, str]:
    """For each caller with a way, and for anybody else, the name of the action at its end."""
    made = forward_routes(MESH, WORKLOADS["api"], WAYS, frozenset(quarantined))
    (onward,) = [
        route for route in made.virtual_hosts[0].routes if route.route.HasField("inline_cluster_specifier_plugin")
    ]
    matcher = next(filter(None, map(_deciding, onward.typed_per_filter_config.values())))
    branches = {id.rpartition("/")[2]: on for id, on in matcher.matcher_tree.exact_match_map.map.items()}
    return {name: _name(on) for name, on in (*branches.items(), ("anybody else", matcher.on_no_match))}


def _deciding(config: Any) -> Any:
    decided = RBACPerRoute()
    return decided.rbac.matcher if config.Unpack(decided) else None


def _name(on: Any) -> str:
    action = Action.FromString(on.action.typed_config.value)
    assert (action.action == RbacPolicy.ALLOW) == (action.name == names.FORWARD)
    return str(action.name)


def test_whoever_has_a_way_goes_on_and_nobody_else() -> None:
    assert ends(()) == {"web": names.FORWARD, "shop": names.FORWARD, "anybody else": names.DENY}


@pytest.mark.parametrize(
    ("quarantined", "web", "shop"),
    [
        ({"web"}, names.QUARANTINE, names.FORWARD),
        ({"api"}, names.QUARANTINE, names.QUARANTINE),
        ({"api", "shop"}, names.QUARANTINE, names.QUARANTINE),
    ],
    ids=str,
)
def test_who_is_quarantined_ends_on_its_own_node(quarantined: set[str], web: str, shop: str) -> None:
    assert ends(quarantined) == {"web": web, "shop": shop, "anybody else": names.DENY}
