"""Sets of requests by one caller to one target, exact over the whole language: operations, paths, claims and times.

A set is asked in one order: what kind of operation (`diagram.KIND`), whether its path has parameters, its segments, the
claims of its token, and when. `decide` gives the same answers one request at a time, and the tests hold both to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from septum.model.claims import AnyOf, Claims, Contains, Equals, Scope, Test, Value, When
from septum.model.mesh import Protocol, Target
from septum.model.operation import (
    METHODS,
    ConnectOperation,
    GrpcOperation,
    HttpOperation,
    HttpPattern,
    Operation,
    PathPattern,
    RefusedOperation,
)
from septum.model.policy import Rule
from septum.model.window import Window
from septum.policy.decide import DOT_WITH_PARAMETERS
from septum.verify import diagram
from septum.verify.diagram import (
    END,
    KIND,
    LIST,
    PARAMETERS,
    TEXT,
    TIME,
    WITH,
    WITH_DOTS,
    Answer,
    Ask,
    Folded,
    Node,
    Variable,
    ask,
    follow,
)
from septum.verify.witness import Asked, search

CONNECT: Answer = ("connect",)
# Answers to KIND that no rule can open.
_REFUSED: Answer = ("refused",)


@dataclass(frozen=True, slots=True)
class Region:
    """A set of requests. Two regions with one `node` are equal; the other way round, ask whether a difference is empty.

    EVERYTHING also holds what no rule can open, such as requests without a safe reading.
    """

    node: Node

    def __or__(self, other: Region) -> Region:
        return Region(diagram.either(self.node, other.node))

    def __and__(self, other: Region) -> Region:
        return Region(diagram.both(self.node, other.node))

    def __sub__(self, other: Region) -> Region:
        return Region(diagram.without(self.node, other.node))

    def __bool__(self) -> bool:
        """Whether there is such a request at all."""
        return self.node is not False and (self.node is True or search(self.node) is not None)

    def witness(self, target: Target) -> Asked | None:
        """One request of the set to the target that it is about, as plain as can be, or None."""
        return search(self.node, target)

    def contains(self, operation: Operation, claims: Claims, time: float) -> bool:
        """Whether a request is in the set. `time` is in seconds since 1970."""
        kind, path = _asked_of(operation)
        return self.holds(kind, path, claims, time)

    def holds(self, kind: Answer, path: str, claims: Claims, time: float) -> bool:
        """`contains` for who asks it a million times: `kind` is (method, websocket), or CONNECT."""
        parts, node = path[1:].split("/"), self.node
        while isinstance(node, Ask):
            variable = node.variable
            if variable[0] == 2:
                answer = parts[variable[1]] if variable[1] < len(parts) else END
            else:
                answer = kind if variable is KIND else _answer(variable, path, claims, time)
            node = follow(node, answer)
        return node


NOTHING = Region(False)
EVERYTHING = Region(True)


def since(moment: float) -> Region:
    """Whatever is asked from a moment on (seconds since 1970)."""
    return Region(ask(TIME, {moment: True}, False))


def of_rules(rules: Iterable[Rule], target: Target) -> Region:
    """What rules open on a target, for a caller whom all of them name."""
    return union(of_rule(rule, target) for rule in rules)


def of_rule(rule: Rule, target: Target) -> Region:
    """What one rule opens on a target that it names."""
    leaf = _under(rule.when, rule.window)
    if rule.operations is None:
        return Region(ask(KIND, {CONNECT: leaf}, False) if target.protocol is Protocol.TCP else False)
    return _opened(rule.operations, target, leaf)


def of_patterns(patterns: Iterable[HttpPattern], target: Target) -> Region:
    """What operations cover on a target, with any token and at any time, as a rule that names them would."""
    return _opened(tuple(patterns), target, True)


def of_connect(target: Target) -> Region:
    """Opening a session, where the target is one of TCP."""
    return Region(ask(KIND, {CONNECT: True}, False) if target.protocol is Protocol.TCP else False)


def under(when: When | None, window: Window | None) -> Region:
    """Whatever is asked with a token that passes, within a window."""
    return Region(_under(when, window))


def union(regions: Iterable[Region]) -> Region:
    """All of them together; in pairs of like size, so that many small ones cost little more than their sum."""
    nodes = [region.node for region in regions]
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [diagram.either(one, other) for one, other in pairs] + (nodes[-1:] if len(nodes) % 2 else [])
    return Region(nodes[0]) if nodes else NOTHING


def _opened(patterns: Sequence[HttpPattern], target: Target, leaf: Node) -> Region:
    if target.protocol is Protocol.TCP:
        return NOTHING
    by_methods: dict[tuple[str, ...], list[Node]] = {}
    for pattern in patterns:
        by_methods.setdefault(pattern.methods, []).append(_paths(pattern.path, target, leaf))
    regions = [_of_methods(methods, target, nodes) for methods, nodes in by_methods.items()]
    return union(regions)


def _of_methods(methods: Iterable[str], target: Target, paths: Iterable[Node]) -> Region:
    path = union(Region(node) for node in paths).node
    opened = ask(PARAMETERS, {WITH_DOTS: False} if target.path_parameters else {WITH: False, WITH_DOTS: False}, path)
    kinds = {(method, False): opened for method in methods if method in METHODS}
    if target.websocket:
        kinds |= {(method, True): opened for method in methods if method in METHODS}
    return Region(ask(KIND, kinds, False))


def _paths(pattern: PathPattern, target: Target, leaf: Node) -> Node:
    """The paths of a pattern. A health path is among them only where it is spelled out."""
    health = target.health
    if health is not None and (
        pattern.literal is not None or not pattern.matches(health, ignore_case=target.ignore_case)
    ):
        health = None  # it is spelled out, or the pattern is nowhere near it
    return _matching(pattern, target.ignore_case, health, leaf)


@lru_cache(16384)
def _matching(pattern: PathPattern, ignore_case: bool, but: str | None, leaf: Node) -> Node:
    """The paths that a pattern matches, but for one."""
    if but is not None:
        excluded = PathPattern(but, tuple(but[1:].split("/")))
        return diagram.without(
            _matching(pattern, ignore_case, None, leaf), _matching(excluded, ignore_case, None, True)
        )
    count = len(pattern.segments)
    node = leaf if pattern.tail else ask(diagram.segment(count), {END: leaf}, False)
    for index in reversed(range(count)):
        written = pattern.segments[index]
        if written is None:
            node = ask(diagram.segment(index), {"": False, END: False}, node)
        else:
            node = ask(diagram.segment(index), {_written(written, ignore_case): node}, False)
    return node


def _written(text: str, ignore_case: bool) -> Answer:
    return Folded(text.lower()) if ignore_case and text.lower() != text.upper() else text


def _under(when: When | None, window: Window | None) -> Node:
    """The leaf of a rule: its claims, then its time."""
    node: Node = True if window is None else _within(window)
    for name, test in sorted(when.claims if when else (), key=lambda entry: entry[0], reverse=True):
        node = _passing(name, test, node)
    return node


def _within(window: Window) -> Node:
    begins: dict[Answer, Node] = {} if window.from_time is None else {window.from_time: True}
    ends: dict[Answer, Node] = {} if window.until is None else {window.until: False}
    return ask(TIME, begins | ends, window.from_time is None)


def _passing(name: str, test: Test, node: Node) -> Node:
    """The claim passes the test, and then `node`."""
    value = diagram.claim(name)
    match test:
        case Equals(wanted):
            return ask(value, {_typed(wanted): node}, False)
        case AnyOf(values):
            return ask(value, {_typed(one): node for one in values}, False)
        case Contains(wanted):
            return ask(value, {LIST: ask(diagram.item(name, _typed(wanted)), {True: node}, False)}, False)
        case Scope(word):
            return ask(value, {TEXT: ask(diagram.spoken(name, word), {True: node}, False)}, False)
        case _:
            assert_never(test)


def _typed(value: Value | float) -> tuple[str, Value | float]:
    """A value with its JSON type: `true` is no number, and `"1"` is not 1."""
    kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return (kind, value)


def _asked_of(operation: Operation) -> tuple[Answer, str]:
    match operation:
        case ConnectOperation():
            return CONNECT, "/"
        case RefusedOperation():
            return _REFUSED, "/"
        case GrpcOperation(service, method):
            return ("POST", False), f"/{service}/{method}"
        case HttpOperation(method, path, websocket):
            return (method, websocket), path
        case _:
            assert_never(operation)


def _answer(variable: Variable, path: str, claims: Claims, time: float) -> Answer:
    """What a request answers to a variable other than its kind and its segments."""
    if variable is PARAMETERS:
        return ("without",) if ";" not in path else WITH_DOTS if DOT_WITH_PARAMETERS.search(path) else WITH
    return time if variable is TIME else _of_claim(variable, claims)


def _of_claim(variable: Variable, claims: Claims) -> Answer:
    value = claims.get(variable[1])
    match variable[2]:
        case 0:
            if isinstance(value, list):
                return LIST
            return _typed(value) if isinstance(value, str | int | float) else ("missing",)
        case 1:
            wanted = variable[3:]
            held = value if isinstance(value, list) else []
            typed = (_typed(one) for one in held if isinstance(one, str | int | float))
            return any(kind == wanted[0] and str(_whole(one)) == wanted[1] for kind, one in typed)
        case _:
            return isinstance(value, str) and variable[3] in value.split(" ")


def _whole(value: Value | float) -> Value | float:
    """JSON has one kind of number: 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
