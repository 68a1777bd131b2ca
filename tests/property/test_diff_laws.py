"""The laws of the difference of two policies: exact, shown once, and never without a witness."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

import strategies
from render import render
from septum.model.claims import NO_TOKEN, AnyOf, Claims, Contains, Equals, Scope, Test
from septum.model.decision import Request
from septum.model.operation import ConnectOperation, HttpOperation, Operation
from septum.model.policy import Policy
from septum.model.window import Window
from septum.policy.decide import decide, goes_through
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from septum.verify.diff import Diff, diff
from septum.verify.passing import Kind

NOW = 1_764_000_000
MOST = 250
# Moments at the edges of the windows that are drawn, and between them.
_EDGES = (NOW - 60, NOW, NOW + 60, NOW + 120)
# Those of `strategies` come after.
_MOMENTS = (NOW, NOW + 59, NOW + 60, NOW + 119, NOW + 120, 3_999_999_999, 4_000_000_000, 4_100_000_000)
_WORDS = ("a", "A", "b", "42", "orders", "healthz", "x;y")


@st.composite
def windows(draw: st.DrawFn) -> Window | None:
    begins, ends = (
        draw(st.one_of(st.none(), st.sampled_from(_EDGES))),
        draw(st.one_of(st.none(), st.sampled_from(_EDGES))),
    )
    if begins is None and ends is None:
        return None
    return Window(begins, ends) if begins is None or ends is None or begins < ends else None


@st.composite
def timed(draw: st.DrawFn, policy: Policy) -> Policy:
    """The policy with windows on some of its rules."""
    rules = [replace(rule, window=draw(st.one_of(st.none(), windows()))) for rule in policy.rules]
    return strategies.with_rules(policy.mesh, rules)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """A policy and what became of it, or one that has nothing to do with it; somebody may be quarantined."""
    old = draw(strategies.wide_meshes().flatmap(strategies.policies).flatmap(timed))
    other = st.one_of(strategies.changed(old), strategies.changed(old), strategies.policies(old.mesh))
    new = draw(st.one_of(other, other.flatmap(timed)))
    nobody = st.just(frozenset[str]())
    shut = st.one_of(nobody, nobody, nobody, strategies.quarantines(old.mesh))
    return quarantined(old, draw(shut)), quarantined(new, draw(shut))


def asked(policies: tuple[Policy, Policy], seed: int) -> list[Request]:
    """Requests of a small alphabet that has what the rules spell out: all, or as many as there is time for."""
    found = list(_all(policies))
    return found if len(found) <= MOST else random.Random(seed).sample(found, MOST)


def _all(policies: tuple[Policy, Policy]) -> Iterator[Request]:
    old, new = policies
    for name in old.mesh.targets.keys() | new.mesh.targets.keys():
        operations = [ConnectOperation(), *_requests(policies, name)]
        for caller in old.mesh.workloads.keys() | new.mesh.workloads.keys():
            yield from (
                Request(caller, name, operation, claims, moment)
                for operation, (claims, moment) in product(operations, _circumstances(policies, name, caller))
            )


def _requests(policies: tuple[Policy, Policy], target: str) -> Iterator[Operation]:
    """Each pattern's path with each word in the place of its placeholders, and below it; by each method of a rule."""
    patterns = [p for one in policies for rule in one.rules_to.get(target, ()) for p in rule.operations or ()]
    paths = {"/", "/healthz"}
    for pattern in patterns:
        segments = pattern.path.segments
        for words in (("42",) * 4, ("a",) * 4, ("x;y",) * 4, tuple(_WORDS[:4])):
            path = "/" + "/".join(words[i % 4] if part is None else part for i, part in enumerate(segments))
            paths |= {path, path.swapcase(), path.rstrip("/") + "/42", path.rstrip("/") + "/"}
    methods = sorted({method for pattern in patterns for method in pattern.methods[:2]} | {"GET", "POST"})
    yield from (HttpOperation(*of) for of in product(methods, sorted(paths), (False, True)))


def _circumstances(policies: tuple[Policy, Policy], target: str, caller: str) -> list[tuple[Claims, int]]:
    """Tokens that meet the conditions of rules, one by one and together, at moments on both sides of their edges."""
    rules = [rule for one in policies for rule in one.rules_to.get(target, ()) if caller in rule.callers]
    tokens: list[Claims] = [NO_TOKEN]
    tokens += [{name: meeting(test) for name, test in rule.when.claims} for rule in rules if rule.when]
    moments = _MOMENTS if any(rule.window for rule in rules) else _MOMENTS[:1]
    return list(product([*tokens, {key: value for token in tokens for key, value in token.items()}], moments))


def meeting(test: Test) -> object:
    match test:
        case Equals(value):
            return value
        case AnyOf(values):
            return values[-1]
        case Contains(value):
            return [value]
        case Scope(word):
            return f"other {word}"


