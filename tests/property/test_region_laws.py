"""The laws of the set algebra, with `decide` and z3 as judges: what it says of a set is so, and exactly so."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

import rivals
import strategies
from oracle import Question, naming
from rivals import CALLER, TARGET, Rivals
from septum.model.decision import Request
from septum.policy.decide import decide
from septum.verify import region
from septum.verify.region import EVERYTHING, NOTHING, Region


def regions(both: Rivals) -> tuple[Region, Region]:
    return region.of_rules(both.one, both.target), region.of_rules(both.other, both.target)


def contains(one: Region, request: Request) -> bool:
    return one.contains(request.operation, request.claims, request.time or 0.0)


def witness(one: Region, both: Rivals) -> Request | None:
    found = one.witness(both.target)
    return found and Request(CALLER, TARGET, found.operation, found.claims, 15.0 if found.time is None else found.time)


# --- what is in a set


@given(st.data())
@settings(max_examples=100)
def test_a_request_is_in_the_set_of_the_rules_exactly_when_they_allow_it(data: DataObject) -> None:
    both = data.draw(rivals.rivals())
    policies, sets = both.policies, regions(both)
    for _ in range(8):
        request = data.draw(rivals.requests(both))
        for policy, one in zip(policies, sets, strict=True):
            allowed = decide(policy, request).allowed
            event(f"allowed: {allowed}")
            assert contains(one, request) == allowed


@given(st.data())
@settings(max_examples=60)
def test_so_it_is_in_any_mesh(data: DataObject) -> None:
    policy = data.draw(strategies.wide_meshes().flatmap(strategies.policies))
    for _ in range(5):
        request = data.draw(strategies.requests(policy))
        request = replace(
            request, time=data.draw(st.sampled_from((0.0, 2e9))) if request.time is None else request.time
        )
        target = policy.mesh.target(request.target)
        if target is not None and request.caller in policy.mesh.workloads:
            rules = naming(policy, request.caller, request.target)
            assert contains(region.of_rules(rules, target), request) == decide(policy, request).allowed


# --- what is in one set and not in another


@given(rivals.rivals())
@settings(max_examples=100)
def test_a_difference_is_empty_exactly_when_z3_finds_nothing_in_it(both: Rivals) -> None:
    question, (one, other) = Question(both.target, both.rules), regions(both)
    for left, right, of, without in ((one, other, both.one, both.other), (other, one, both.other, both.one)):
        found = question.difference(of, without, CALLER)
        event(f"empty: {found is None}")
        assert bool(left - right) == (found is not None), found
        assert found is None or contains(left - right, found)


@given(rivals.rivals())
@settings(max_examples=250)
def test_a_witness_is_decided_differently_and_no_witness_means_that_there_is_none(both: Rivals) -> None:
    policies, (one, other) = both.policies, regions(both)
    for left, right, of, without in ((one, other, *policies), (other, one, *reversed(policies))):
        found = witness(left - right, both)
        event(f"witness: {found is not None}")
        assert (found is None) == (not left - right)
        if found is not None:
            assert decide(of, found).allowed
            assert not decide(without, found).allowed
            assert contains(left - right, found)


@given(st.data())
@settings(max_examples=80)
def test_what_is_decided_differently_is_in_a_difference(data: DataObject) -> None:
    both = data.draw(rivals.rivals())
    policies, (one, other) = both.policies, regions(both)
    for _ in range(8):
        request = data.draw(rivals.requests(both))
        allowed, still = (decide(policy, request).allowed for policy in policies)
        assert contains(one - other, request) == (allowed and not still)
        assert contains(one & other, request) == (allowed and still)
        assert contains(one | other, request) == (allowed or still)


# --- how sets combine


@given(rivals.rivals(), rivals.rivals())
@settings(max_examples=150)
def test_sets_obey_the_laws_of_sets(both: Rivals, another: Rivals) -> None:
    one, other = regions(both)
    third = region.of_rules(another.one, another.target)
    assert (one | other, one & other) == (other | one, other & one)
    assert ((one | other) | third, (one & other) & third) == (one | (other | third), one & (other & third))
    assert one & (other | third) == (one & other) | (one & third)
    assert one | (other & third) == (one | other) & (one | third)
    assert EVERYTHING - (one | other) == (EVERYTHING - one) & (EVERYTHING - other)
    assert EVERYTHING - (one & other) == (EVERYTHING - one) | (EVERYTHING - other)
    assert one | (one & other) == one & (one | other) == one == EVERYTHING - (EVERYTHING - one)
    assert (one - other) | (one & other) == one
    assert (one - one, one - EVERYTHING, one & NOTHING, one - NOTHING) == (NOTHING, NOTHING, NOTHING, one)
    assert not (one - other) & other


@given(rivals.rivals(), st.data())
def test_the_order_of_rules_and_how_they_are_joined_play_no_part(both: Rivals, data: DataObject) -> None:
    alone = [region.of_rule(rule, both.target) for rule in both.rules]
    joined = NOTHING
    for one in data.draw(st.permutations(alone)):
        joined = one | joined
    assert region.union(alone) == joined == region.of_rules(both.rules, both.target)


@given(rivals.rivals(), st.data())
def test_from_a_moment_on_there_is_what_there_was_without_what_is_over(both: Rivals, data: DataObject) -> None:
    one, other = regions(both)
    moment = data.draw(st.sampled_from((5, 10, 20, 21, 30, 99)))
    later = one & region.since(moment)
    request = data.draw(rivals.requests(both))
    assert contains(later, request) == (contains(one, request) and (request.time or 0.0) >= moment)
    found = witness(later - other, both)
    if found is not None:
        assert (found.time or 0.0) >= moment
        assert [decide(policy, found).allowed for policy in both.policies] == [True, False]
