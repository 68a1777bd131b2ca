"""What a rule may ask of an end user's token: typed tests of verified claims (RFC 7519, section 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

Value = str | int | bool


class _Typed:
    """Compared by the types of the values too: Python's `True` equals 1, and two tests that differ would be one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True, slots=True, eq=False)
class Equals(_Typed):
    """The claim is this value, of the same type: `"1"`, `1` and `true` are three values."""

    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf(_Typed):
    """The claim is one of these values."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Contains(_Typed):
    """The claim is a list that holds this value. A single value is no list."""

    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Scope(_Typed):
    """The claim is a string of words between single spaces, and this is one of them (RFC 8693, section 4.2)."""

    word: str


Test = Equals | AnyOf | Contains | Scope


@dataclass(frozen=True, slots=True)
class When:
    """All of the tests hold, each of one top-level claim of a verified token; `iss` is always among them."""

    claims: tuple[tuple[str, Test], ...]

    @property
    def canonical(self) -> list[list[object]]:
        """The condition as JSON values, for digests; the order in which the claims are written plays no part."""
        return sorted([name, *_words(test)] for name, test in self.claims)

    @property
    def issuers(self) -> tuple[str, ...]:
        """The `iss` claims that pass."""
        test = dict(self.claims).get("iss")
        values = (test.value,) if isinstance(test, Equals) else test.values if isinstance(test, AnyOf) else ()
        return tuple(str(value) for value in values)


Claims = Mapping[str, object]
NO_TOKEN: Claims = {}


def holds(when: When, claims: Claims) -> bool:
    """Whether verified claims pass every test. A missing claim, and one of another type, passes none."""
    return failed(when, claims) is None


def failed(when: When, claims: Claims) -> tuple[str, Test] | None:
    """The first test that verified claims do not pass, and of which claim it is."""
    missed = ((name, test) for name, test in when.claims if name not in claims or not passes(test, claims[name]))
    return next(missed, None)


def passes(test: Test, value: object) -> bool:
    """Whether one claim's value passes a test."""
    match test:
        case Equals(wanted):
            return _same(wanted, value)
        case AnyOf(values):
            return any(_same(wanted, value) for wanted in values)
        case Contains(wanted):
            return isinstance(value, list) and any(_same(wanted, item) for item in value)
        case Scope(word):
            return isinstance(value, str) and word in value.split(" ")
        case _:
            assert_never(test)


def implies(narrow: When | None, wide: When | None) -> bool:
    """Whether claims that pass `narrow` always pass `wide`, as far as the tests show by themselves."""
    if wide is None or narrow is None:
        return wide is None
    held = dict(narrow.claims)
    return all(name in held and _implied(held[name], test) for name, test in wide.claims)


def _implied(narrow: Test, wide: Test) -> bool:
    if isinstance(narrow, Equals | AnyOf):
        values = (narrow.value,) if isinstance(narrow, Equals) else narrow.values
        return all(passes(wide, value) for value in values)
    return narrow == wide


def _words(test: Test) -> tuple[str, str]:
    """A test as two words, which sort: what it asks, and the value as JSON."""
    match test:
        case Equals(value) | Contains(value):
            return type(test).__name__, json.dumps(value)
        case AnyOf(values):
            return type(test).__name__, json.dumps(values)
        case Scope(word):
            return type(test).__name__, json.dumps(word)
        case _:
            assert_never(test)


def _same(wanted: Value, value: object) -> bool:
    # JSON has one kind of number, and Python's True equals 1.
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if isinstance(wanted, str):
        return isinstance(value, str) and value == wanted
    return isinstance(value, int | float) and value == wanted
