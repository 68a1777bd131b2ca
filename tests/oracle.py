"""The meaning of the policy language a second time, for z3: what docs/policy.md says, as formulas.

This knows nothing of `decide` and of the set algebra, so that all three can be held to each other. A `Question` is about
the requests to one target: its variables are a request, each rule is a formula over them, and a difference between two
sets of rules is a formula that z3 satisfies, with a request to show, or shows to be unsatisfiable.

Paths are sequences of texts, as long as any pattern that is asked about and two segments longer: a longer path tells no
two patterns apart that this one does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from septum.model.claims import AnyOf, Claims, Contains, Equals, Scope, Test, Value
from septum.model.decision import Request
from septum.model.mesh import Protocol, Target
from septum.model.operation import (
    METHODS,
    ConnectOperation,
    GrpcOperation,
    HttpOperation,
    HttpPattern,
    Operation,
    RefusedOperation,
)
from septum.model.policy import Rule

# Methods that no rule can allow; one stands for all of them.
_OTHER_METHOD = "TRACE"
# Of what a free segment is made: RFC 3986 `pchar` without escapes. The escapes of literals are added to it.
_SEGMENT_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~!$&'()+,=:@;-"
_MISSING, _TEXT, _NUMBER, _TRUTH, _LIST, _ELSE = range(6)
# Milliseconds; z3 answers in a few.
_PATIENCE = 60_000


class Undecided(AssertionError):
    """z3 gave up, so that nothing is shown."""


@dataclass(frozen=True)
class _Claim:
    """One claim of a token: its kind, its value as each kind, and which of the values asked about its list holds."""

    kind: Any
    text: Any
    number: Any
    truth: Any
    holds: dict[str, tuple[Value, Any]]


class Question:
    """The requests to one target, by a caller that all of the rules name."""

    def __init__(self, target: Target, rules: Iterable[Rule], *, segments: int = 0) -> None:
        """`rules` are all that will be asked about; `segments` is how many a path has that will be looked up."""
        rules = tuple(rules)
        patterns = [pattern for rule in rules for pattern in rule.operations or ()]
        self._target = target
        self.longest = max([segments, 1, *(len(pattern.path.segments) for pattern in patterns)]) + 2
        self._connect, self._websocket = z3.Bool("connect"), z3.Bool("websocket")
        self._method, self._length = z3.String("method"), z3.Int("length")
        self._path = [z3.String(f"segment{at}") for at in range(self.longest)]
        self._known, self._time = z3.Bool("time is known"), z3.Real("time")
        self._claims = _claims(rules)
        self._literals = {s for pattern in patterns for s in pattern.path.segments if s is not None}

    # --- what is asked

    def difference(self, of: Iterable[Rule], without: Iterable[Rule], caller: str = "") -> Request | None:
        """A request that some rule of the first allows and none of the second, or None where there is none."""
        return self.satisfying(z3.And(self.allowed(of), z3.Not(self.allowed(without))), caller)

    def satisfying(self, formula: Any, caller: str = "") -> Request | None:
        """A request that exists and for which the formula is true, or None where there is none."""
        solver = z3.Solver()
        solver.set("timeout", _PATIENCE)
        solver.add(self.exists(), formula)
        found = solver.check()
        if found == z3.unknown:
            raise Undecided(f"{solver.reason_unknown()}:\n{solver.sexpr()}")
        return self._request(solver.model(), caller) if found == z3.sat else None

    def allows(self, rules: Iterable[Rule], request: Request) -> bool:
        """Whether a rule allows this one request."""
        return not isinstance(request.operation, RefusedOperation) and self.holds(self.allowed(rules), request)

    def holds(self, formula: Any, request: Request) -> bool:
        """Whether a formula is true of this one request."""
        value = z3.simplify(z3.substitute(formula, *self._values(request)))
        assert z3.is_true(value) or z3.is_false(value), value
        return z3.is_true(value)

    # --- the language

    def exists(self) -> Any:
        """What every request is: a session, or a method and a normalised path; claims of one kind each."""
        first = self._path[: self.longest - 1]
        inner = [z3.Implies(self._length > at + 1, segment != "") for at, segment in enumerate(first)]
        only_slashes = z3.And(self._length == 2, self._path[0] == "", self._path[1] == "")
        free = z3.Star(z3.Union(*[z3.Re(character) for character in _SEGMENT_CHARACTERS]))
        word = z3.Union(free, *[z3.Re(form) for s in sorted(self._literals) for form in {s, s.lower()} if "%" in s])
        shaped = [z3.And(z3.InRe(segment, word), segment != ".", segment != "..") for segment in self._path]
        methods = [self._method == method for method in (*METHODS, _OTHER_METHOD)]
        kinds = [z3.And(claim.kind >= _MISSING, claim.kind <= _ELSE) for claim in self._claims.values()]
        speaks_tcp = self._target.protocol is Protocol.TCP
        return z3.And(
            self._connect == speaks_tcp,
            z3.Implies(self._connect, z3.Not(self._websocket)),
            self._length >= 1,
            self._length <= self.longest,
            z3.Or(z3.And(*inner), only_slashes),
            *shaped,
            z3.Or(*methods),
            *kinds,
        )

    def allowed(self, rules: Iterable[Rule]) -> Any:
        """Some rule allows it."""
        return _any(self.rule(rule) for rule in rules)

    def rule(self, rule: Rule) -> Any:
        """What one rule allows: its operations, for the tokens and at the times that it asks for."""
        asked = [self._operations(rule.operations)]
        if rule.when is not None:
            asked += [self._test(self._claims[name], test) for name, test in rule.when.claims]
        if rule.window is not None:
            begins, ends = rule.window.from_time, rule.window.until
            asked += [self._known]
            asked += [self._time >= begins] if begins is not None else []
            asked += [self._time < ends] if ends is not None else []
        return z3.And(*asked)

    def _operations(self, patterns: Sequence[HttpPattern] | None) -> Any:
        if patterns is None:
            return self._connect
        readable = [z3.Not(self._connect)]
        if not self._target.path_parameters:
            readable.append(z3.Not(self._somewhere(lambda segment: z3.Contains(segment, ";"))))
        for dots in (".;", "..;"):
            readable.append(z3.Not(self._somewhere(lambda segment, dots=dots: z3.PrefixOf(dots, segment))))
        if not self._target.websocket:
            readable.append(z3.Not(self._websocket))
        return z3.And(*readable, _any(self._pattern(pattern) for pattern in patterns))

    def _pattern(self, pattern: HttpPattern) -> Any:
        method = _any(self._method == method for method in pattern.methods)
        opened = z3.And(method, self._covered(pattern.path.segments, tail=pattern.path.tail))
        if self._target.health is None:
            return opened
        health = self._covered(tuple(self._target.health[1:].split("/")), tail=False)
        # A pattern that is a literal opens one path: where that is the health path, it is spelled out.
        spelled_out = not pattern.path.tail and None not in pattern.path.segments
        return opened if spelled_out else z3.And(opened, z3.Not(health))

    def _covered(self, segments: Sequence[str | None], *, tail: bool) -> Any:
        length = self._length >= len(segments) if tail else self._length == len(segments)
        pairs = zip(segments, self._path, strict=False)
        return z3.And(length, *[seen != "" if s is None else self._word(seen, s) for s, seen in pairs])

    def _word(self, seen: Any, written: str) -> Any:
        if not self._target.ignore_case or written.lower() == written.upper():
            return seen == written
        forms = [_union(sorted({character.lower(), character.upper()})) for character in written]
        return z3.InRe(seen, z3.Concat(*forms) if len(forms) > 1 else forms[0])

    def _somewhere(self, has: Any) -> Any:
        return z3.Or(*[z3.And(self._length > at, has(segment)) for at, segment in enumerate(self._path)])

    def _test(self, claim: _Claim, test: Test) -> Any:
        match test:
            case Equals(value):
                return _same(claim, value)
            case AnyOf(values):
                return _any(_same(claim, value) for value in values)
            case Contains(value):
                return z3.And(claim.kind == _LIST, claim.holds[json.dumps(value)][1])
            case Scope(word):
                return z3.And(claim.kind == _TEXT, _any(_places(claim.text, word)))

    # --- one request

    def _values(self, request: Request) -> list[tuple[Any, Any]]:
        """The variables, each with what it is in a request."""
        method, path, websocket = _seen(request.operation)
        segments = path[1:].split("/") if path else [""]
        assert len(segments) <= self.longest, f"ask for at least {len(segments)} segments"
        padded = [*segments, *[""] * (self.longest - len(segments))]
        values = [(self._connect, z3.BoolVal(isinstance(request.operation, ConnectOperation)))]
        values += [(self._websocket, z3.BoolVal(websocket)), (self._method, z3.StringVal(method))]
        values += [(self._length, z3.IntVal(len(segments)))]
        values += [(name, z3.StringVal(segment)) for name, segment in zip(self._path, padded, strict=True)]
        values += [(self._known, z3.BoolVal(request.time is not None)), (self._time, z3.RealVal(str(request.time or 0)))]
        for name, claim in self._claims.items():
            values += _claim_values(claim, request.claims, name)
        return values

    def _request(self, model: Any, caller: str) -> Request:
        def value(of: Any) -> Any:
            return model.eval(of, model_completion=True)

        operation: Operation = ConnectOperation()
        if not z3.is_true(value(self._connect)):
            segments = [value(segment).as_string() for segment in self._path[: value(self._length).as_long()]]
            path = "/" + "/".join(segments)
            operation = HttpOperation(value(self._method).as_string(), path, z3.is_true(value(self._websocket)))
        found = {name: _claim_shown(claim, value) for name, claim in self._claims.items()}
        claims = {name: shown[0] for name, shown in found.items() if shown}
        time = float(value(self._time).as_fraction()) if z3.is_true(value(self._known)) else None
        return Request(caller, self._target.name, operation, claims, time)


def _claims(rules: Iterable[Rule]) -> dict[str, _Claim]:
    """The claims that rules ask about, and with each the values that its list may hold."""
    tests = [entry for rule in rules if rule.when is not None for entry in rule.when.claims]
    held: dict[str, dict[str, tuple[Value, Any]]] = {name: {} for name, _ in tests}
    for name, test in tests:
        if isinstance(test, Contains):
            text = json.dumps(test.value)
            held[name][text] = (test.value, z3.Bool(f"{name} holds {text}"))
    return {
        name: _Claim(
            z3.Int(f"{name} kind"),
            z3.String(f"{name} text"),
            z3.Real(f"{name} number"),
            z3.Bool(f"{name} truth"),
            values,
        )
        for name, values in held.items()
    }


def _same(claim: _Claim, value: Value) -> Any:
    """The claim is a value of the same type."""
    if isinstance(value, bool):
        return z3.And(claim.kind == _TRUTH, claim.truth == value)
    if isinstance(value, str):
        return z3.And(claim.kind == _TEXT, claim.text == z3.StringVal(value))
    return z3.And(claim.kind == _NUMBER, claim.number == value)


def _places(text: Any, word: str) -> Iterable[Any]:
    """Where a word can stand between single spaces."""
    yield text == z3.StringVal(word)
    yield z3.PrefixOf(z3.StringVal(word + " "), text)
    yield z3.SuffixOf(z3.StringVal(" " + word), text)
    yield z3.Contains(text, z3.StringVal(f" {word} "))


def _claim_values(claim: _Claim, claims: Claims, name: str) -> list[tuple[Any, Any]]:
    seen = claims.get(name)
    kind = _MISSING if name not in claims else _kind(seen)
    members = seen if isinstance(seen, list) else []
    return [
        (claim.kind, z3.IntVal(kind)),
        (claim.text, z3.StringVal(seen if isinstance(seen, str) else "")),
        (claim.number, z3.RealVal(str(seen) if kind == _NUMBER else "0")),
        (claim.truth, z3.BoolVal(seen is True)),
        *[(held, z3.BoolVal(any(_equal(value, one) for one in members))) for value, held in claim.holds.values()],
    ]


def _kind(value: object) -> int:
    """What a claim's value is, as JSON has it: its booleans are no numbers."""
    kinds = ((bool, _TRUTH), (str, _TEXT), (int | float, _NUMBER), (list, _LIST))
    return next((kind for type_, kind in kinds if isinstance(value, type_)), _ELSE)


