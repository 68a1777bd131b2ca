"""What a rule may ask of an end user's token: typed tests of verified claims (RFC 7519, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Equals:
    """The claim is this value, of the same type: `"1"`, `1` and `true` are three values."""

    value: Value


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The claim is one of these values."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """The claim is a list that holds this value. A single value is no list."""

    value: Value


@dataclass(frozen=True, slots=True)
class Scope:
    """The claim is a string of words between single spaces, and this is one of them (RFC 8693, section 4.2)."""

    word: str


Test = Equals | AnyOf | Contains | Scope


@dataclass(frozen=True, slots=True)
class When:
    """All of the tests hold, each of one top-level claim of a verified token; `iss` is always among them."""

    claims: tuple[tuple[str, Test], ...]


Claims = Mapping[str, object]
NO_TOKEN: Claims = {}


def holds(when: When, claims: Claims) -> bool:
    """Whether verified claims pass every test. A missing claim, and one of another type, passes none."""
    return all(name in claims and passes(test, claims[name]) for name, test in when.claims)


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


def _same(wanted: Value, value: object) -> bool:
    # JSON has one kind of number, and Python's True equals 1.
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if isinstance(wanted, str):
        return isinstance(value, str) and value == wanted
    return isinstance(value, int | float) and value == wanted
