"""Laws of what is needless: without it the same is decided, nothing more is needless then, and the rest is needed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

import strategies
from septum.model.policy import Policy
from septum.policy.decide import decide
from septum.policy.upkeep.cuts import after
from septum.verify.diff import diff
from septum.verify.needless import needless
from septum.verify.spared import merged

NOW = 1_800_000_000.0


def without(policy: Policy, cuts: list[tuple[str, int | None]]) -> Policy:
    return replace(policy, rules=after(policy.rules, merged(cuts)))


@given(st.data())
def test_without_what_is_needless_the_same_is_decided(data: st.DataObject) -> None:
    policy = data.draw(strategies.policies(data.draw(strategies.wide_meshes()), most=8))
    cuts = [(one.rule.id, one.operation) for one in needless(policy, NOW)]
    left = without(policy, cuts)
    found = diff(policy, left, NOW)
    assert (found.allowed, found.denied, found.shifts) == ((), (), ())
    for request in data.draw(st.lists(strategies.requests(policy), min_size=1, max_size=8)):
        later = replace(request, time=NOW + 1)
        assert decide(policy, later).allowed == decide(left, later).allowed
    assert needless(left, NOW) == ()
    # Any part of it may be left.
    some = without(policy, data.draw(st.lists(st.sampled_from(cuts), unique=True)) if cuts else [])
    found = diff(policy, some, NOW)
    assert (found.allowed, found.denied) == ((), ())


@given(st.data())
def test_what_is_left_is_needed(data: st.DataObject) -> None:
    """Where no segment is named, so that nobody can come to one later: whatever else goes, somebody loses something."""
    mesh = data.draw(strategies.wide_meshes())
    drawn = data.draw(strategies.policies(mesh, most=4))
    plain = tuple(
        replace(rule, callers_text=",".join(rule.callers), targets_text=",".join(rule.targets)) for rule in drawn.rules
    )
    policy = replace(drawn, rules=plain)
    left = without(policy, [(one.rule.id, one.operation) for one in needless(policy, NOW)])
    for rule in left.rules:
        if rule.callers and not (rule.window is not None and rule.window.over(NOW)):
            assert diff(left, without(left, [(rule.id, None)]), NOW).denied != ()
            for index in range(len(rule.operations or ())):
                assert diff(left, without(left, [(rule.id, index)]), NOW).denied != ()
