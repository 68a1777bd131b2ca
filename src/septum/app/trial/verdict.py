"""What became of a case: by the model alone, or by the model and a proxy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from septum.model.decision import Effect
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, RefusedOperation
from septum.model.window import time_text
from septum.verify.cases import Answer, Result, why


@dataclass(frozen=True, slots=True)
class Seen:
    """What the proxy decided about one call, and whether it let it through."""

    effect: Effect
    rule: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """One call of a case, as the model and as the proxy have it. Without `seen`, `trouble` says what went wrong."""

    result: Result
    answer: Answer
    seen: Seen | None
    trouble: str = ""
    disagreement: str = ""


class Fate(Enum):
    """How a case ended, as a letter and in a word."""

    PASSED = (".", "passed")
    FAILED = ("F", "failed")
    DISAGREED = ("D", "the proxy and the model disagree")
    TROUBLED = ("E", "could not be asked")

    def __init__(self, letter: str, word: str) -> None:
        self.letter, self.word = letter, word


@dataclass(frozen=True, slots=True)
class Ran:
    """A case, what the model says of it and, if one was asked, what a proxy says."""

    result: Result
    tried: tuple[Tried, ...] = ()

    @property
    def fate(self) -> Fate:
        """The worst of what happened: a proxy that contradicts the model is worse than a wrong expectation."""
        if any(one.disagreement for one in self.tried):
            return Fate.DISAGREED
        if any(one.trouble for one in self.tried):
            return Fate.TROUBLED
        return Fate.PASSED if self.result.passed else Fate.FAILED

    def lines(self, before: str = "") -> Iterator[str]:
        """Why it did not pass, and whose fault that is. `before` is put before each file's name."""
        for one in self.tried:
            asked = f"{one.answer.call.caller} -> {one.answer.call.target}  {one.answer.call.sent}"
            if one.disagreement:
                yield f"{asked}: {one.disagreement}"
                yield "  the proxy and the model disagree: a bug of Septum, not of your policy; please report it, with"
                yield f"  the policy and this case: {self._alone(one)}"
            elif one.trouble:
                yield f"{asked}: {one.trouble}"
        for answer in self.result.wrong:
            yield from why(self.result.case, answer, before)
        if self.tried and self.fate is Fate.FAILED:
            yield "  the proxy decides as the model does: the test, or the policy, is not as it should be"

    def _alone(self, one: Tried) -> str:
        """A case of one call, as a test file has it."""
        case, call = self.result.case, one.answer.call
        key = _KEYS[type(call.operation)]
        parts = [f"from: {call.caller}", f"to: {call.target}", f"{key}: {json.dumps(call.sent)}"]
        if isinstance(call.operation, ConnectOperation):
            parts[-1] = f"{key}: true"
        if isinstance(call.operation, HttpOperation) and call.operation.websocket:
            parts.append("websocket: true")
        parts += [f"claims: {json.dumps(dict(case.claims))}"] if case.claims else []
        parts += [f"at: {time_text(case.at)}"] if case.at is not None else []
        return f"{{{', '.join([*parts, f'expect: {case.expect}'])}}}"


_KEYS = {HttpOperation: "http", RefusedOperation: "http", GrpcOperation: "grpc", ConnectOperation: "connect"}


def joined(results: Iterable[Result], tried: Iterable[Tried] = ()) -> tuple[Ran, ...]:
    """Each result with what the proxy made of its calls."""
    of: dict[int, list[Tried]] = {}
    for one in tried:
        of.setdefault(id(one.result), []).append(one)
    return tuple(Ran(result, tuple(of.get(id(result), ()))) for result in results)