def shifted(found: Diff, request: Request) -> bool:
    """Whether the request is one of somebody who went into quarantine or came out of it."""
    return any(
        shift.name in (request.caller, request.target)
        for shift in found.shifts
        if shift.kind in (Kind.QUARANTINED, Kind.RELEASED)
    )


@given(pairs(), st.integers(0, 9999))
@settings(max_examples=100)
def test_a_request_is_decided_differently_exactly_when_one_row_has_it(
    policies: tuple[Policy, Policy], seed: int
) -> None:
    old, new = policies
    found = diff(old, new, NOW)
    event(f"rows: {min(3, len(found.allowed))} allowed, {min(3, len(found.denied))} denied")
    open_before = old.quarantined | new.quarantined
    for request in asked(policies, seed):
        if open_before & {request.caller, request.target}:
            continue
        before, after = decide(old, request).allowed, decide(new, request).allowed
        assert sum(row.contains(request) for row in found.allowed) == (after and not before), request
        assert sum(row.contains(request) for row in found.denied) == (before and not after), request


@given(pairs(), st.integers(0, 9999))
def test_what_passes_otherwise_is_in_a_row_or_in_a_shift(policies: tuple[Policy, Policy], seed: int) -> None:
    old, new = policies
    found = diff(old, new, NOW)
    whole = {shift.name for shift in found.shifts}
    for request in asked(policies, seed):
        known = request.caller in old.mesh.workloads and request.caller in new.mesh.workloads
        if known and goes_through(old, request) != goes_through(new, request):
            rows = (*found.allowed, *found.denied)
            assert whole & {request.caller, request.target} or any(row.contains(request) for row in rows), request


@given(pairs())
def test_every_witness_is_decided_differently_and_is_of_its_row(policies: tuple[Policy, Policy]) -> None:
    old, new = policies
    found = diff(old, new, NOW)
    for rows, more, less in ((found.allowed, new, old), (found.denied, old, new)):
        for row in rows:
            assert row.contains(row.witness)
            assert decide(more, row.witness).allowed
            assert not decide(less, row.witness).allowed
            alone = strategies.with_rules(more.mesh, [row.rule])
            assert decide(alone, row.witness).allowed
    for shift in found.shifts:
        if shift.witness is not None:
            assert goes_through(new, shift.witness) == shift.widens
            assert goes_through(old, shift.witness) == shift.narrows


@given(pairs())
def test_what_is_newly_allowed_one_way_is_newly_denied_the_other(policies: tuple[Policy, Policy]) -> None:
    forth, back = diff(*policies, NOW), diff(*reversed(policies), NOW)
    assert forth.allowed == back.denied
    assert forth.denied == back.allowed
    assert (forth.risk.widens, forth.risk.narrows) == (back.risk.narrows, back.risk.widens)


@given(st.data())
def test_there_is_no_row_where_nothing_differs(data: DataObject) -> None:
    policy, _ = data.draw(pairs())
    again = load(render(replace(policy, rules=tuple(replace(rule, window=None) for rule in policy.rules)))).policy
    assert again is not None
    unlimited = strategies.with_rules(policy.mesh, [replace(rule, window=None) for rule in policy.rules])
    assert diff(policy, policy, NOW) == diff(unlimited, again, NOW)
    found = diff(policy, policy, NOW)
    assert (found.changes, found.allowed, found.denied, found.shifts, found.touched.workloads) == ((), (), (), (), ())
    assert str(found.risk) == "neither widens nor narrows"


@given(st.data())
def test_a_rule_in_other_words_is_a_change_without_rows(data: DataObject) -> None:
    """Its patterns in another order and over several rules, some of them twice."""
    policy = data.draw(strategies.wide_meshes().flatmap(strategies.policies).filter(lambda policy: policy.rules))
    rules = []
    for rule in policy.rules:
        patterns = data.draw(st.permutations(rule.operations)) if rule.operations else [None]
        for number, pattern in enumerate([*patterns, patterns[0]]):
            operations = None if pattern is None else (pattern,)
            rules.append(replace(rule, id=f"{rule.id}-{number}", operations=operations))
    found = diff(policy, strategies.with_rules(policy.mesh, rules), NOW)
    assert found.changes
    assert (found.allowed, found.denied, found.shifts) == ((), (), ())


@given(pairs())
def test_a_witness_of_a_shift_of_mode_is_there_where_anybody_can_call(policies: tuple[Policy, Policy]) -> None:
    old, new = policies
    for shift in diff(old, new, NOW).shifts:
        if shift.kind is Kind.OBSERVED and shift.name not in new.quarantined and shift.name not in old.mesh.targets:
            callers = new.mesh.workloads.keys() - new.quarantined
            assert (shift.witness is not None) == bool(callers)