def _equal(value: Value, other: object) -> bool:
    return _kind(value) == _kind(other) and value == other


def _claim_shown(claim: _Claim, value: Any) -> tuple[object] | None:
    """The claim as z3 has it, in a tuple; None where it is missing."""
    match value(claim.kind).as_long():
        case 0:
            return None
        case 1:
            return (value(claim.text).as_string(),)
        case 2:
            number = value(claim.number).as_fraction()
            return (int(number) if number.denominator == 1 else float(number),)
        case 3:
            return (z3.is_true(value(claim.truth)),)
        case 4:
            return ([one for one, held in claim.holds.values() if z3.is_true(value(held))],)
        case _:
            return ({},)


def _seen(operation: Operation) -> tuple[str, str, bool]:
    """Method, path and whether it is a WebSocket; a gRPC call is the POST that it is on the wire."""
    match operation:
        case HttpOperation(method, path, websocket):
            return method, path, websocket
        case GrpcOperation(service, name):
            return "POST", f"/{service}/{name}", False
        case _:
            return "", "", False


def _any(formulas: Iterable[Any]) -> Any:
    return z3.Or(*formulas)


def _union(characters: Sequence[str]) -> Any:
    found = [z3.Re(character) for character in characters]
    return z3.Union(*found) if len(found) > 1 else found[0]
