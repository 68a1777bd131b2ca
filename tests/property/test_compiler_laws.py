"""Laws of the compiler: it means what `decide` means, it is deterministic, and nothing it makes is open by omission."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from septum.envoy.compile import ROUTE, Compiler, Node
from septum.model.decision import Decision, Request
from septum.model.mesh import Address, Mesh, Mode, Protocol, Segment, Workload
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.snapshot import Snapshot
from septum.policy.decide import decide
from strategies import policies, requests
from tree import outcome, policy_of


def _compiled(policy: Policy, compiler: Compiler | None = None) -> Snapshot:
    outbound = {name: Address("127.0.0.1", 19000 + at) for at, name in enumerate(policy.mesh.workloads)}
    return (compiler or Compiler()).compile(policy, Node("n", outbound, "decisions.jsonl"))


def _by_tree(snapshot: Snapshot, policy: Policy, request: Request, query: str = "") -> tuple[bool, str] | None:
    """What the compiled tree says, or None where Envoy answers before it is asked."""
    target = policy.mesh.workloads.get(request.target)
    operation = request.operation
    if target is None or request.caller not in policy.mesh.workloads:
        return None
    inputs = {"septum.caller": str(policy.mesh.spiffe(request.caller))}
    match operation:
        case HttpOperation(method, path, websocket):
            if target.protocol is Protocol.TCP or (websocket and not target.websocket):
                return None
            inputs |= {"method": method, "path": path + query} | ({"upgrade": "websocket"} if websocket else {})
        case GrpcOperation(service, method):
            if target.protocol is Protocol.TCP:
                return None
            inputs |= {"method": "POST", "path": f"/{service}/{method}{query}"}
        case ConnectOperation():
            if target.protocol is not Protocol.TCP:
                return None
        case _:
            return None
    rbac = policy_of(snapshot.of(ROUTE)[target.name].body)
    enforced = policy.mesh.mode(target) is Mode.ENFORCE
    return outcome(rbac.matcher if enforced else rbac.shadow_matcher, inputs)


def _same(decision: Decision, tree: tuple[bool, str]) -> bool:
    named = decision.rule.id if decision.rule else None
    return tree[0] == decision.allowed and (named is None or named == tree[1])


@given(st.data())
def test_the_tree_means_what_decide_means(data: st.DataObject) -> None:
    policy = data.draw(policies())
    snapshot = _compiled(policy)
    for _ in range(8):
        request = data.draw(requests(policy))
        query = data.draw(st.sampled_from(("", "?", "?a=/b;c", "?/x")))
        tree = _by_tree(snapshot, policy, request, query)
        assert tree is None or _same(decide(policy, request), tree), (request, tree)


def test_the_tree_means_what_decide_means_with_thousands_of_rules() -> None:
    choose = random.Random(7)
    words = [f"w{number}" for number in range(40)]
    at = {name: Workload(name, "all", Address("127.0.0.1", 1 + n), Protocol.HTTP) for n, name in enumerate(words)}
    mesh = Mesh("m", "m.test", {"all": Segment("all")}, at, frozenset({"all"}))

    def pattern() -> str:
        segments = [choose.choice((*words[:12], "{id}")) for _ in range(choose.randint(2, 4))]
        tail = "/**" if choose.random() < 0.03 else ""
        return f"{choose.choice(('GET', 'POST', 'GET,HEAD', '*'))} /{'/'.join(segments)}{tail}"

    rules = tuple(
        Rule(f"r{n}", tuple(choose.sample(words, 3)), ("w0",), tuple(HttpPattern.parse(pattern()) for _ in range(3)))
        for n in range(3000)
    )
    policy = Policy(mesh, rules, "v")
    snapshot = _compiled(policy)
    allowed = 0
    for _ in range(1500):
        path = "/" + "/".join(choose.choice((*words[:12], "x")) for _ in range(choose.randint(1, 5)))
        request = Request(choose.choice(words), "w0", HttpOperation(choose.choice(("GET", "PUT", "HEAD")), path))
        decision = decide(policy, request)
        tree = _by_tree(snapshot, policy, request)
        assert tree is not None
        assert _same(decision, tree), (request, decision, tree)
        allowed += decision.allowed
    assert 100 < allowed < 1400  # otherwise the comparison says little


@given(policies())
def test_compiling_is_deterministic(policy: Policy) -> None:
    assert _compiled(policy) == _compiled(policy)


@given(st.lists(policies(), min_size=2, max_size=4))
@settings(max_examples=25)
def test_a_compiler_with_a_past_makes_what_a_fresh_one_makes(past: list[Policy]) -> None:
    compiler = Compiler()
    for policy in past:
        assert _compiled(policy, compiler) == _compiled(policy)


@given(policies())
def test_an_empty_policy_allows_nothing(policy: Policy) -> None:
    empty = Policy(policy.mesh, (), "v")
    snapshot = _compiled(empty)
    for target in policy.mesh.workloads.values():
        rbac = policy_of(snapshot.of(ROUTE)[target.name].body)
        tree = rbac.matcher if policy.mesh.mode(target) is Mode.ENFORCE else rbac.shadow_matcher
        for caller in policy.mesh.workloads:
            inputs = {"septum.caller": str(policy.mesh.spiffe(caller)), "method": "GET", "path": "/"}
            assert not outcome(tree, inputs)[0]
