"""A trial from its cases to what the proxy decided about each of their calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from septum.app.trial.backends import backends
from septum.app.trial.calling import Client, Heard, NoAnswerError, Question
from septum.app.trial.proxy import PortTakenError, Proxy, free_ports, running
from septum.app.trial.stage import staged, windows_at, without_windows
from septum.app.trial.tokens import Signer
from septum.app.trial.verdict import Seen, Tried
from septum.audit.line import Line
from septum.audit.outcome import ALLOW, outcome
from septum.model.decision import Effect
from septum.model.mesh import Address, Protocol
from septum.model.operation import ConnectOperation
from septum.model.policy import Policy
from septum.policy.decide import goes_through
from septum.verify.cases import Answer, Result

# How many calls are open at one time.
_AT_ONCE = 50
# How often ports are picked again that were taken in between.
_TRIES = 3


# Is told how many calls were answered so far.
Progress = Callable[[int], None]


async def trial(
    policy: Policy, results: Sequence[Result], now: float, progress: Progress = lambda _: None
) -> tuple[Tried, ...]:
    """Ask a real proxy about each call of the cases, as they were decided by the model at `now`.

    Raises TrialError and MissingEnvoyError.
    """
    for _ in range(_TRIES - 1):
        try:
            return await _trial(policy, results, now, progress)
        except PortTakenError:
            continue
    return await _trial(policy, results, now, progress)


async def _trial(policy: Policy, results: Sequence[Result], now: float, progress: Progress) -> tuple[Tried, ...]:
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(backends())
        proxy = await stack.enter_async_context(running())
        trial = _Trial(policy, results, now, at, proxy, progress)
        stack.push_async_callback(trial.client.close)
        return await trial.run()


@dataclass(frozen=True, slots=True)
class _Asked:
    """An answer of the model, and how the proxy is asked for its own."""

    result: Result
    answer: Answer
    question: Question


class _Trial:
    """The cases of one policy against one proxy."""

    def __init__(
        self,
        policy: Policy,
        results: Sequence[Result],
        now: float,
        at: Mapping[Protocol, Address],
        proxy: Proxy,
        progress: Progress,
    ) -> None:
        named = {name for result in results for call in result.case.calls for name in (call.caller, call.target)}
        self._fronted = tuple(name for name in policy.mesh.workloads if name in named)
        outbound = dict(zip(self._fronted, free_ports(len(self._fronted)), strict=True))
        self._policy, self._results, self._now, self._proxy = policy, results, now, proxy
        self._signer, self._progress = Signer(), progress
        self._staged = staged(policy, at, outbound, self._signer.jwks)
        self._asked = self._answered = 0
        self.client = Client(self._staged.mesh)

    async def run(self) -> tuple[Tried, ...]:
        """All cases, those together that one compiled policy answers."""
        groups: dict[frozenset[str] | None, list[Result]] = {}
        for result in self._results:
            moment = self._now if result.case.at is None else result.case.at
            groups.setdefault(windows_at(self._policy, moment, time.time()), []).append(result)
        tried: dict[int, list[Tried]] = {}
        for holding, group in groups.items():
            enforced = self._staged if holding is None else without_windows(self._staged, holding)
            await self._proxy.hold(enforced, self._fronted)
            for result, found in zip(group, await self._group(group), strict=True):
                tried[id(result)] = found
        return tuple(one for result in self._results for one in tried[id(result)])

    async def _group(self, group: Sequence[Result]) -> list[list[Tried]]:
        gate = asyncio.Semaphore(_AT_ONCE)
        asked = [
            _Asked(result, answer, self._question(result, answer)) for result in group for answer in result.answers
        ]
        heard = await asyncio.gather(*(self._ask(one.question, gate) for one in asked))
        decided = [
            one.question.id for one, it in zip(asked, heard, strict=True) if isinstance(it, Heard) and not it.undecided
        ]
        lines = await self._proxy.decisions(decided)
        tried = {
            id(one.answer): self._tried(one, it, lines.get(one.question.id))
            for one, it in zip(asked, heard, strict=True)
        }
        return [[tried[id(answer)] for answer in result.answers] for result in group]

    def _question(self, result: Result, answer: Answer) -> Question:
        call, claims = answer.call, dict(result.case.claims)
        self._asked += 1
        token = ""
        if claims and not isinstance(call.operation, ConnectOperation):
            known = (issuer for issuer in self._policy.mesh.issuers.values() if issuer.issuer == claims.get("iss"))
            token = self._signer.token({"aud": next(known).audiences[0], **claims}, time.time())
        return Question(call.caller, call.target, call.operation, call.sent, token, f"septum-test-{self._asked}")

    async def _ask(self, question: Question, gate: asyncio.Semaphore) -> Heard | NoAnswerError:
        async with gate:
            try:
                return await self.client.ask(question)
            except NoAnswerError as error:
                return error
            finally:
                self._answered += 1
                self._progress(self._answered)

    def _tried(self, asked: _Asked, heard: Heard | NoAnswerError, line: Line | None) -> Tried:
        result, answer = asked.result, asked.answer
        if isinstance(heard, NoAnswerError):
            return Tried(result, answer, None, str(heard))
        if heard.undecided:
            seen = Seen(Effect.DENY, "", passed=False)
        elif line is None:
            return Tried(result, answer, None, "the proxy wrote no decision about it")
        else:
            said = outcome(line)
            seen = Seen(Effect.ALLOW if said.would_be == ALLOW else Effect.DENY, said.rule, heard.passed)
        return Tried(result, answer, seen, disagreement=self._disagreement(answer, seen))

    def _disagreement(self, answer: Answer, seen: Seen) -> str:
        """In what the proxy and the model differ; empty when they agree."""
        decision = answer.decision
        if seen.effect is not decision.effect:
            return f"the model says {decision.effect}, the proxy {seen.effect}{f' by {seen.rule}' if seen.rule else ''}"
        if decision.rule is not None and decision.rule.id != seen.rule:
            return f"both allow it: the model by {decision.rule.id}, the proxy by {seen.rule or 'no rule'}"
        passes = goes_through(self._policy, answer.request)
        if passes and not seen.passed:
            return "it should have reached its target, and did not"
        if seen.passed and not passes:
            return "it reached its target, and should not have"
        return ""
