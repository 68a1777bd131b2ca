"""The set algebra where it is easy to get wrong. The laws over generated policies are in tests/property."""

from __future__ import annotations

from dataclasses import replace

import pytest

from septum.model.claims import AnyOf, Contains, Equals, Scope, Test, When
from septum.model.mesh import Address, Protocol, Workload
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, HttpPattern, RefusedOperation
from septum.model.policy import Rule
from septum.model.window import Window
from septum.verify.region import (
    EVERYTHING,
    NOTHING,
    Region,
    of_connect,
    of_patterns,
    of_rule,
    of_rules,
    since,
    under,
    union,
)

ORDERS = Workload("orders", "core", Address("127.0.0.1", 9102), Protocol.HTTP)
PAYMENTS = Workload("payments", "pci", Address("127.0.0.1", 9103), Protocol.GRPC)
LEDGER = Workload("ledger", "data", Address("127.0.0.1", 9104), Protocol.TCP)


def opened(*patterns: str, on: Workload = ORDERS) -> Region:
    read = HttpPattern.parse_grpc if on.protocol is Protocol.GRPC else HttpPattern.parse
    return of_patterns([read(text) for text in patterns], on)


def claimed(name: str, test: Test) -> Region:
    return under(When(((name, test),)), None)


def asks(region: Region, text: str, on: Workload = ORDERS) -> bool:
    method, path = text.split(" ")
    return region.contains(HttpOperation(method, path), {}, 0)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("GET /orders/{id}", "GET /orders/42"),
        ("GET /**", "GET /"),
        ("GET /a/**", "GET /a"),
        ("GET /a/**", "GET /a/"),
        ("GET /a/**", "GET /a/{x}/**"),
        ("* /a", "POST /a"),
        ("GET /{x}/{y}", "GET /a/{y}"),
    ],
)
def test_what_is_inside_leaves_nothing_and_what_is_outside_leaves_a_witness(wide: str, narrow: str) -> None:
    assert not opened(narrow) - opened(wide)
    witness = (opened(wide) - opened(narrow)).witness(ORDERS)
    assert witness is not None
    assert opened(wide).contains(witness.operation, witness.claims, 0)
    assert not opened(narrow).contains(witness.operation, witness.claims, 0)


def test_a_tail_is_its_prefix_and_everything_below() -> None:
    pieces = ["GET /a", "GET /a/", "GET /a/{x}", "GET /a/{x}/", "GET /a/{x}/{y}/**"]
    assert opened("GET /a/**").node is opened(*pieces, "GET /a/{x}/{y}").node or not (
        opened("GET /a/**") - opened(*pieces)
    )
    assert not opened(*pieces) - opened("GET /a/**")


def test_of_all_paths_but_those_that_begin_with_a_segment_the_root_is_left() -> None:
    witness = (opened("GET /**") - opened("GET /{x}/**")).witness(ORDERS)
    assert witness is not None
    assert str(witness.operation) == "GET /"


def test_only_what_overlaps_is_in_both() -> None:
    shared = opened("GET /{x}/b") & opened("GET,POST /a/{y}")
    assert str(_operation(shared)) == "GET /a/b"
    assert not shared - opened("GET /a/b")


def test_unions_in_any_order_are_one_node() -> None:
    patterns = ["GET /a/{x}", "POST /b/**", "GET /{y}/c", "GET,PUT /a"]
    assert opened(*patterns).node is opened(*reversed(patterns)).node
    assert union(opened(text) for text in patterns).node is opened(*patterns).node


def test_of_a_health_path_only_the_spelling_rule_opens_anything() -> None:
    probed = replace(ORDERS, health="/healthz")
    everything, spelled = opened("GET /**", on=probed), opened("GET /healthz", on=probed)
    assert not asks(everything, "GET /healthz")
    assert asks(spelled, "GET /healthz")
    assert not everything & spelled
    assert str((spelled - everything).witness(probed).operation) == "GET /healthz"  # type: ignore[union-attr]
    assert not opened("GET /{x}", on=probed) & spelled


def test_case_counts_unless_the_target_says_otherwise() -> None:
    folding = replace(ORDERS, ignore_case=True)
    exact, folded = opened("GET /Orders"), opened("GET /orders", on=folding)
    assert asks(folded, "GET /oRDers")
    assert not asks(exact, "GET /orders")
    witness = _operation(folded - exact)
    assert str(witness).lower() == "get /orders"
    assert str(witness) != "GET /Orders"
    assert not exact - folded


def test_a_segment_with_every_case_spelled_out_leaves_no_other() -> None:
    folding = replace(ORDERS, ignore_case=True)
    assert not opened("GET /a", on=folding) - opened("GET /a", "GET /A")


def test_parameters_pass_where_the_target_takes_them_and_something_can_carry_them() -> None:
    taking = replace(ORDERS, path_parameters=True)
    more = opened("GET /orders/{id}", on=taking) - opened("GET /orders/{id}")
    witness = _operation(more)
    assert ";" in str(witness)
    # A literal carries none, so taking parameters changes nothing about it.
    assert not opened("GET /orders/42", on=taking) - opened("GET /orders/42")
    # Nor does what only ends: `/a` and `/a/` are all that `/a/**` has beyond `/a/{x}/**`.
    assert _operation(opened("GET /a/**", on=taking) - opened("GET /a/{x}/**", on=taking)) is not None
    less = opened("GET /a/**", on=taking) - opened("GET /a/{x}/**", on=taking) - opened("GET /a", "GET /a/")
    assert less.witness(taking) is None
    assert not less
    assert not opened("GET /**", on=taking).contains(HttpOperation("GET", "/a/..;x/b"), {}, 0)


