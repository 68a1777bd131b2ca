"""The laws of what a change takes away: never too few pairs, and none where nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

import strategies
from render import render
from septum.model.claims import Equals, When
from septum.model.mesh import Mode, Protocol, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.decide import goes_through
from septum.policy.grants import ends, losing
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from septum.policy.revoked import revoked


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies of which most are enforced, since rules take nothing away where everything passes."""
    mesh = draw(strategies.wide_meshes())
    if draw(st.integers(0, 3)):
        own = {name: replace(workload, mode=None) for name, workload in mesh.workloads.items()}
        mesh = replace(mesh, enforced=frozenset(mesh.segments), workloads=own)
    return draw(strategies.policies(mesh))


@given(st.data())
@settings(max_examples=100)
def test_a_call_that_passed_and_passes_no_more_is_of_a_pair_that_is_named(data: DataObject) -> None:
    policy = data.draw(policies())
    other = data.draw(strategies.changed(policy))
    nobody = st.just(frozenset[str]())
    names = st.one_of(nobody, nobody, nobody, strategies.quarantines(policy.mesh))
    old, new = (quarantined(one, data.draw(names)) for one in (policy, other))
    lost = {
        (request.caller, request.target)
        for request in data.draw(strategies.probes(old))
        if goes_through(old, request) and not goes_through(new, request)
    }
    event(f"lost: {bool(lost)}")
    assert lost <= revoked(old, new)


@given(st.data())
def test_each_single_change_names_the_pairs_that_lose_by_it(data: DataObject) -> None:
    old = data.draw(policies().filter(lambda policy: policy.rules))
    passing = [request for request in data.draw(strategies.probes(old)) if goes_through(old, request)]
    for new in single_changes(old):
        lost = {(request.caller, request.target) for request in passing if not goes_through(new, request)}
        assert lost <= revoked(old, new)


def single_changes(policy: Policy) -> Iterator[Policy]:
    """The policy with less of one rule, and with one target that takes less."""
    for at, rule in enumerate(policy.rules):
        for less in narrowed(rule):
            yield strategies.with_rules(policy.mesh, [*policy.rules[:at], *less, *policy.rules[at + 1 :]])
    for name, workload in policy.mesh.workloads.items():
        for other in taking_less(workload):
            mesh = replace(policy.mesh, workloads={**policy.mesh.workloads, name: other})
            yield strategies.with_rules(mesh, list(policy.rules))


def narrowed(rule: Rule) -> Iterator[list[Rule]]:
    yield []
    if rule.callers[1:]:
        yield [replace(rule, callers=rule.callers[1:])]
    for at, pattern in enumerate(rule.operations or ()):
        others = [other for other in rule.operations or () if other is not pattern]
        if others:
            yield [replace(rule, operations=tuple(others))]
        for method in pattern.methods[:2] if len(pattern.methods) > 1 else ():
            less = HttpPattern.parse(f"{method} {pattern.path}")
            yield [replace(rule, operations=(*others[:at], less, *others[at:]))]
    if rule.when is not None:
        for claim in ("groups", "level"):
            tests = dict(rule.when.claims) | {claim: Equals("another")}
            yield [replace(rule, when=When(tuple(tests.items())))]
    for moment in strategies.MOMENTS:
        yield [replace(rule, window=Window(moment, rule.window.until if rule.window else None))]
        yield [replace(rule, window=Window(rule.window.from_time if rule.window else None, moment))]


def taking_less(workload: Workload) -> Iterator[Workload]:
    yield replace(workload, mode=Mode.ENFORCE)
    if workload.protocol is Protocol.HTTP:
        yield replace(workload, websocket=False)
        yield replace(workload, path_parameters=False)
        yield replace(workload, ignore_case=not workload.ignore_case)
        yield replace(workload, health="/a")
        yield replace(workload, health="/orders/42")


@given(st.data())
def test_every_pair_that_is_named_had_a_workload_as_caller_and_a_target_of_the_old_mesh(data: DataObject) -> None:
    old = data.draw(policies())
    new = data.draw(strategies.changed(old))
    for caller, target in revoked(old, new):
        assert caller in old.mesh.workloads
        assert target in old.mesh.targets


@given(policies(), st.data())
def test_nothing_is_taken_away_where_nothing_changed(policy: Policy, data: DataObject) -> None:
    again = load(render(policy)).policy
    assert again is not None
    names = data.draw(strategies.quarantines(policy.mesh))
    assert revoked(policy, again) == frozenset()
    assert revoked(quarantined(policy, names), quarantined(again, names)) == frozenset()


@given(policies(), st.data())
def test_more_rules_and_lifted_quarantine_take_nothing_away(policy: Policy, data: DataObject) -> None:
    more = strategies.with_rules(policy.mesh, [*policy.rules, *data.draw(strategies.policies(policy.mesh)).rules])
    shut = quarantined(policy, data.draw(strategies.quarantines(policy.mesh)))
    assert revoked(policy, more) == frozenset()
    assert revoked(shut, policy) == frozenset()


@given(st.data())
def test_a_call_that_a_grant_let_through_until_it_ended_is_of_a_pair_that_loses_by_it(data: DataObject) -> None:
    policy = data.draw(policies().filter(ends))
    named = {end: losing(policy, end) for end in ends(policy)}
    for request in data.draw(strategies.probes(policy)):
        for end, pairs in named.items():
            before, after = replace(request, time=end - 0.25), replace(request, time=float(end))
            if goes_through(policy, before) and not goes_through(policy, after):
                assert (request.caller, request.target) in pairs


@given(policies(), st.data())
def test_rules_that_are_over_go_and_nobody_loses_by_it(policy: Policy, data: DataObject) -> None:
    now = data.draw(st.sampled_from(strategies.MOMENTS))
    left = [rule for rule in policy.rules if rule.window is None or not rule.window.over(now)]
    assert revoked(policy, strategies.with_rules(policy.mesh, left), ended=now) == frozenset()
