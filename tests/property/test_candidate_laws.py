"""Laws of a candidate: it means what `decide` means, nothing of what is enforced changes, and no more than need be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.envoy import jwt, names
from septum.envoy.compile import Compiler, Front, Shelf
from septum.envoy.reach import Survey
from septum.envoy.shadow import Candidate
from septum.model.decision import Request
from septum.model.mesh import Address, Mesh, Mode, Protocol
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation
from septum.model.policy import Policy
from septum.model.resource_types import ROUTE, SCOPE
from septum.model.snapshot import MANIFEST, Snapshot
from septum.policy.decide import decide
from septum.policy.quarantine import quarantined
from strategies import changed, meshes, policies, quarantines, requests, wide_meshes
from tree import outcome


@st.composite
def _other_meshes(draw: st.DrawFn, mesh: Mesh) -> Mesh:
    """The mesh as somebody proposes it: some workloads gone, some with other flags."""
    gone = draw(st.sets(st.sampled_from(sorted(mesh.workloads)), max_size=len(mesh.workloads) - 1))
    own = {name: workload for name, workload in mesh.workloads.items() if name not in gone}
    for name in draw(st.sets(st.sampled_from(sorted(own)))):
        flags = draw(
            st.fixed_dictionaries(
                {
                    "websocket": st.booleans(),
                    "path_parameters": st.booleans(),
                    "ignore_case": st.booleans(),
                    "health": st.sampled_from((None, "/healthz", "/orders")),
                }
            )
        )
        own[name] = replace(own[name], **(flags if own[name].protocol is Protocol.HTTP else {}), dials={})
    own = {name: replace(w, dials={t: at for t, at in w.dials.items() if t in own}) for name, w in own.items()}
    return replace(mesh, workloads=own)


@st.composite
def candidates(draw: st.DrawFn, policy: Policy) -> Candidate:
    """A candidate beside a policy, under the same quarantine."""
    mesh = draw(st.one_of(st.just(policy.mesh), _other_meshes(policy.mesh)))
    proposed = draw(policies(mesh))
    about = draw(st.one_of(st.none(), st.frozensets(st.sampled_from(sorted(policy.mesh.targets)))))
    return Candidate(quarantined(proposed, policy.quarantined), proposed.version, about)


def _fronts(policy: Policy, candidate: Candidate | None) -> dict[str, Front]:
    mesh = policy.mesh
    outbound = {name: Address("127.0.0.1", 19000 + at) for at, name in enumerate(mesh.workloads)}
    nodes = mesh.nodes or ("n",)
    return {node: Front(node, mesh.on(node), outbound, "decisions.jsonl", candidate=candidate) for node in nodes}


def _routes(body: bytes) -> Iterator[tuple[Any, Any]]:
    """Every route, and the RBAC of it."""
    for host in RouteConfiguration.FromString(body).virtual_hosts:
        for route in host.routes:
            per_route = RBACPerRoute()
            assert route.typed_per_filter_config[names.RBAC_FILTER].Unpack(per_route)
            yield route, per_route.rbac


def _without_candidate(body: bytes) -> list[tuple[Any, Any]]:
    """The routes as they would be, if what is of the candidate were not there."""
    left = []
    for route, rbac in _routes(body):
        rbac.ClearField("shadow_matcher")
        fields = route.metadata.filter_metadata[names.METADATA].fields
        if names.CANDIDATE in fields:
            del fields[names.CANDIDATE]
        del route.typed_per_filter_config[names.RBAC_FILTER]
        if jwt.FILTER in route.typed_per_filter_config:  # a token that no enforced rule asks about decides nothing
            del route.typed_per_filter_config[jwt.FILTER]
        left.append((route, rbac))
    return left


def _lets_nobody_through(body: bytes, policy: Policy) -> bool:
    for caller in policy.mesh.workloads:
        inputs = {"septum.caller": str(policy.mesh.spiffe(caller)), "method": "GET", "path": "/"}
        for _, rbac in _routes(body):
            passes, name = outcome(rbac.matcher, inputs)
            if passes and name not in (names.TUNNEL, names.MISDIRECTED):
                return False
    return True


@given(st.data())
def test_nothing_that_is_enforced_changes_and_only_routes_do(data: st.DataObject) -> None:
    plain = data.draw(policies(data.draw(wide_meshes())))
    policy = quarantined(plain, data.draw(quarantines(plain.mesh)))
    candidate = data.draw(candidates(policy))
    for node, front in _fronts(policy, None).items():
        before = Compiler().compile(policy, front)
        after = Compiler().compile(policy, replace(front, candidate=candidate))
        for kind in before.resources.keys() | after.resources.keys():
            if kind not in (ROUTE, SCOPE, MANIFEST):
                assert before.of(kind) == after.of(kind), (node, kind)
        assert before.of(SCOPE).items() <= after.of(SCOPE).items()
        assert before.of(ROUTE).keys() <= after.of(ROUTE).keys()
        for name, made in after.of(ROUTE).items():
            if name not in before.of(ROUTE):
                assert _lets_nobody_through(made.body, policy), (node, name)
            elif made != before.of(ROUTE)[name]:
                assert candidate.targets is None or name in candidate.targets
                assert _without_candidate(made.body) == _without_candidate(before.of(ROUTE)[name].body), (node, name)


def _inputs(mesh: Mesh, request: Request) -> dict[str, str] | None:
    """What the trees of the enforced mesh's target are asked about, or None where Envoy answers before that."""
    target, operation = mesh.workloads.get(request.target), request.operation
    if target is None or request.caller not in mesh.workloads:
        return None
    inputs = {"septum.caller": str(mesh.spiffe(request.caller))}
    if request.time is not None:
        inputs["request"] = repr(request.time)
    match operation:
        case HttpOperation(method, path, websocket):
            refused = websocket and not target.websocket and mesh.mode(target) is Mode.ENFORCE
            if target.protocol is Protocol.TCP or refused:
                return None
            return inputs | {"method": method, "path": path} | ({"upgrade": "websocket"} if websocket else {})
        case GrpcOperation(service, method):
            return (
                None if target.protocol is Protocol.TCP else inputs | {"method": "POST", "path": f"/{service}/{method}"}
            )
        case ConnectOperation():
            return inputs if target.protocol is Protocol.TCP else None
        case _:
            return None


