"""What the fixture `mesh` gives: a policy that is asked in Python."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from septum.cli.diagnostics import as_text
from septum.control.files import read_mesh_dir
from septum.model.case import Call, Case
from septum.model.claims import NO_TOKEN, Claims
from septum.model.decision import Decision, Effect
from septum.model.mesh import Protocol
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, Operation, RefusedOperation
from septum.model.policy import Policy
from septum.model.window import parse_time
from septum.policy.ask import http_operation, operation_of
from septum.policy.cases_file import no_request
from septum.policy.fit import suggestion
from septum.policy.load import load
from septum.verify.cases import Result, run

_SEGMENT = "segment:"
_OPERATIONS: dict[Protocol, tuple[type[Operation], ...]] = {
    Protocol.HTTP: (HttpOperation, RefusedOperation),
    Protocol.GRPC: (GrpcOperation,),
    Protocol.TCP: (ConnectOperation,),
}


class PolicyError(Exception):
    """There is no policy to ask: the text has every finding."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """Whether everything was decided as it was asked about: true or false, and why as its `repr`."""

    result: Result

    def __bool__(self) -> bool:
        return self.result.passed

    def __repr__(self) -> str:
        # pytest shows one line of it, and of that some 240 characters.
        answers = self.result.wrong or self.result.answers
        first = answers[0]
        more = f" (and {len(answers) - 1} more)" if len(answers) > 1 else ""
        asked = f"{first.call.caller} -> {first.call.target} {first.call.sent}"
        return f"<{first.decision.effect}: {asked}; {_why(first.decision)}{more}>"


def _why(decision: Decision) -> str:
    rule = decision.rule or (decision.nearest.rule if decision.nearest else None)
    place = f" at {rule.span.place}" if rule and rule.span else ""
    if decision.rule is not None:
        return f"by {decision.rule.id}{place}"
    nearest = f"nearest {rule.id}{place}; " if rule else ""
    return nearest + (decision.nearest.mismatch if decision.nearest else "")


@dataclass(frozen=True, repr=False)
class MeshUnderTest:
    """A policy, asked in Python. `segment:NAME` as caller or target stands for each member of the segment.

    Operations are `METHOD /path`, `package.Service/Method` or `connect`; `claims` are those of the end user's valid
    token. `at` is when it is asked: text as rules have it, a datetime with an offset, or seconds since 1970. What does
    not exist raises LookupError, and what is no operation ValueError, so that a slip is never taken for a denial.
    """

    policy: Policy
    now: float

    def __repr__(self) -> str:
        return f"<mesh {self.policy.mesh.name}, version {self.policy.version[:12]}>"

    def allows(
        self,
        caller: str,
        target: str,
        operation: str,
        *,
        claims: Mapping[str, object] | None = None,
        at: str | datetime | float | None = None,
        by: str = "",
        websocket: bool = False,
    ) -> Verdict:
        """Whether the policy allows it, by the rule `by` if that is given."""
        __tracebackhide__ = True
        if by and by not in {rule.id for rule in self.policy.rules}:
            raise LookupError(_unknown("rule", by, (rule.id for rule in self.policy.rules)))
        case = self._case(caller, target, operation, Effect.ALLOW, claims, at, by, websocket)
        return Verdict(run(self.policy, case, self.now))

    def denies(
        self,
        caller: str,
        target: str,
        operation: str,
        *,
        claims: Mapping[str, object] | None = None,
        at: str | datetime | float | None = None,
        websocket: bool = False,
    ) -> Verdict:
        """Whether the policy denies it. What is only observed counts as what it would be."""
        __tracebackhide__ = True
        case = self._case(caller, target, operation, Effect.DENY, claims, at, "", websocket)
        return Verdict(run(self.policy, case, self.now))

    def decide(
        self,
        caller: str,
        target: str,
        operation: str,
        *,
        claims: Mapping[str, object] | None = None,
        at: str | datetime | float | None = None,
        websocket: bool = False,
    ) -> Decision:
        """What the policy decides about one request of one caller to one target."""
        __tracebackhide__ = True
        case = self._case(caller, target, operation, Effect.DENY, claims, at, "", websocket)
        if len(case.calls) != 1:
            raise ValueError(f"{case.text} are {len(case.calls)} requests; one is decided at a time")
        return run(self.policy, case, self.now).answers[0].decision

    def _case(
        self,
        caller: str,
        target: str,
        operation: str,
        expect: Effect,
        claims: Mapping[str, object] | None,
        at: str | datetime | float | None,
        by: str,
        websocket: bool,
    ) -> Case:
        __tracebackhide__ = True
        calls = tuple(
            Call(one, other, self._operation(other, operation, websocket), operation)
            for one in self._members("workload", caller, self.policy.mesh.workloads)
            for other in self._members("workload or place outside", target, self.policy.mesh.targets)
        )
        text = f"{caller} -> {target} {operation}"
        return Case(calls, expect, by, self._claims(claims), _moment(at), text=text)

    def _operation(self, target: str, text: str, websocket: bool) -> Operation:
        __tracebackhide__ = True
        protocol = self.policy.mesh.targets[target].protocol
        operation = operation_of(text, protocol)
        if not isinstance(operation, _OPERATIONS[protocol]):
            raise ValueError(f"`{target}` speaks {protocol}, and `{text}` is not an operation of it")
        if protocol is not Protocol.HTTP:
            return operation
        method, _, path = text.partition(" ")
        if wrong := no_request(method, path):
            raise ValueError(f"{wrong.message}: `{text}`")
        return http_operation(method, path, websocket=websocket)

    def _claims(self, claims: Mapping[str, object] | None) -> Claims:
        __tracebackhide__ = True
        issuers = [issuer.issuer for issuer in self.policy.mesh.issuers.values()]
        if claims and claims.get("iss") not in issuers:
            raise LookupError(_unknown("issuer", str(claims.get("iss", "")), issuers))
        return claims or NO_TOKEN

    def _members(self, kind: str, name: str, known: Iterable[str]) -> tuple[str, ...]:
        __tracebackhide__ = True
        mesh = self.policy.mesh
        if name.startswith(_SEGMENT):
            segment = name.removeprefix(_SEGMENT)
            if segment not in mesh.segments:
                raise LookupError(_unknown("segment", segment, mesh.segments))
            if not mesh.members(segment):
                raise LookupError(f"no workload is in segment `{segment}`, so this asks nothing")
            return mesh.members(segment)
        if name not in known:
            raise LookupError(_unknown(kind, name, known))
        return (name,)


def read(directory: Path) -> MeshUnderTest:
    """The mesh in a directory. Raises PolicyError."""
    files = read_mesh_dir(directory)
    loaded = load(files)
    if loaded.policy is None:
        text = as_text(loaded.errors, files, colour=False, before=f"{directory}/")
        raise PolicyError(f"the policy in {directory} has errors, so there is nothing to ask\n\n{text}")
    return MeshUnderTest(loaded.policy, time.time())


def _moment(at: str | datetime | float | None) -> int | None:
    match at:
        case None:
            return None
        case str():
            return parse_time(at)
        case datetime() if at.tzinfo is None:
            raise ValueError(f"{at!r} has no offset, so it is no moment")
        case datetime():
            return int(at.timestamp())
        case _:
            return int(at)


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    help = suggestion(name, known)
    return f"no {kind} is called `{name}`" + (f"; {help}" if help else "")
