"""Hypothesis strategies for meshes, policies and requests. Small alphabets, so that what is drawn meets.

What is drawn is valid: a policy has the version, the order and the rule ids that loading its rendering gives it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st

from septum.model.decision import Request
from septum.model.mesh import Address, Limits, Mesh, Mode, Protocol, Segment, Timeouts, Workload
from septum.model.operation import (
    METHODS,
    ConnectOperation,
    GrpcOperation,
    HttpOperation,
    HttpPattern,
    Operation,
    RefusedOperation,
)
from septum.model.policy import Policy, Rule
from septum.policy.digest import version_of

_WORKLOADS = ("storefront", "orders", "payments", "ledger", "catalog", "reports")
_SEGMENTS = ("edge", "core", "data")
_WORDS = ("a", "b", "A", "a.b", "orders", "42", "%C3%A9", "healthz")
_SERVICES = ("shop.v1.Payments", "shop.v1.Payments2", "Admin", "grpc.health.v1.Health")
_GRPC_METHODS = ("Authorize", "Refund", "Check")
_STRANGER = "stranger"
_HEALTH = "/healthz"


@st.composite
def meshes(draw: st.DrawFn, *, at_least: int = 2) -> Mesh:
    """A valid mesh of `at_least` to 5 workloads."""
    segments = draw(st.lists(st.sampled_from(_SEGMENTS), min_size=1, unique=True))
    names = draw(st.lists(st.sampled_from(_WORKLOADS), min_size=at_least, max_size=5, unique=True))
    workloads = {name: draw(_workloads(name, segments, index)) for index, name in enumerate(names)}
    tcp = [name for name, workload in workloads.items() if workload.protocol is Protocol.TCP]
    if tcp and draw(st.booleans()):
        first = names[0]
        workloads[first] = replace(workloads[first], dials={tcp[0]: Address("127.0.0.1", 9301)})
    enforced = draw(st.frozensets(st.sampled_from(segments)))
    described = {name: Segment(name, draw(st.sampled_from(("", "what it is for")))) for name in segments}
    return Mesh("shop", "shop.test", described, workloads, enforced)


@st.composite
def _workloads(draw: st.DrawFn, name: str, segments: list[str], index: int) -> Workload:
    protocol = draw(st.sampled_from(Protocol))
    health = {Protocol.HTTP: _HEALTH, Protocol.GRPC: "/grpc.health.v1.Health/Check", Protocol.TCP: None}[protocol]
    flag = st.booleans() if protocol is Protocol.HTTP else st.just(False)
    return Workload(
        name=name,
        segment=draw(st.sampled_from(segments)),
        at=Address("127.0.0.1", 9101 + index),
        protocol=protocol,
        health=draw(st.sampled_from((None, health))),
        websocket=draw(flag),
        path_parameters=draw(flag),
        ignore_case=draw(flag),
        mode=draw(st.sampled_from((None, *Mode))),
        outbound=draw(st.sampled_from((None, Address("127.0.0.1", 9201 + index)))),
        timeouts=draw(st.sampled_from((Timeouts(), Timeouts(0.25, 120.0, 0.0)))),
        limits=draw(st.sampled_from((Limits(), Limits(1, 2, 3)))),
    )


def paths() -> st.SearchStrategy[str]:
    """Normalised paths, without query."""
    words = st.sampled_from((*_WORDS, "", "x;y", "administrator"))
    return st.lists(words, min_size=1, max_size=4).map(_merged)


def _merged(words: list[str]) -> str:
    kept = [word for word in words[:-1] if word] + words[-1:]
    return "/" + "/".join(kept)


def path_patterns() -> st.SearchStrategy[str]:
    """Path patterns, as they are written."""
    words = st.lists(st.sampled_from((*_WORDS, "{id}", "{name}")), max_size=3)
    return st.builds(lambda w, end: "/" + "/".join([*w, *end]), words, st.sampled_from(((), ("",), ("**",))))


def http_patterns() -> st.SearchStrategy[HttpPattern]:
    """Entries of a rule's `http:`."""
    methods = st.one_of(st.just("*"), st.lists(st.sampled_from(METHODS), min_size=1, max_size=2).map(",".join))
    return st.builds(lambda m, path: HttpPattern.parse(f"{m} {path}"), methods, path_patterns())


def grpc_patterns() -> st.SearchStrategy[HttpPattern]:
    """Entries of a rule's `grpc:`."""
    exact = st.builds(
        lambda service, method: f"{service}/{method}",
        st.sampled_from(_SERVICES),
        st.sampled_from((*_GRPC_METHODS, "*")),
    )
    return st.one_of(st.just("*"), exact).map(HttpPattern.parse_grpc)