@given(st.data())
@settings(max_examples=100)
def test_its_tree_means_what_decide_means(data: st.DataObject) -> None:
    plain = data.draw(policies(data.draw(meshes())))
    policy = quarantined(plain, data.draw(quarantines(plain.mesh)))
    candidate = data.draw(candidates(policy))
    (front,) = _fronts(policy, candidate).values()
    snapshot = Compiler().compile(policy, front)
    for _ in range(8):
        request = data.draw(requests(candidate.policy if data.draw(st.booleans()) else policy))
        inputs = _inputs(policy.mesh, request)
        if inputs is None:
            continue
        said = _said(snapshot, request.target, inputs)
        if candidate.targets is not None and request.target not in candidate.targets:
            assert said is None
            continue
        decision = decide(candidate.policy, request)
        assert said is not None, request
        assert said[0] == decision.allowed, (request, decision, said)
        assert decision.rule is None or decision.rule.id == said[1], (request, decision, said)


def _said(snapshot: Snapshot, target: str, inputs: dict[str, str]) -> tuple[bool, str] | None:
    """What the candidate says of a request that its target's node is asked; None where it is not asked."""
    asked = [rbac for _, rbac in _routes(snapshot.of(ROUTE)[target].body) if rbac.HasField("shadow_matcher")]
    return outcome(asked[0].shadow_matcher, inputs) if asked else None


@given(st.data())
@settings(max_examples=100)
def test_who_has_no_way_to_another_node_is_asked_about_where_it_calls(data: st.DataObject) -> None:
    mesh = replace(data.draw(wide_meshes()), issuers={}, external=None)
    policy = quarantined(data.draw(policies(mesh)), data.draw(quarantines(mesh)))
    candidate = data.draw(candidates(policy))
    made = {node: Compiler().compile(policy, front) for node, front in _fronts(policy, candidate).items()}
    for _ in range(8):
        request = data.draw(requests(candidate.policy))
        inputs = _inputs(mesh, request)
        if inputs is None or (candidate.targets is not None and request.target not in candidate.targets):
            continue
        here, there = (mesh.workloads[name].node or "n" for name in (request.caller, request.target))
        route = made[here].of(ROUTE).get(request.target)
        decision = decide(candidate.policy, request)
        if here == there:
            continue
        if route is None:
            assert not decision.allowed, "who is named by the candidate has at least a route to be asked on"
        elif not _goes_on(route.body, inputs):
            said = _said(made[here], request.target, inputs)
            assert said is not None, request
            assert said[0] == decision.allowed, (request, decision)
            assert decision.rule is None or decision.rule.id == said[1], (request, decision)


def _goes_on(body: bytes, inputs: dict[str, str]) -> bool:
    return any(outcome(rbac.matcher, inputs) == (True, names.FORWARD) for _, rbac in _routes(body))


@given(st.data())
@settings(max_examples=40)
def test_a_past_with_candidates_makes_no_difference(data: st.DataObject) -> None:
    policy = data.draw(policies(data.draw(wide_meshes())))
    candidate: Candidate | None = None
    survey, shelf = Survey(), Shelf()
    compilers: dict[str, Compiler] = {}
    for _ in range(4):
        candidate = data.draw(st.one_of(st.none(), st.just(candidate), candidates(policy)))
        for node, front in _fronts(policy, candidate).items():
            snapshot = compilers.setdefault(node, Compiler(survey, shelf)).compile(policy, front)
            assert snapshot == Compiler().compile(policy, front)
        policy = data.draw(st.one_of(st.just(policy), changed(policy), policies(policy.mesh)))
