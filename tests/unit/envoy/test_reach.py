"""What of a change reaches which node: nothing that a node holds is older than the policy."""

from __future__ import annotations

import pytest

from septum.envoy import names
from septum.envoy.compile import Compiler, Front
from septum.envoy.reach import Survey, touched
from septum.model.mesh import Address, Mesh, Node, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.resource_types import ROUTE
from septum.model.snapshot import Snapshot
from septum.policy.quarantine import quarantined

NODES = {
    name: Node(name, Address(f"10.0.0.{at}", 7443)) for at, name in enumerate(("alpha", "beta", "gamma"), start=11)
}
WORKLOADS = {
    name: Workload(name, "core", Address("127.0.0.1", 9101), Protocol.HTTP, node=node)
    for name, node in (("web", "alpha"), ("api", "beta"), ("other", "gamma"))
}
MESH = Mesh("lab", "lab.test", {"core": Segment("core")}, WORKLOADS, frozenset({"core"}), NODES)
POLICY = Policy(MESH, (Rule("r", ("web",), ("api",), (HttpPattern.parse("GET /a"),)),), "v")


def front(node: str) -> Front:
    outbound = {name: Address("127.0.0.1", 9201) for name in MESH.on(node)}
    return Front(node, MESH.on(node), outbound, "decisions.jsonl")


def held(policy: Policy, node: str) -> Snapshot:
    return Compiler().compile(policy, front(node))


@pytest.mark.parametrize("shut", ["web", "api"])
def test_quarantine_is_news_for_the_nodes_of_caller_and_target_and_for_no_other(shut: str) -> None:
    closed = quarantined(POLICY, [shut])
    for old, new in ((POLICY, closed), (closed, POLICY)):
        assert touched(old, new) == {"web", "api"}


@pytest.mark.parametrize("shut", ["web", "api"])
def test_a_compiler_that_held_the_policy_before_quarantine_denies_in_it_on_both_nodes(shut: str) -> None:
    survey, closed = Survey(), quarantined(POLICY, [shut])
    compilers = {node: Compiler(survey) for node in NODES}
    for policy in (POLICY, closed, POLICY):
        for node, compiler in compilers.items():
            assert compiler.compile(policy, front(node)) == held(policy, node)
    for node in ("alpha", "beta"):
        assert names.QUARANTINE.encode() in held(closed, node).of(ROUTE)["api"].body
