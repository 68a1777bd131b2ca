"""The meaning of the policy language a second time, for z3: what docs/policy.md says, as formulas.

This knows nothing of `decide` and of the set algebra, so that all three can be held to each other. A `Question` is
about the requests to one target: its variables are a request, each rule is a formula over them, and a difference
between two sets of rules is a formula that z3 satisfies, with a request to show, or shows to be unsatisfiable.

Paths are sequences of words, as long as any pattern that is asked about and two segments longer. The words are those
of the patterns, in several cases and with parameters, and some that no pattern has: no longer path and no other word
tells two patterns apart that these do not. Claims are of z3's own kinds, with its theory of strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
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
from septum.model.policy import Policy, Rule

# Methods that no rule can allow; one stands for all of them.
_OTHER_METHOD = "TRACE"
# Segments that no pattern spells out: a word, one with parameters, and dots that servers of one family resolve.
_FRESH = ("any-other-word", "any-other-word;v=1", ".;v=1", "..;v=1")
_MISSING, _TEXT, _NUMBER, _TRUTH, _LIST, _ELSE = range(6)
# Milliseconds; z3 answers in a few.
_PATIENCE = 60_000


class Undecided(AssertionError):
    """z3 gave up, so that nothing is shown."""


class Meaning:
    """What a policy says about some requests."""

    def __init__(self, policy: Policy, requests: Iterable[Request]) -> None:
        self._policy = policy
        asked: dict[str, list[Request]] = {}
        for request in requests:
            asked.setdefault(request.target, []).append(request)
        self._asked = asked
        self._questions: dict[str, Question] = {}
        self._formulas: dict[tuple[str, str], Any] = {}

    def allows(self, request: Request) -> bool:
        """Whether one of the requests is allowed: by a rule that names both, of whom none is quarantined."""
        mesh, pair = self._policy.mesh, (request.caller, request.target)
        strange = request.target not in mesh.targets or request.caller not in mesh.workloads
        if strange or not self._policy.quarantined.isdisjoint(pair):
            return False
        if request.target not in self._questions:
            rules = [rule for rule in self._policy.rules if request.target in rule.targets]
            target = mesh.targets[request.target]
            self._questions[request.target] = Question(target, rules, self._asked[request.target])
        question = self._questions[request.target]
        if pair not in self._formulas:
            self._formulas[pair] = question.allowed(naming(self._policy, *pair))
        return not isinstance(request.operation, RefusedOperation) and question.holds(self._formulas[pair], request)


def naming(policy: Policy, caller: str, target: str) -> list[Rule]:
    """The rules that name both."""
    return [rule for rule in policy.rules if caller in rule.callers and target in rule.targets]


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

    def __init__(
        self,
        target: Target,
        rules: Iterable[Rule],
        requests: Iterable[Request] = (),
        patterns: Iterable[HttpPattern] = (),
    ) -> None:
        """`rules` and `patterns` are all that will be asked about, and `requests` all that will be looked up."""
        rules = tuple(rules)
        seen = [_seen(request.operation) for request in requests]
        patterns = [*patterns, *(pattern for rule in rules for pattern in rule.operations or ())]
        written = [pattern.path.segments for pattern in patterns] + [_health(target)]
        self.target = target
        self._longest = max(len(path) for path in (*written, *(path for _, path, _ in seen))) + 2
        literals = {segment for path in written for segment in path if segment}
        self._words = sorted({"", *_forms(literals), *_FRESH, *(word for _, path, _ in seen for word in path)})
        self._methods = sorted({*METHODS, _OTHER_METHOD, *(method for method, _, _ in seen)})
        self._connect, self.websocket = z3.Bool("connect"), z3.Bool("websocket")
        # Places in `_methods` and `_words`.
        self._method, self._length = z3.Int("method"), z3.Int("length")
        self._path = [z3.Int(f"segment {at}") for at in range(self._longest)]
        self._known, self._time = z3.Bool("time is known"), z3.Real("time")
        self._claims = _claims(rules)

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
        """What every request is: a session, or a method and a normalised path; claims of one kind each; a time."""
        inner = [z3.Implies(self._length > at + 1, z3.Not(self._is(at, ""))) for at in range(self._longest)]
        only_slashes = z3.And(self._length == 2, self._is(0, ""), self._is(1, ""))
        kinds = [_among(claim.kind, _ELSE + 1) for claim in self._claims.values()]
        return z3.And(
            self._connect == (self.target.protocol is Protocol.TCP),
            z3.Implies(self._connect, z3.Not(self.websocket)),
            self._length >= 1,
            self._length <= self._longest,
            z3.Or(z3.And(*inner), only_slashes),
            *[_among(seen, len(self._words)) for seen in self._path],
            _among(self._method, len(self._methods)),
            *kinds,
            self._known,
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
        return z3.And(self._readable, _any(self._pattern(pattern) for pattern in patterns))

    @cached_property
    def _readable(self) -> Any:
        readable = [z3.Not(self._connect)]
        if not self.target.path_parameters:
            readable.append(z3.Not(self._somewhere(lambda word: ";" in word)))
        readable.append(z3.Not(self._somewhere(lambda word: word.startswith((".;", "..;")))))
        if not self.target.websocket:
            readable.append(z3.Not(self.websocket))
        return z3.And(*readable)

    def _pattern(self, pattern: HttpPattern) -> Any:
        opened = z3.And(self._by(pattern.methods), self._covered(pattern.path.segments, pattern.path.tail))
        if self.target.health is None:
            return opened
        # A pattern that is a literal opens one path: where that is the health path, it is spelled out.
        spelled_out = not pattern.path.tail and None not in pattern.path.segments
        return opened if spelled_out else z3.And(opened, z3.Not(self._covered(_health(self.target), False)))

    # Formulas are values, and building them is what takes time.

    @cache  # noqa: B019 - a question lives for one test
    def _by(self, methods: tuple[str, ...]) -> Any:
        return _any(self._method == self._methods.index(method) for method in methods)

    @cache  # noqa: B019
    def _covered(self, segments: tuple[str | None, ...], tail: bool) -> Any:
        length = self._length >= len(segments) if tail else self._length == len(segments)
        each = [z3.Not(self._is(at, "")) if word is None else self._is(at, word) for at, word in enumerate(segments)]
        return z3.And(length, *each)

    @cache  # noqa: B019
    def _is(self, at: int, written: str) -> Any:
        """A segment is the word that is written, in whatever case where the target ignores it."""

        def alike(word: str) -> bool:
            return word == written or (self.target.ignore_case and word.casefold() == written.casefold())

        return self._one_of(at, alike)

    def _one_of(self, at: int, fits: Callable[[str], bool]) -> Any:
        return _any(self._path[at] == place for place, word in enumerate(self._words) if fits(word))

    def _somewhere(self, fits: Callable[[str], bool]) -> Any:
        return _any(z3.And(self._length > at, self._one_of(at, fits)) for at in range(self._longest))

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

    def at(self, moment: int) -> Any:
        """It is asked at this moment."""
        return self._time == moment

    def since(self, moment: int) -> Any:
        """It is asked at this moment or later."""
        return self._time >= moment

    def covered(self, patterns: Iterable[HttpPattern]) -> Any:
        """Some pattern covers it by its words alone, whatever the target takes."""
        each = [z3.And(self._by(p.methods), self._covered(p.path.segments, p.path.tail)) for p in patterns]
        return z3.And(z3.Not(self._connect), _any(each))

    # --- one request

    def _values(self, request: Request) -> list[tuple[Any, Any]]:
        """The variables, each with what it is in a request."""
        method, path, websocket = _seen(request.operation)
        padded = [*path, *[""] * (self._longest - len(path))]
        values = [(self._connect, z3.BoolVal(isinstance(request.operation, ConnectOperation)))]
        values += [(self.websocket, z3.BoolVal(websocket)), (self._method, z3.IntVal(self._methods.index(method)))]
        values += [(self._length, z3.IntVal(len(path)))]
        values += [(at, z3.IntVal(self._words.index(word))) for at, word in zip(self._path, padded, strict=True)]
        values += [(self._known, z3.BoolVal(request.time is not None)), (self._time, _real(request.time or 0))]
        for name, claim in self._claims.items():
            values += _claim_values(claim, request.claims, name)
        return values

    def _request(self, model: Any, caller: str) -> Request:
        def value(of: Any) -> Any:
            return model.eval(of, model_completion=True)

        operation: Operation = ConnectOperation()
        if not z3.is_true(value(self._connect)):
            length = value(self._length).as_long()
            path = "/" + "/".join(self._words[value(seen).as_long()] for seen in self._path[:length])
            method = self._methods[value(self._method).as_long()]
            operation = HttpOperation(method, path, z3.is_true(value(self.websocket)))
        found = {name: _claim_shown(claim, value) for name, claim in self._claims.items()}
        claims = {name: shown[0] for name, shown in found.items() if shown}
        return Request(caller, self.target.name, operation, claims, float(value(self._time).as_fraction()))


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
        (claim.number, _real(seen) if kind == _NUMBER else _real(0)),
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


def _seen(operation: Operation) -> tuple[str, tuple[str, ...], bool]:
    """Method, path segments and whether it is a WebSocket; a gRPC call is the POST that it is on the wire."""
    match operation:
        case HttpOperation(method, path, websocket):
            return method, tuple(path[1:].split("/")), websocket
        case GrpcOperation(service, name):
            return "POST", (service, name), False
        case _:
            return _OTHER_METHOD, ("",), False


def _health(target: Target) -> tuple[str, ...]:
    return tuple(target.health[1:].split("/")) if target.health is not None else ("",)


def _real(number: Any) -> Any:
    return z3.RealVal(str(Fraction(number)))


def _forms(literals: Iterable[str]) -> Iterable[str]:
    """Words as they are written, in another case, and with parameters."""
    for word in literals:
        yield from (word, word.lower(), word.upper(), word.swapcase(), f"{word};v=1")


def _among(place: Any, many: int) -> Any:
    return z3.And(place >= 0, place < many)


def _any(formulas: Iterable[Any]) -> Any:
    return z3.Or(*formulas)
