"""Which rules, and which single operations within them, the policy tests have touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from septum.model.mesh import Target
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, Operation
from septum.model.policy import Policy, Rule
from septum.policy.decide import path_covers
from septum.verify.cases import Result

# How the one operation of a rule about TCP is called.
CONNECT = "connect"


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation of a rule, as it is written, and how many calls of tests it allowed."""

    rule: Rule
    operation: str
    calls: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every operation of every rule, in policy order."""

    entries: tuple[Entry, ...]

    @property
    def touched(self) -> int:
        """How many operations some test touched."""
        return sum(entry.calls > 0 for entry in self.entries)

    @property
    def percent(self) -> float:
        """The share of operations that were touched; all of them where there are none."""
        return 100 * self.touched / len(self.entries) if self.entries else 100.0

    @property
    def untouched_rules(self) -> tuple[Rule, ...]:
        """The rules of which no operation was touched."""
        touched = {entry.rule.id for entry in self.entries if entry.calls}
        rules = {entry.rule.id: entry.rule for entry in self.entries}
        return tuple(rule for id, rule in rules.items() if id not in touched)


def coverage(policy: Policy, results: Iterable[Result]) -> Coverage:
    """What the results touch: the rule that each allowed call is decided by, and its operations that open the call."""
    calls = Counter(key for result in results for key in _touched(policy, result))
    return Coverage(
        tuple(Entry(rule, operation, calls[rule.id, operation]) for rule in policy.rules for operation in written(rule))
    )


def written(rule: Rule) -> tuple[str, ...]:
    """The operations of a rule as they are written, each once."""
    if rule.operations is None:
        return (CONNECT,)
    return tuple(dict.fromkeys(pattern.text for pattern in rule.operations))


def _touched(policy: Policy, result: Result) -> Iterator[tuple[str, str]]:
    for answer in result.answers:
        rule = answer.decision.rule
        if rule is not None:
            target = policy.mesh.targets[answer.request.target]
            yield from {(rule.id, operation) for operation in opening(rule, target, answer.request.operation)}


def opening(rule: Rule, target: Target, operation: Operation) -> Iterator[str]:
    """The operations of a rule, as written, that cover an operation on one of its targets."""
    if isinstance(operation, ConnectOperation):
        yield CONNECT
        return
    asked = HttpOperation("POST", f"/{operation}") if isinstance(operation, GrpcOperation) else operation
    if isinstance(asked, HttpOperation):
        for pattern in rule.operations or ():
            if asked.method in pattern.methods and path_covers(pattern, target, asked.path):
                yield pattern.text
