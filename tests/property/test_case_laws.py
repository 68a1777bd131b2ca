"""Laws of policy tests: what the stage of a trial changes decides nothing, and what coverage counts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

import strategies
from septum.app.trial.stage import staged, windows_at, without_windows
from septum.model.case import Call, Case
from septum.model.decision import Effect
from septum.model.mesh import Address, Protocol
from septum.model.policy import Policy
from septum.policy.decide import decide, goes_through
from septum.verify.cases import run_all
from septum.verify.coverage import coverage

AT = {protocol: Address("127.0.0.1", 20000 + number) for number, protocol in enumerate(Protocol)}


@settings(max_examples=25)
@given(st.data())
def test_whatever_is_asked_is_decided_on_the_stage_as_it_is_in_the_mesh(data: st.DataObject) -> None:
    policy: Policy = data.draw(strategies.wide_meshes().flatmap(strategies.policies))
    stage = staged(policy, AT, {}, "{}")
    for _ in range(2):
        request = data.draw(strategies.requests(policy))
        before, after = decide(policy, request), decide(stage, request)
        assert (after.effect, after.rule) == (before.effect, before.rule)
        assert goes_through(stage, request) == goes_through(policy, request)


@settings(max_examples=25)
@given(st.data())
def test_the_rules_of_a_moment_decide_at_any_time_as_all_rules_do_at_that_moment(data: st.DataObject) -> None:
    policy: Policy = data.draw(strategies.wide_meshes().flatmap(strategies.policies))
    request = data.draw(strategies.requests(policy))
    assume(request.time is not None)
    assert request.time is not None
    holding = windows_at(policy, request.time, request.time + 10**6)
    of_moment = without_windows(policy, holding) if holding is not None else policy
    assert all(rule.window is None for rule in of_moment.rules)
    wanted = decide(policy, request)
    for time in (None, 0.0, request.time):
        found = decide(of_moment, replace(request, time=time))
        assert (found.effect, found.rule and found.rule.id) == (wanted.effect, wanted.rule and wanted.rule.id)


@settings(max_examples=25)
@given(st.data())
def test_a_rule_is_touched_when_and_only_when_it_decided_a_call(data: st.DataObject) -> None:
    policy: Policy = data.draw(strategies.policies())
    requests = data.draw(st.lists(strategies.requests(policy), max_size=8))
    cases = [Case((Call(r.caller, r.target, r.operation, str(r.operation)),), Effect.ALLOW) for r in requests]
    results = run_all(policy, cases, 0.0)
    found = coverage(policy, results)
    deciding = {answer.decision.rule.id for one in results for answer in one.answers if answer.decision.rule}
    assert {entry.rule.id for entry in found.entries if entry.calls} == deciding
    assert len(found.entries) >= len(policy.rules)