@st.composite
def policies(draw: st.DrawFn, mesh: Mesh | None = None, *, most: int = 6) -> Policy:
    """A valid policy over a mesh, with up to `most` rules."""
    mesh = draw(meshes()) if mesh is None else mesh
    written = [draw(_rules(mesh, f"rule-{index}")) for index in range(draw(st.integers(0, most)))]
    return with_rules(mesh, written)


def with_rules(mesh: Mesh, rules: list[Rule]) -> Policy:
    """The policy that has these rules, in the order of their ids."""
    ordered = tuple(sorted(_numbered(rules), key=lambda rule: rule.id))
    return Policy(mesh, ordered, version_of(mesh, ordered))


def _numbered(rules: list[Rule]) -> list[Rule]:
    seen: Counter[str] = Counter(rule.id for rule in rules)
    count: Counter[str] = Counter()
    numbered = []
    for rule in rules:
        count[rule.id] += 1
        again = seen[rule.id] > 1 and count[rule.id] > 1
        numbered.append(replace(rule, id=f"{rule.id}#{count[rule.id]}") if again else rule)
    return numbered


@st.composite
def _rules(draw: st.DrawFn, mesh: Mesh, name: str) -> Rule:
    protocol = mesh.workloads[draw(st.sampled_from(sorted(mesh.workloads)))].protocol
    targets_text, targets = draw(_selectors(mesh, protocol))
    callers_text, callers = draw(_selectors(mesh, None))
    operations = {
        Protocol.HTTP: st.lists(http_patterns(), min_size=1, max_size=3).map(tuple),
        Protocol.GRPC: st.lists(grpc_patterns(), min_size=1, max_size=3).map(tuple),
        Protocol.TCP: st.none(),
    }
    return Rule(
        id=draw(st.sampled_from((name, f"{callers_text}->{targets_text}"))),
        callers=callers,
        targets=targets,
        operations=draw(operations[protocol]),
        because=draw(st.sampled_from(("", "it's so: {id} # always"))),
        callers_text=callers_text,
        targets_text=targets_text,
    )


@st.composite
def _selectors(draw: st.DrawFn, mesh: Mesh, protocol: Protocol | None) -> tuple[str, tuple[str, ...]]:
    """One or two selectors as they are written, and whom they select; all of one protocol, if one is given."""
    words = {name: (name,) for name in mesh.workloads} | {f"segment:{s}": mesh.members(s) for s in mesh.segments}
    fitting = {
        word: names
        for word, names in words.items()
        if protocol is None or (names and all(mesh.workloads[name].protocol is protocol for name in names))
    }
    chosen = draw(st.lists(st.sampled_from(sorted(fitting)), min_size=1, max_size=2, unique=True))
    return ",".join(chosen), tuple(sorted({name for word in chosen for name in fitting[word]}))


@st.composite
def requests(draw: st.DrawFn, policy: Policy) -> Request:
    """A request, mostly one that some rule is about."""
    names = [*policy.mesh.workloads, _STRANGER]
    if policy.rules and draw(st.booleans()):
        rule = draw(st.sampled_from(policy.rules))
        callers, targets = [*rule.callers, *names[:1]], [*rule.targets, *names[:1]]
        operation = draw(st.one_of(_near(rule), operations()))
        return Request(draw(st.sampled_from(callers)), draw(st.sampled_from(targets)), operation)
    return Request(draw(st.sampled_from(names)), draw(st.sampled_from(names)), draw(operations()))


def operations() -> st.SearchStrategy[Operation]:
    """Operations of every kind, also those that no rule can open."""
    methods = st.sampled_from((*METHODS, "TRACE", "get"))
    return st.one_of(
        st.builds(HttpOperation, methods, paths(), st.booleans()),
        st.builds(GrpcOperation, st.sampled_from(_SERVICES), st.sampled_from(_GRPC_METHODS)),
        st.just(ConnectOperation()),
        st.just(RefusedOperation("GET /a%2Fb", "the path holds an encoded slash")),
    )


@st.composite
def _near(draw: st.DrawFn, rule: Rule) -> Operation:
    """An operation that the rule opens, if the target takes it."""
    if rule.operations is None:
        return ConnectOperation()
    pattern = draw(st.sampled_from(rule.operations))
    words = [draw(st.sampled_from(_WORDS)) if segment is None else segment for segment in pattern.path.segments]
    tail = draw(st.lists(st.sampled_from(_WORDS), max_size=2)) if pattern.path.tail else []
    return HttpOperation(draw(st.sampled_from(pattern.methods)), "/" + "/".join([*words, *tail]))
