from __future__ import annotations

import pytest

from septum.model import claims
from septum.model.claims import NO_TOKEN, AnyOf, Contains, Equals, Scope, When, failed, holds, implies, passes

LOGIN = ("iss", Equals("https://login.test"))


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        (Equals("a"), "a", True),
        (Equals("a"), "A", False),
        (Equals("a"), ["a"], False),
        (Equals("1"), 1, False),
        (Equals(1), 1, True),
        (Equals(1), 1.0, True),
        (Equals(1), 1.5, False),
        (Equals(1), "1", False),
        (Equals(1), True, False),
        (Equals(0), False, False),
        (Equals(True), True, True),
        (Equals(True), 1, False),
        (Equals(True), "true", False),
        (Equals("null"), None, False),
        (AnyOf(("a", 2)), 2, True),
        (AnyOf(("a", 2)), "2", False),
        (AnyOf(("a", 2)), ["a"], False),
        (Contains("a"), ["b", "a"], True),
        (Contains("a"), "a", False),
        (Contains("a"), [], False),
        (Contains("a"), [["a"]], False),
        (Contains("a"), {"a": 1}, False),
        (Contains(1), [True], False),
        (Contains(True), [1, True], True),
        (Scope("read"), "read", True),
        (Scope("read"), "a read b", True),
        (Scope("read"), "reader", False),
        (Scope("read"), "a,read", False),
        (Scope("read"), "READ", False),
        (Scope("read"), "a\tread", False),
        (Scope("read"), ["read"], False),
        (Scope("read"), "", False),
    ],
)
def test_a_test_passes_by_value_and_by_type(test: claims.Test, value: object, expected: bool) -> None:
    assert passes(test, value) is expected


def test_all_tests_have_to_pass_and_the_first_that_does_not_is_named() -> None:
    when = When((LOGIN, ("groups", Contains("support"))))
    assert holds(when, {"iss": "https://login.test", "groups": ["support"], "more": 1})
    assert failed(when, NO_TOKEN) == LOGIN
    assert failed(when, {"groups": ["support"]}) == LOGIN
    assert failed(when, {"iss": "https://login.test"}) == ("groups", Contains("support"))
    assert not holds(when, {"iss": "https://login.test", "groups": ["x"]})


def test_tests_of_values_of_other_types_are_other_tests() -> None:
    different: list[claims.Test] = [
        Equals(1), Equals(True), Equals("1"), Contains(1), Contains(True), AnyOf((1,)), AnyOf((True,)), AnyOf((1, 2)),
        Scope("1"),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert Equals(1) == Equals(1)
    assert When((("a", Equals(True)),)) != When((("a", Equals(1)),))
    assert len({repr(When((("a", test),)).canonical) for test in different}) == len(different)


def test_the_order_of_claims_plays_no_part_in_digests() -> None:
    groups = ("groups", Contains("x"))
    assert When((LOGIN, groups)).canonical == When((groups, LOGIN)).canonical


@pytest.mark.parametrize(
    ("test", "expected"),
    [(Equals("a"), ("a",)), (AnyOf(("a", "b")), ("a", "b"))],
)
def test_the_issuers_of_a_condition(test: claims.Test, expected: tuple[str, ...]) -> None:
    assert When((("iss", test), ("groups", Contains("x")))).issuers == expected


def test_a_condition_without_an_issuer_has_none() -> None:
    assert When((("groups", Contains("x")),)).issuers == ()


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        (None, None, True),
        (When((LOGIN,)), None, True),
        (None, When((LOGIN,)), False),
        (When((LOGIN, ("a", Equals(1)))), When((LOGIN,)), True),
        (When((LOGIN,)), When((LOGIN, ("a", Equals(1)))), False),
        (When((("a", Equals(1)),)), When((("a", AnyOf((2, 1))),)), True),
        (When((("a", Equals(1)),)), When((("a", AnyOf((2, True))),)), False),
        (When((("a", AnyOf((1, 2))),)), When((("a", AnyOf((2, 3, 1))),)), True),
        (When((("a", AnyOf((1, 2))),)), When((("a", Equals(1)),)), False),
        (When((("a", Equals("x y")),)), When((("a", Scope("y")),)), True),
        (When((("a", Contains("x")),)), When((("a", Contains("x")),)), True),
        (When((("a", Contains(1)),)), When((("a", Contains(True)),)), False),
        (When((("a", Scope("x")),)), When((("a", Equals("x")),)), False),
    ],
)
def test_what_one_condition_says_of_another(narrow: When | None, wide: When | None, expected: bool) -> None:
    assert implies(narrow, wide) is expected
