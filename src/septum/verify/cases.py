"""Policy tests run by the model: each case decided, and why where it is not as expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from septum.model.case import Call, Case
from septum.model.decision import Decision, Effect, Request
from septum.model.policy import Policy, Rule
from septum.policy.decide import decide


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided about one call of a case."""

    call: Call
    request: Request
    decision: Decision

    def fits(self, case: Case) -> bool:
        """Whether it is what the case expects, by the rule that it names."""
        rule = self.decision.rule
        return self.decision.effect is case.expect and (not case.by or (rule is not None and rule.id == case.by))


@dataclass(frozen=True, slots=True)
class Result:
    """A case and what was decided about each of its calls."""

    case: Case
    answers: tuple[Answer, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is as expected."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[Answer, ...]:
        """The answers that are not as expected."""
        return tuple(answer for answer in self.answers if not answer.fits(self.case))


def run(policy: Policy, case: Case, now: float) -> Result:
    """Decide the calls of a case; those that do not say when are asked at `now`."""
    return Result(case, tuple(_answer(policy, case, call, now) for call in case.calls))


def run_all(policy: Policy, cases: Iterable[Case], now: float) -> tuple[Result, ...]:
    """The results of cases, in their order."""
    return tuple(run(policy, case, now) for case in cases)


def _answer(policy: Policy, case: Case, call: Call, now: float) -> Answer:
    request = case.request(call, now)
    return Answer(call, request, decide(policy, request))


def why(case: Case, answer: Answer, before: str = "") -> Iterator[str]:
    """In lines, why an answer is not what the case expects. `before` is put before each file's name."""
    call, decision = answer.call, answer.decision
    expected = f"{case.expect} by {case.by}" if case.by else str(case.expect)
    yield f"{call.caller} -> {call.target}  {call.sent}: expected {expected}, decided {decision.effect}"
    yield from because(decision, before)
    if case.because:
        yield f"  expected because {case.because}"


def because(decision: Decision, before: str = "") -> Iterator[str]:
    """In lines, the rule that allows, or the one that came nearest and what of it did not match."""
    if decision.rule is not None:
        yield f"  rule     {_shown(decision.rule, before)}"
        return
    nearest = decision.nearest
    if nearest is not None and nearest.rule is not None:
        yield f"  nearest  {_shown(nearest.rule, before)}"
    if nearest is not None:
        yield f"  reason   {nearest.mismatch}"


def expectation(case: Case) -> str:
    """What a case expects, in words that a title can end in."""
    verb = "is allowed" if case.expect is Effect.ALLOW else "is denied"
    return f"{verb} by {case.by}" if case.by else verb


def _shown(rule: Rule, before: str) -> str:
    return f"{rule.id}  {before}{rule.span.place}" if rule.span else rule.id
