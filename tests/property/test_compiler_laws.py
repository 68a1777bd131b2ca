"""Laws of the compiler: it means what `decide` means, it is deterministic, and nothing it makes is open by omission."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from septum.envoy import names
from septum.envoy.compile import Compiler, Front, Shelf
from septum.envoy.pieces import Pair
from septum.envoy.reach import Survey
from septum.model.decision import Decision, Request
from septum.model.mesh import Address, Mesh, Mode, Protocol, Segment, Workload
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.resource_types import ROUTE
from septum.model.snapshot import MANIFEST, Snapshot, whole
from septum.policy.decide import decide
from septum.policy.quarantine import quarantined
from strategies import changed, policies, quarantines, requests, wide_meshes
from tree import forwarding_of, outcome, policy_of

NO_CUTS: Mapping[Pair, str] = MappingProxyType({})


def _compiled(policy: Policy, compiler: Compiler | None = None) -> Snapshot:
    outbound = {name: Address("127.0.0.1", 19000 + at) for at, name in enumerate(policy.mesh.workloads)}
    return (compiler or Compiler()).compile(
        policy, Front("n", tuple(policy.mesh.workloads), outbound, "decisions.jsonl")
    )


def _by_tree(snapshot: Snapshot, policy: Policy, request: Request, query: str = "") -> tuple[bool, str] | None:
    """What the compiled tree says, or None where Envoy answers before it is asked."""
    inputs = _inputs(policy, request, query)
    if inputs is None:
        return None
    passes, named = outcome(policy_of(snapshot.of(ROUTE)[request.target].body).matcher, inputs)
    return passes and named != names.OBSERVE, named  # what passes by this name is denied, where it is enforced


def _inputs(policy: Policy, request: Request, query: str = "") -> dict[str, str] | None:
    """What the tree is asked about, or None where Envoy answers before that."""
    target = policy.mesh.workloads.get(request.target)
    operation = request.operation
    if target is None or request.caller not in policy.mesh.workloads:
        return None
    inputs = {"septum.caller": str(policy.mesh.spiffe(request.caller))}
    if request.time is not None:
        inputs["request"] = repr(request.time)
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
            inputs["method"] = "CONNECT"
        case _:
            return None
    return inputs


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


@given(st.data())
def test_the_tree_means_what_decide_means_at_every_time(data: st.DataObject) -> None:
    policy = data.draw(policies(replace(data.draw(wide_meshes()), nodes={}, issuers={}, external={})))
    snapshot = _compiled(policy)
    for _ in range(8):
        request = data.draw(requests(policy))
        tree = _by_tree(snapshot, policy, request)
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
        for n in range(2000)
    )
    policy = Policy(mesh, rules, "v")
    snapshot = _compiled(policy)
    allowed = 0
    for _ in range(500):
        path = "/" + "/".join(choose.choice((*words[:12], "x")) for _ in range(choose.randint(1, 5)))
        request = Request(choose.choice(words), "w0", HttpOperation(choose.choice(("GET", "PUT", "HEAD")), path))
        decision = decide(policy, request)
        tree = _by_tree(snapshot, policy, request)
        assert tree is not None
        assert _same(decision, tree), (request, decision, tree)
        allowed += decision.allowed
    assert 30 < allowed < 470  # otherwise the comparison says little


@given(policies())
def test_compiling_is_deterministic(policy: Policy) -> None:
    assert _compiled(policy) == _compiled(policy)


@given(st.lists(policies(), min_size=2, max_size=4))
@settings(max_examples=25)
def test_a_compiler_with_a_past_makes_what_a_fresh_one_makes(past: list[Policy]) -> None:
    compiler = Compiler()
    for policy in past:
        assert _compiled(policy, compiler) == _compiled(policy)


def _fronts(policy: Policy, cuts: Mapping[Pair, str] = NO_CUTS) -> dict[str, Front]:
    """What the compiler is told of every node of a mesh; without nodes there is one that fronts everything."""
    mesh = policy.mesh
    outbound = {name: Address("127.0.0.1", 19000 + at) for at, name in enumerate(mesh.workloads)}
    return {node: Front(node, mesh.on(node), outbound, "decisions.jsonl", cuts) for node in mesh.nodes or ("n",)}


def _cuts(policy: Policy) -> st.SearchStrategy[dict[Pair, str]]:
    names = st.sampled_from(sorted(policy.mesh.targets))
    return st.dictionaries(st.tuples(names, names), st.sampled_from(("", "1", "2")), max_size=2)


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[Policy, dict[Pair, str]]]:
    """Policies of one mesh, and of what became of it, each with its cuts."""
    policy = draw(policies(draw(wide_meshes())))
    past = []
    for _ in range(4):
        shut = quarantined(policy, draw(quarantines(policy.mesh)))
        past.append((shut, draw(_cuts(shut))))
        policy = draw(st.one_of(st.just(policy), changed(policy), policies(policy.mesh)))
    return past


@given(_histories())
def test_on_every_node_a_past_makes_no_difference_and_what_is_not_touched_stays(
    history: list[tuple[Policy, dict[Pair, str]]],
) -> None:
    survey, shelf = Survey(), Shelf()
    compilers: dict[str, Compiler] = {}
    before: dict[str, Snapshot] = {}
    for policy, cuts in history:
        for node, front in _fronts(policy, cuts).items():
            snapshot = compilers.setdefault(node, Compiler(survey, shelf)).compile(policy, front)
            assert snapshot == Compiler().compile(policy, front)
            if node in before:
                assert (snapshot is before[node]) == (snapshot.version == before[node].version)
                assert (snapshot is before[node]) == (snapshot.resources == before[node].resources)
            before[node] = snapshot


@given(_histories())
def test_a_manifest_says_what_the_snapshot_is(history: list[tuple[Policy, dict[Pair, str]]]) -> None:
    policy, cuts = history[-1]
    for node, front in _fronts(policy, cuts).items():
        snapshot = Compiler().compile(policy, front)
        (manifest,) = snapshot.of(MANIFEST).values()
        assert json.loads(manifest.body) == {
            "node": node,
            "trust_domain": policy.mesh.trust_domain if policy.mesh.nodes else "",
            "whole": whole({kind: made.values() for kind, made in snapshot.resources.items()}),
            "workloads": sorted(front.workloads),
        }


@given(st.data())
def test_two_nodes_together_mean_what_decide_means(data: st.DataObject) -> None:
    """A call is allowed when the caller's node forwards it and the target's node allows it."""
    mesh = replace(data.draw(wide_meshes()), issuers={}, external=None)
    plain = data.draw(policies(mesh))
    policy = quarantined(plain, data.draw(quarantines(mesh)))
    made = {node: Compiler().compile(policy, front) for node, front in _fronts(policy).items()}
    for _ in range(8):
        request = data.draw(requests(policy))
        if not {request.caller, request.target} <= mesh.workloads.keys():
            continue
        inputs = _inputs(policy, request)
        if inputs is None:
            continue
        here, there = mesh.workloads[request.caller].node or "n", mesh.workloads[request.target].node or "n"
        arrives = here == there or _forwarded(made[here], policy, request)
        passes = outcome(policy_of(made[there].of(ROUTE)[request.target].body).matcher, inputs)[0]
        assert (arrives and passes) == _passes(policy, request), request


def _forwarded(snapshot: Snapshot, policy: Policy, request: Request) -> bool:
    """Whether the caller's node sends a call on."""
    resource = snapshot.of(ROUTE).get(request.target)
    if resource is None:
        return False
    (rbac,) = forwarding_of(resource.body)
    return outcome(rbac.matcher, {"septum.caller": str(policy.mesh.spiffe(request.caller))}) == (True, names.FORWARD)


def _passes(policy: Policy, request: Request) -> bool:
    """Whether a call gets through: also what is only observed, unless somebody is quarantined."""
    if {request.caller, request.target} & policy.quarantined:
        return False
    observed = policy.mesh.mode(policy.mesh.workloads[request.target]) is Mode.OBSERVE
    return observed or decide(policy, request).allowed


@given(policies())
def test_an_empty_policy_allows_nothing(policy: Policy) -> None:
    empty = Policy(policy.mesh, (), "v")
    snapshot = _compiled(empty)
    for target in policy.mesh.workloads.values():
        rbac = policy_of(snapshot.of(ROUTE)[target.name].body)
        observed = policy.mesh.mode(target) is Mode.OBSERVE
        for caller in policy.mesh.workloads:
            inputs = {"septum.caller": str(policy.mesh.spiffe(caller)), "method": "GET", "path": "/"}
            passes, named = outcome(rbac.matcher, inputs)
            assert (passes, named == names.OBSERVE) == (observed, observed)