def test_a_websocket_is_asked_apart() -> None:
    open_to = replace(ORDERS, websocket=True)
    witness = (opened("GET /ws", on=open_to) - opened("GET /ws")).witness(open_to)
    assert witness is not None
    assert witness.operation == HttpOperation("GET", "/ws", websocket=True)


def test_grpc_methods_are_named_as_such() -> None:
    every, one = opened("shop.v1.Payments/*", on=PAYMENTS), opened("shop.v1.Payments/Authorize", on=PAYMENTS)
    assert not one - every
    witness = (every - one).witness(PAYMENTS)
    assert witness is not None
    assert isinstance(witness.operation, GrpcOperation)
    assert every.contains(GrpcOperation("shop.v1.Payments", "Refund"), {}, 0)


def test_a_session_is_opened_as_a_whole() -> None:
    rule = Rule("r", ("orders",), ("ledger",), None)
    assert of_rule(rule, LEDGER).contains(ConnectOperation(), {}, 0)
    assert _operation(of_rule(rule, LEDGER)) == ConnectOperation()
    assert of_rule(rule, LEDGER).node is of_connect(LEDGER).node
    assert not of_rule(rule, ORDERS)
    assert not opened("GET /", on=LEDGER)


def test_nothing_opens_what_has_no_safe_reading() -> None:
    assert not opened("* /**").contains(RefusedOperation("GET /a%2Fb", "an encoded slash"), {}, 0)
    assert (EVERYTHING - opened("* /**")).contains(RefusedOperation("GET /a%2Fb", "an encoded slash"), {}, 0)
    assert not opened("* /**").contains(HttpOperation("TRACE", "/"), {}, 0)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (Equals("a"), AnyOf(("a", "b"))),
        (AnyOf(("a", "b")), AnyOf(("b", "a", "c"))),
        (Equals("orders:read x"), Scope("x")),
        (AnyOf(("x", "x y")), Scope("x")),
    ],
)
def test_a_claim_that_implies_another(narrow: Test, wide: Test) -> None:
    assert not claimed("c", narrow) - claimed("c", wide)
    assert claimed("c", wide) - claimed("c", narrow)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Equals(1), Equals("1")),
        (Equals(1), Equals(True)),
        (Equals("x"), Contains("x")),
        (Scope("x"), Contains("x")),
        (Scope("x"), Equals("y")),
        (Contains(1), Contains(True)),
    ],
)
def test_claims_of_different_types_are_different(one: Test, other: Test) -> None:
    assert claimed("c", one) - claimed("c", other)
    assert claimed("c", other) - claimed("c", one)


@pytest.mark.parametrize(
    ("test", "value", "passes"),
    [
        (Equals(1), 1.0, True),
        (Equals(1), True, False),
        (Contains(1), [1.0], True),
        (Contains(1), [True], False),
        (Contains("x"), "x", False),
        (Scope("x"), "a x b", True),
        (Scope("x"), "ax", False),
        (Equals("x"), None, False),
        (Contains("x"), [["x"]], False),
    ],
)
def test_claims_are_typed(test: Test, value: object, passes: bool) -> None:
    assert claimed("c", test).contains(ConnectOperation(), {"c": value}, 0) is passes


def test_a_list_may_hold_several_and_a_text_may_not_be_two() -> None:
    both = claimed("c", Contains("a")) & claimed("c", Contains("b"))
    witness = (both & opened("GET /")).witness(ORDERS)
    assert witness is not None
    assert sorted(witness.claims["c"]) == ["a", "b"]  # type: ignore[call-overload]
    assert not claimed("c", Equals("a")) & claimed("c", Equals("b"))
    words = (claimed("c", Scope("a")) & claimed("c", Scope("b"))) - claimed("c", AnyOf(("a b", "b a")))
    witness = (words & opened("GET /")).witness(ORDERS)
    assert witness is not None
    assert {"a", "b"} < set(str(witness.claims["c"]).split(" "))


def test_times_are_half_open_and_touch() -> None:
    first, second = under(None, Window(None, 10)), under(None, Window(10, None))
    assert (first | second).node is True
    assert not first & second
    assert first.contains(ConnectOperation(), {}, 9.99)
    assert not first.contains(ConnectOperation(), {}, 10)
    assert not under(None, Window(5, 10)) & since(10)
    assert under(None, Window(5, 10)) & since(9)
    witness = (under(None, Window(5, 10)) & opened("GET /")).witness(ORDERS)
    assert witness is not None
    assert witness.time == 5


def test_rules_are_a_union_with_each_its_own_condition() -> None:
    open_rule = Rule("r", ("a",), ("orders",), (HttpPattern.parse("GET /a"),))
    asking = replace(open_rule, id="s", when=When((("iss", Equals("https://login.test")),)))
    assert of_rules([open_rule, asking], ORDERS).node is of_rule(open_rule, ORDERS).node
    assert not of_rule(asking, ORDERS) - of_rule(open_rule, ORDERS)
    assert of_rules([], ORDERS).node is NOTHING.node


def test_what_is_left_of_everything_is_everything_else() -> None:
    rest = EVERYTHING - opened("GET /a")
    assert not rest & opened("GET /a")
    assert (rest | opened("GET /a")).node is True
    assert rest.witness(LEDGER) is not None


def _operation(region: Region) -> object:
    for target in (ORDERS, PAYMENTS, LEDGER):
        witness = region.witness(target)
        if witness is not None:
            return witness.operation
    return None
