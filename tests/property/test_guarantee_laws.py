"""The laws of guarantees and of reach, each named as a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

import strategies
from septum.model.claims import NO_TOKEN, Equals, When
from septum.model.decision import Request
from septum.model.guarantee import Guarantee, Kind, Override
from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, HttpPattern, Operation
from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.decide import decide, goes_through, opens
from septum.policy.quarantine import quarantined
from septum.verify import region
from septum.verify.calls import Calls, everything, plainly
from septum.verify.guarantee import Verdict, verdicts
from septum.verify.overlap import opens_some
from septum.verify.reach import Branch, reach

NOW = 1_790_000_000.0


@st.composite
def guarantees(draw: st.DrawFn, mesh: Mesh, name: str = "it") -> Guarantee:
    """A guarantee that could be written: `always` says what is to be open."""
    kind = draw(st.sampled_from(Kind))
    targets = draw(st.lists(st.sampled_from(sorted(mesh.targets)), max_size=3, unique=True).map(sorted))
    callers = draw(st.lists(st.sampled_from(sorted(mesh.workloads)), max_size=3, unique=True).map(sorted))
    patterns = st.lists(st.one_of(strategies.http_patterns(), strategies.grpc_patterns()), min_size=1, max_size=3)
    operations = patterns.map(tuple) if kind is Kind.ALWAYS else st.one_of(st.none(), patterns.map(tuple))
    override = draw(st.sampled_from((None, Override("x", "y", int(NOW)), Override("x", "y", int(NOW) + 1))))
    through = draw(st.booleans())
    return Guarantee(name, kind, tuple(callers), tuple(targets), draw(operations), through, override)


@st.composite
def guarded(draw: st.DrawFn) -> Policy:
    """A policy over a mesh of any kind, with guarantees, and perhaps somebody in quarantine."""
    policy = draw(strategies.wide_meshes().flatmap(strategies.policies))
    stated = draw(st.lists(guarantees(policy.mesh), min_size=1, max_size=4))
    return quarantined(replace(policy, guarantees=tuple(stated)), draw(strategies.quarantines(policy.mesh)))


def about(guarantee: Guarantee, caller: str) -> bool:
    """Whether a `never` or `only` is about calls of this caller."""
    return (caller in guarantee.callers) == (guarantee.kind is Kind.NEVER)


def within(guarantee: Guarantee, mesh: Mesh, target: str, operation: Operation) -> bool:
    """Whether a `never` or `only` is about the operation at the last step: by the words of its patterns alone."""
    if guarantee.operations is None:
        return True
    protocol = mesh.targets[target].protocol
    if protocol is Protocol.TCP:
        return False  # what it is asked for is a session, and patterns are about requests
    asked = HttpOperation("POST", f"/{operation}") if isinstance(operation, GrpcOperation) else operation
    return isinstance(asked, HttpOperation) and any(
        asked.method in pattern.methods
        and pattern.path.matches(asked.path, ignore_case=mesh.targets[target].ignore_case)
        for pattern in guarantee.operations
        if (" " in pattern.text) == (protocol is Protocol.HTTP)
    )


# --- what is shown


@given(st.data())
def test_every_chain_that_is_shown_is_allowed_step_by_step_and_leads_where_it_must_not(data: DataObject) -> None:
    policy = data.draw(guarded())
    for verdict in verdicts(policy, NOW):
        guarantee = verdict.guarantee
        if guarantee.kind is not Kind.ALWAYS:
            for step in verdict.chain:
                assert decide(policy, step.request).rule is step.rule is not None
            for step in verdict.passing:
                assert goes_through(policy, step.request)
            assert not (verdict.chain and verdict.passing)
            for chain in (verdict.chain, verdict.passing):
                leads(policy, guarantee, [step.request for step in chain])


def leads(policy: Policy, guarantee: Guarantee, chain: list[Request]) -> None:
    """Whether requests follow one another from whom the guarantee is about to where it is about, not before `NOW`."""
    if not chain:
        return
    assert about(guarantee, chain[0].caller)
    assert chain[-1].target in guarantee.targets
    assert within(guarantee, policy.mesh, chain[-1].target, chain[-1].operation)
    assert all(before.target == after.caller for before, after in pairwise(chain))
    assert all(request.time is not None and request.time >= NOW for request in chain)
    assert len(chain) == 1 or guarantee.through


@given(st.data())
def test_what_always_lacks_is_shown_as_a_request_without_a_token_that_is_denied(data: DataObject) -> None:
    policy = data.draw(guarded())
    for verdict in verdicts(policy, NOW):
        guarantee = verdict.guarantee
        if guarantee.kind is Kind.ALWAYS and not verdict.holds:
            (step,) = verdict.chain
            assert not decide(policy, step.request).allowed
            assert step.request.claims == NO_TOKEN
            assert step.request.time is not None
            assert step.request.time >= NOW
            assert step.request.caller in guarantee.callers
            assert step.request.target in guarantee.targets
            wanted = Rule("wanted", (), (), guarantee.operations)
            if policy.mesh.targets[step.request.target].protocol is not Protocol.TCP:
                assert opens(wanted, policy.mesh.targets[step.request.target], step.request.operation)


@given(st.data())
def test_no_request_contradicts_a_guarantee_that_is_kept(data: DataObject) -> None:
    policy = data.draw(guarded())
    request = data.draw(strategies.requests(policy))
    asked = replace(request, time=data.draw(st.sampled_from((NOW, 4_000_000_000.0, 4_100_000_000.0))))
    for verdict in verdicts(policy, NOW):
        guarantee = verdict.guarantee
        if verdict.holds and guarantee.kind is not Kind.ALWAYS and decide(policy, asked).allowed:
            inside = asked.target in guarantee.targets and within(guarantee, policy.mesh, asked.target, asked.operation)
            assert not (inside and about(guarantee, asked.caller))
        if not verdict.chain and not verdict.passing and guarantee.kind is not Kind.ALWAYS:
            inside = asked.target in guarantee.targets and within(guarantee, policy.mesh, asked.target, asked.operation)
            assert not (inside and about(guarantee, asked.caller) and goes_through(policy, asked))


@given(st.data())
def test_removing_a_rule_never_breaks_what_must_not_be_and_never_mends_what_must(data: DataObject) -> None:
    policy = data.draw(guarded())
    before = verdicts(policy, NOW)
    for index in range(len(policy.rules)):
        less = replace(policy, rules=(*policy.rules[:index], *policy.rules[index + 1 :]))
        for verdict, after in zip(before, verdicts(less, NOW), strict=True):
            if verdict.guarantee.kind is Kind.ALWAYS:
                assert after.holds <= verdict.holds
            else:
                assert verdict.holds <= after.holds


@given(st.data())
def test_an_override_changes_what_refuses_and_never_what_holds(data: DataObject) -> None:
    policy = data.draw(guarded())
    freed = replace(policy, guarantees=tuple(replace(one, override=None) for one in policy.guarantees))
    for verdict, bare in zip(verdicts(policy, NOW), verdicts(freed, NOW), strict=True):
        override = verdict.guarantee.override
        assert verdict.holds == bare.holds
        assert bare.refuses == (not bare.holds)
        assert verdict.overridden == (not bare.holds and override is not None and override.until > NOW)


@given(st.data())
def test_patterns_alone_say_the_same_as_sets_of_requests(data: DataObject) -> None:
    policy = data.draw(strategies.wide_meshes().flatmap(strategies.policies))
    asked = tuple(data.draw(st.lists(st.one_of(strategies.http_patterns(), strategies.grpc_patterns()), max_size=3)))
    for target in policy.mesh.targets.values():
        for rule in policy.rules_to[target.name]:
            opened = region.of_rule(rule, target)
            assert opens_some(rule, asked, target) == bool(opened & plainly(asked, target))
            assert opened
            assert not opened - everything(target)


# --- by trying everything: few words, and every request that they make


@dataclass(frozen=True)
class Small:
    """A mesh and rules in which every question has an answer among `asked`."""

    policy: Policy

    def asked(self, target: str) -> Iterator[Operation]:
        match self.policy.mesh.targets[target].protocol:
            case Protocol.TCP:
                yield ConnectOperation()
            case Protocol.GRPC:
                yield from (GrpcOperation(service, method) for service, method in product(("S", "T"), ("m", "n", "o")))
            case _:
                upgrades = (False, True) if self.policy.mesh.targets[target].websocket else (False,)
                for method, path, websocket in product(("GET", "POST"), PATHS, upgrades):
                    yield HttpOperation(method, path, websocket)

    def allowed(self, caller: str, target: str, operation: Operation) -> bool:
        """At some moment from now on, with some token."""
        return any(
            decide(self.policy, Request(caller, target, operation, claims, time)).allowed
            for claims, time in product(TOKENS, MOMENTS)
        )

    def always(self, caller: str, target: str, operation: Operation) -> bool:
        """At every moment from now on, without a token."""
        asked = (Request(caller, target, operation, NO_TOKEN, time) for time in MOMENTS)
        return all(decide(self.policy, request).allowed for request in asked)

    def something_always(self, caller: str, target: str) -> bool:
        """At every moment, some request without a token."""
        return all(
            any(
                decide(self.policy, Request(caller, target, operation, NO_TOKEN, time)).allowed
                for operation in self.asked(target)
            )
            for time in MOMENTS
        )


WORDS = ("a", "b", "1")
PATHS = [
    "/" + "/".join((*before, last))
    for length in range(3)
    for before in product(WORDS, repeat=length)
    for last in (*WORDS, "")
]
TOKENS = (NO_TOKEN, {"iss": "x"}, {"iss": "y"})
BEGIN, END = int(NOW) + 10, int(NOW) + 20
MOMENTS = (NOW, float(BEGIN), float(END))
_SMALL_PATTERNS = [
    HttpPattern.parse(f"{method} {path}")
    for method in ("GET", "POST", "GET,POST")
    for path in ("/a", "/b", "/{x}", "/", "/**", "/a/**", "/{x}/b", "/a/{x}", "/a/", "/{x}/**")
]
_SMALL_GRPC = [HttpPattern.parse_grpc(text) for text in ("S/m", "S/*", "T/n", "*")]
_WINDOWS = (
    None,
    Window(None, BEGIN),
    Window(BEGIN, None),
    Window(BEGIN, END),
    Window(None, int(NOW)),
    Window(None, END),
)


@st.composite
def smalls(draw: st.DrawFn) -> Small:
    """Few workloads, few words: all that can be asked can be tried."""
    names = ("p", "q", "r", "t")[: draw(st.integers(2, 4))]
    workloads = {}
    for index, name in enumerate(names):
        protocol = draw(st.sampled_from((Protocol.HTTP, Protocol.HTTP, Protocol.GRPC, Protocol.TCP)))
        http = protocol is Protocol.HTTP
        workloads[name] = Workload(
            name,
            "s",
            Address("127.0.0.1", 9000 + index),
            protocol,
            health=draw(st.sampled_from((None, "/a"))) if http else None,
            websocket=draw(st.booleans()) if http else False,
        )
    mesh = Mesh("small", "small.test", {"s": Segment("s")}, workloads, frozenset("s"))
    rules = [draw(_small_rule(mesh, f"rule-{index}")) for index in range(draw(st.integers(0, 5)))]
    policy = replace(Policy(mesh, tuple(rules), ""), guarantees=(draw(_small_guarantee(mesh)),))
    return Small(replace(policy, quarantined=draw(st.sampled_from((frozenset(), frozenset(), frozenset("q"))))))


@st.composite
def _small_rule(draw: st.DrawFn, mesh: Mesh, name: str) -> Rule:
    target = mesh.workloads[draw(st.sampled_from(sorted(mesh.workloads)))]
    callers = draw(st.lists(st.sampled_from(sorted(mesh.workloads)), min_size=1, max_size=2, unique=True))
    operations = {
        Protocol.TCP: st.none(),
        Protocol.GRPC: st.lists(st.sampled_from(_SMALL_GRPC), min_size=1, max_size=2).map(tuple),
        Protocol.HTTP: st.lists(st.sampled_from(_SMALL_PATTERNS), min_size=1, max_size=2).map(tuple),
    }[target.protocol]
    when = (
        None if target.protocol is Protocol.TCP else draw(st.sampled_from((None, None, When((("iss", Equals("x")),)))))
    )
    window = draw(st.sampled_from(_WINDOWS))
    return Rule(name, tuple(sorted(callers)), (target.name,), draw(operations), when=when, window=window)


@st.composite
def _small_guarantee(draw: st.DrawFn, mesh: Mesh) -> Guarantee:
    kind = draw(st.sampled_from(Kind))
    some = st.lists(st.sampled_from(sorted(mesh.workloads)), min_size=1, max_size=2, unique=True).map(sorted).map(tuple)
    patterns = st.lists(st.sampled_from((*_SMALL_PATTERNS, *_SMALL_GRPC)), min_size=1, max_size=2).map(tuple)
    operations = draw(patterns if kind is Kind.ALWAYS else st.one_of(st.none(), patterns))
    return Guarantee("it", kind, draw(some), draw(some), operations, draw(st.booleans()))


def chained(edges: set[tuple[str, str]], names: list[str]) -> set[tuple[str, str]]:
    """The pairs that chains of any length join, of none too."""
    found = edges | {(name, name) for name in names}
    for middle, first, last in product(names, repeat=3):
        if (first, middle) in found and (middle, last) in found:
            found.add((first, last))
    return found


def breaches(small: Small) -> set[tuple[str, str]]:
    """The callers and targets of which the guarantee is broken, found by trying every request."""
    (guarantee,) = small.policy.guarantees
    return _lacking(small, guarantee) if guarantee.kind is Kind.ALWAYS else _leaking(small, guarantee)


def _leaking(small: Small, guarantee: Guarantee) -> set[tuple[str, str]]:
    mesh, names = small.policy.mesh, list(small.policy.mesh.workloads)
    open_ = {
        pair for pair in product(names, repeat=2) if any(small.allowed(*pair, what) for what in small.asked(pair[1]))
    }
    last = {
        (caller, target)
        for caller, target in open_
        if target in guarantee.targets
        and any(
            within(guarantee, mesh, target, what) and small.allowed(caller, target, what)
            for what in small.asked(target)
        )
    }
    joined = chained(open_, names) if guarantee.through else {(name, name) for name in names}
    found = {(first, target) for first, middle in joined for caller, target in last if middle == caller}
    live = {pair for pair in found if about(guarantee, pair[0])}
    return {pair for pair in live if pair[0] not in small.policy.quarantined}


def _lacking(small: Small, guarantee: Guarantee) -> set[tuple[str, str]]:
    names = list(small.policy.mesh.workloads)
    served = {(caller, to) for caller, to in product(names, guarantee.targets) if _serves(small, guarantee, caller, to)}
    edges = {pair for pair in product(names, repeat=2) if small.something_always(*pair)}
    joined = chained(edges, names) if guarantee.through else {(name, name) for name in names}
    found = {(first, to) for first, middle in joined for caller, to in served if middle == caller}
    return set(product(guarantee.callers, guarantee.targets)) - found


def _serves(small: Small, guarantee: Guarantee, caller: str, target: str) -> bool:
    to = small.policy.mesh.workloads[target]
    spoken = [one for one in guarantee.operations or () if (" " in one.text) == (to.protocol is Protocol.HTTP)]
    wanted = Rule("wanted", (), (), None if to.protocol is Protocol.TCP else tuple(spoken))
    return all(small.always(caller, target, what) for what in small.asked(target) if opens(wanted, to, what))


@given(smalls())
def test_trying_every_request_says_the_same(small: Small) -> None:
    (verdict,) = verdicts(small.policy, NOW)
    found = breaches(small)
    assert verdict.holds == (not found)
    assert verdict.pairs == len(found)
    if not verdict.holds:
        assert ends(verdict) in found


def ends(verdict: Verdict) -> tuple[str, str]:
    return verdict.chain[0].request.caller, verdict.chain[-1].request.target


# --- who reaches whom


@given(st.data())
def test_what_is_reached_from_one_end_is_reached_from_the_other_by_chains_as_short(data: DataObject) -> None:
    policy = data.draw(guarded())
    calls = Calls(policy, NOW)
    for caller in policy.mesh.workloads:
        on = distances(reach(policy, NOW, [caller]).tree)
        for target in policy.mesh.targets:
            back = distances(reach(policy, NOW, targets=[target]).tree)
            chains = reach(policy, NOW, [caller], [target])
            if caller != target:
                assert on.get(target) == back.get(caller)
                assert chains.found == (target in on)
                assert max((branch.depth for branch in chains.tree), default=None) == on.get(target)
            for edge in chains.edges:
                assert edge.rules == calls.between(edge.caller, edge.target)
                assert edge.rules


@given(st.data())
def test_a_tree_has_every_call_once_and_every_name_with_what_is_below_it_once(data: DataObject) -> None:
    policy = data.draw(guarded())
    calls = Calls(policy, NOW)
    roots = sorted(policy.mesh.workloads)
    found = reach(policy, NOW, roots)
    every = {(c, t) for t in policy.mesh.targets for c in calls.names(calls.callers(t))}
    assert {(edge.caller, edge.target) for edge in found.edges} == every
    assert len([branch for branch in found.tree if branch.edge]) == len(every)


def distances(tree: Iterable[Branch]) -> dict[str, int]:
    found: dict[str, int] = {}
    for branch in tree:
        found[branch.name] = min(branch.depth, found.get(branch.name, branch.depth))
    return found
