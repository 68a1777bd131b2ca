"""z3 as a judge: the language written a second time (tests/oracle.py) says what `decide` says, also at its corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import z3
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

import rivals
import strategies
from oracle import Meaning, Question
from rivals import CALLER, LOGIN, PARTNERS, TARGET, Rivals, mesh_of, policy_of, rule_of
from septum.model.claims import AnyOf, Contains, Equals, Scope, Test, When
from septum.model.guarantee import Guarantee, Kind
from septum.model.mesh import Address, Protocol, Target, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Rule
from septum.model.window import Window
from septum.policy.decide import decide
from septum.policy.quarantine import quarantined
from septum.verify import region
from septum.verify.guarantee import verdicts
from septum.verify.rows import rows

PLAIN = Workload(TARGET, "all", Address("127.0.0.1", 9102), Protocol.HTTP)
FOLDING = replace(PLAIN, ignore_case=True)
MATRIX = replace(PLAIN, path_parameters=True)
SOCKET = replace(PLAIN, websocket=True)
PROBED = replace(PLAIN, health="/healthz")
ROOTED = replace(PLAIN, health="/")
RPC = replace(PLAIN, protocol=Protocol.GRPC)
STORE = replace(PLAIN, protocol=Protocol.TCP)


# --- requests


@given(st.data())
@settings(max_examples=80)
def test_decide_and_z3_say_the_same_of_requests_to_any_mesh(data: DataObject) -> None:
    policy = data.draw(strategies.wide_meshes().flatmap(strategies.policies))
    policy = quarantined(policy, data.draw(st.one_of(st.just(frozenset()), strategies.quarantines(policy.mesh))))
    requests = data.draw(st.lists(strategies.requests(policy), min_size=4, max_size=4))
    meaning = Meaning(policy, requests)
    for request in requests:
        decision = decide(policy, request)
        event(f"allowed: {decision.allowed}")
        assert meaning.allows(request) == decision.allowed


@given(st.data())
@settings(max_examples=60)
def test_decide_and_z3_say_the_same_of_requests_that_rules_nearly_allow(data: DataObject) -> None:
    both = data.draw(rivals.rivals())
    requests = data.draw(st.lists(rivals.requests(both), min_size=5, max_size=5))
    for policy in both.policies:
        meaning = Meaning(policy, requests)
        for request in requests:
            decision = decide(policy, request)
            event(f"allowed: {decision.allowed}")
            assert meaning.allows(request) == decision.allowed


@given(rivals.rivals())
@settings(max_examples=100)
def test_what_z3_finds_between_two_policies_is_decided_differently(both: Rivals) -> None:
    question, (one, other) = Question(both.target, both.rules), both.policies
    for of, without, rules, but in ((one, other, both.one, both.other), (other, one, both.other, both.one)):
        found = question.difference(rules, but, CALLER)
        event(f"found: {found is not None}")
        if found is not None:
            assert decide(of, found).allowed
            assert not decide(without, found).allowed


# --- what is built on sets


@given(rivals.rivals(), st.sampled_from((5, 10, 15, 20, 25, 30)))
@settings(max_examples=100)
def test_a_diff_has_rows_exactly_where_z3_finds_what_is_allowed_newly(both: Rivals, now: int) -> None:
    question, (one, other) = Question(both.target, both.rules), both.policies
    for more, less, rules, but in ((one, other, both.one, both.other), (other, one, both.other, both.one)):
        only = z3.And(question.allowed(rules), z3.Not(question.allowed(but)), question.since(now))
        found, shown = question.satisfying(only, CALLER), rows(more, less, now)
        event(f"rows: {len(shown)}")
        assert bool(shown) == (found is not None), found
        assert found is None or len([row for row in shown if row.contains(found)]) == 1


@given(rivals.rivals(), st.sampled_from((5, 15, 20, 25, 30)), st.data())
@settings(max_examples=100)
def test_what_is_never_to_be_is_broken_exactly_where_z3_finds_a_call(both: Rivals, now: int, data: DataObject) -> None:
    known = [pattern for rule in both.rules for pattern in rule.operations or ()]
    if both.target.protocol is Protocol.HTTP:
        known += [HttpPattern.parse(text) for text in ("GET /a", "GET /A/4", "POST /a/{x}", "HEAD /{x}/b/**", "PUT /")]
    patterns = tuple(data.draw(st.lists(st.sampled_from(known), max_size=2))) if known else ()
    never = Guarantee("g", Kind.NEVER, (CALLER,), (TARGET,), patterns or None, through=data.draw(st.booleans()))
    question = Question(both.target, both.rules, patterns=patterns)
    asked = [question.covered(patterns)] if patterns else []
    found = question.satisfying(z3.And(question.allowed(both.one), question.since(now), *asked), CALLER)
    (verdict,) = verdicts(replace(both.policies[0], guarantees=(never,)), now)
    event(f"holds: {verdict.holds}, of an operation: {bool(patterns)}")
    assert verdict.holds == (found is None), found
    for step in verdict.chain:
        request = replace(step.request, claims=dict(step.request.claims))
        assert Meaning(both.policies[0], [request]).allows(request)


# --- corners

# Target, what is allowed, what is taken away, and whether anything is left.
PATHS: list[tuple[str, Target, str, str, bool]] = [
    ("a tail is its prefix", PLAIN, "GET /a", "GET /a/**", False),
    ("a tail is its prefix with a slash", PLAIN, "GET /a/", "GET /a/**", False),
    ("a tail is what is below", PLAIN, "GET /a/{x}/{y}/", "GET /a/**", False),
    ("a tail is no other word", PLAIN, "GET /ab", "GET /a/**", True),
    ("a tail in four parts", PLAIN, "GET /a/**", "GET /a|GET /a/|GET /a/{x}|GET /a/{x}/**", False),
    ("below without the end of the prefix", PLAIN, "GET /a/**", "GET /a|GET /a/{x}/**", True),
    ("below without the prefix", PLAIN, "GET /a/**", "GET /a/|GET /a/{x}/**", True),
    ("nothing but slashes", PLAIN, "GET /**", "GET /|GET /{x}/**", True),
    ("the root is no empty segment", PLAIN, "GET /", "GET /{x}", True),
    ("a placeholder is not empty", PLAIN, "GET /a/", "GET /a/{x}", True),
    ("a placeholder does not end in a slash", PLAIN, "GET /a/{x}/", "GET /a/{x}", True),
    ("no segment is left out", PLAIN, "GET /{x}/b", "GET /a/b|GET /b/b", True),
    ("a literal is in a placeholder", PLAIN, "GET /a/b", "GET /{x}/b", False),
    ("a placeholder is in no literal", PLAIN, "GET /{x}/b", "GET /a/b", True),
    ("crossing placeholders", PLAIN, "GET /{x}/b", "GET /a/{y}", True),
    ("all methods together", PLAIN, "* /a", "GET,HEAD,POST /a|PUT,PATCH /a|DELETE,OPTIONS /a", False),
    ("all methods but one", PLAIN, "* /a", "GET,HEAD,POST /a|PUT,PATCH /a|DELETE /a", True),
    ("case counts", PLAIN, "GET /A", "GET /a", True),
    ("case does not count", FOLDING, "GET /A", "GET /a", False),
    ("case of escapes does not count", FOLDING, "GET /%C3%A9", "GET /{x}", False),
    ("words of digits have one case", FOLDING, "GET /{x}", "GET /4", True),
    ("parameters are denied", PLAIN, "GET /{x}", "GET /{y}", False),
    ("parameters are in a placeholder", MATRIX, "GET /a/{x}", "GET /a/**", False),
    ("parameters are in no literal", MATRIX, "GET /a", "GET /{x}", False),
    ("a literal is without parameters", MATRIX, "GET /{x}", "GET /a", True),
    ("a websocket is a GET like any other", SOCKET, "GET /a", "GET /a", False),
    ("a health path is spelled out", PROBED, "GET /healthz", "GET /**", True),
    ("a health path is in no tail", PROBED, "GET /**", "GET /|GET /{x}/**", True),
    ("a health path is in no placeholder", PROBED, "GET /{x}", "GET /**", False),
    ("a health path with a slash is another", PROBED, "GET /healthz/", "GET /**", False),
    ("a health path of all", replace(PROBED, ignore_case=True), "GET /HealthZ", "GET /healthz", False),
    ("a health path at the root", ROOTED, "GET /", "GET /**", True),
    ("below a health path at the root", ROOTED, "GET /{x}/**", "GET /**", False),
    ("a method of a service", RPC, "p.S/M", "p.S/*", False),
    ("a service of all", RPC, "p.S/*", "*", False),
    ("a service is no method", RPC, "p.S/*", "p.S/M|p.S/N", True),
    ("a service is no other", RPC, "p.S/*", "p.Sx/*", True),
    ("a session", STORE, "", "", False),
]


@pytest.mark.parametrize(
    ("target", "allowed", "taken", "left"), [row[1:] for row in PATHS], ids=[row[0] for row in PATHS]
)
def test_what_is_left_of_operations(target: Target, allowed: str, taken: str, left: bool) -> None:
    one, other = ([rule_of(*filter(None, text.split("|")), on=target)] for text in (allowed, taken))
    assert_left(target, one, other, left)


TESTS: list[tuple[str, Test, Sequence[Test], bool]] = [
    ("one of two is one or the other", AnyOf(("a", "b")), [Equals("a"), Equals("b")], False),
    ("one of two is not always the first", AnyOf(("a", "b")), [Equals("a")], True),
    ("one of three is in no two of them", AnyOf(("a", "b", 1)), [AnyOf(("a", "b"))], True),
    ("a text has the words in it", Equals("a b"), [Scope("a")], False),
    ("a text has each of its words", Equals("a b"), [Scope("b")], False),
    ("a text has no part of a word", Equals("ab"), [Scope("a")], True),
    ("a word is in other texts too", Scope("a"), [Equals("a"), Equals("a b")], True),
    ("no other word", Scope("a"), [Scope("b")], True),
    ("a word in a text is no text", Scope("a"), [AnyOf(("a", "b a"))], True),
    ("a list is no single value", Equals("a"), [Contains("a")], True),
    ("a single value is no list", Contains("a"), [Equals("a"), Scope("a")], True),
    ("a list may hold both", Contains("a"), [Contains("b")], True),
    ("a number is no text", Equals(1), [Equals("1"), Equals(True)], True),
    ("true is no number", Equals(True), [Equals(1), Equals("true")], True),
    ("in a list neither", Contains(True), [Contains(1), Contains("True")], True),
    ("nought is not false", Equals(0), [Equals(False)], True),
    ("an empty text is a text", Equals(""), [Equals("a")], True),
]


@pytest.mark.parametrize(("test", "others", "left"), [row[1:] for row in TESTS], ids=[row[0] for row in TESTS])
def test_what_is_left_of_a_claim(test: Test, others: Sequence[Test], left: bool) -> None:
    def rule(test: Test) -> Rule:
        return rule_of("GET /a", on=PLAIN, when=When((("iss", Equals(LOGIN)), ("claim", test))))

    assert_left(PLAIN, [rule(test)], [rule(other) for other in others], left)


def test_what_is_left_where_one_asks_for_a_token_and_the_other_does_not() -> None:
    with_token = rule_of("GET /a", on=PLAIN, when=When((("iss", AnyOf((LOGIN, PARTNERS))),)))
    without = rule_of("GET /a", on=PLAIN)
    by_issuer = [rule_of("GET /a", on=PLAIN, when=When((("iss", Equals(one)),))) for one in (LOGIN, PARTNERS)]
    assert_left(PLAIN, [with_token], [without], False)
    assert_left(PLAIN, [without], [with_token], True)
    assert_left(PLAIN, [with_token], by_issuer, False)
    assert_left(PLAIN, [with_token], by_issuer[:1], True)


@pytest.mark.parametrize(
    ("window", "others", "left"),
    [
        (Window(10, 30), [Window(10, 20), Window(20, 30)], False),
        (Window(10, 30), [Window(10, 20), Window(21, 30)], True),
        (Window(10, 30), [Window(11, 30)], True),
        (Window(10, 30), [Window(10, 29)], True),
        (None, [Window(None, 20), Window(20)], False),
        (None, [Window(None, 20), Window(21)], True),
        (Window(20), [None], False),
        (Window(None, 20), [Window(None, 21)], False),
        (Window(20), [Window(None, 20)], True),
        (Window(10, 11), [Window(10)], False),
    ],
    ids=str,
)
def test_what_is_left_of_a_window(window: Window | None, others: Sequence[Window | None], left: bool) -> None:
    one, other = [rule_of("GET /a", on=PLAIN, window=window)], [rule_of("GET /a", on=PLAIN, window=w) for w in others]
    assert_left(PLAIN, one, other, left)


def test_no_condition_is_left_out_of_a_difference() -> None:
    when, window = When((("iss", Equals(LOGIN)), ("level", Equals(3)))), Window(10, 20)
    full = rule_of("GET /a", on=SOCKET, when=when, window=window)
    for more in (replace(full, when=None), replace(full, window=None), rule_of("GET /{x}", on=SOCKET, when=when)):
        assert_left(SOCKET, [more], [full], True)
    assert_left(SOCKET, [full], [replace(full, when=None)], False)


def assert_left(target: Target, one: Sequence[Rule], other: Sequence[Rule], left: bool) -> None:
    """z3 and the set algebra find something left, or nothing; and of what is found, `decide` says so."""
    found = Question(target, [*one, *other]).difference(one, other, CALLER)
    by_region = region.of_rules(one, target) - region.of_rules(other, target)
    asked = by_region.witness(target)
    assert (found is not None, bool(by_region), asked is not None) == (left, left, left), (found, asked)
    mesh = mesh_of(target)
    for request in filter(
        None, (found, asked and replace(found, operation=asked.operation, claims=asked.claims, time=asked.time or 15.0))
    ):
        assert decide(policy_of(mesh, one), request).allowed, request
        assert not decide(policy_of(mesh, other), request).allowed, request
