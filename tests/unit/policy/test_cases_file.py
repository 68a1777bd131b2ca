"""Policy tests as they are read. What is wrong with them is shown by the literate cases."""

from __future__ import annotations

import pytest

import meshes
from septum.model.case import Case
from septum.model.decision import Effect
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, RefusedOperation
from septum.model.window import parse_time
from septum.policy.cases_file import Cases, read_cases
from septum.policy.load import load
from septum.policy.text import MAX_BYTES

ISSUERS = "issuers:\n  login: {issuer: https://login.test, audiences: [shop, desk], jwks: https://login.test/keys}\n"
FILES = {"septum.yaml": (meshes.SHOP + ISSUERS).encode(), "policy/rules.yaml": meshes.SHOP_RULES.encode()}


def read(text: str | bytes, path: str = "policy/a_test.yaml", **more: bytes) -> Cases:
    content = text.encode() if isinstance(text, str) else text
    files = {**FILES, path: content, **more}
    return read_cases(files, load(files).partial)


def case(text: str) -> Case:
    found = read(text)
    assert found.diagnostics == ()
    [one] = found.cases
    return one


def test_a_case_is_what_is_asked_and_what_is_expected() -> None:
    one = case(
        "- name: their own order\n  from: storefront\n  to: orders\n  http: GET /orders/../orders/42?x=1\n"
        "  claims: {iss: https://login.test, groups: [a, 1, true], sub: '7', aud: desk, more: {deep: [1]}}\n"
        "  at: 2027-01-31T00:00:00+01:00\n  expect: allow\n  by: customers-orders\n  because: it is theirs\n"
    )
    [call] = one.calls
    assert (call.caller, call.target) == ("storefront", "orders")
    assert call.operation == HttpOperation("GET", "/orders/42")
    assert call.sent == "GET /orders/../orders/42?x=1"
    assert one.claims == {
        "iss": "https://login.test", "groups": ["a", 1, True], "sub": "7", "aud": "desk", "more": {"deep": [1]},
    }  # fmt: skip
    assert (one.expect, one.by, one.because) == (Effect.ALLOW, "customers-orders", "it is theirs")
    assert one.title == one.name == "their own order"
    assert one.at == parse_time("2027-01-30T23:00:00Z")
    assert one.request(call, 7.0).time == one.at
    assert one.span is not None
    assert one.span.place == "policy/a_test.yaml:1"


def test_a_time_is_that_of_the_run_where_the_case_names_none() -> None:
    one = case("- {from: orders, to: ledger, expect: allow}\n")
    assert one.at is None
    assert one.request(one.calls[0], 7.0).time == 7.0


@pytest.mark.parametrize(
    ("asks", "operation"),
    [
        ("to: payments, grpc: a.B/C", GrpcOperation("a.B", "C")),
        ("to: ledger, connect: true", ConnectOperation()),
        ("to: ledger", ConnectOperation()),
        ("to: orders, http: TRACE /x", HttpOperation("TRACE", "/x")),
        ("to: orders, http: GET /ws, websocket: true", HttpOperation("GET", "/ws", websocket=True)),
        ("to: orders, http: GET /ws, websocket: false", HttpOperation("GET", "/ws")),
        ("to: orders, http: GET /a%2fb", RefusedOperation("GET /a%2fb", "the path holds an encoded slash")),
        ("to: orders, http: 'GET /x?of={id}'", HttpOperation("GET", "/x")),
    ],
)
def test_what_is_asked(asks: str, operation: object) -> None:
    assert [call.operation for call in case(f"- {{from: orders, {asks}, expect: deny}}\n").calls] == [operation]


def test_segments_and_lists_stand_for_each_of_their_members() -> None:
    one = case("- {from: [segment:edge, orders], to: [orders, segment:edge], http: [GET /a, GET /b], expect: deny}\n")
    assert one.text == "segment:edge,orders -> orders,segment:edge GET /a, GET /b"
    assert {(call.caller, call.target, call.sent) for call in one.calls} == {
        (caller, target, sent)
        for caller in ("storefront", "orders")
        for target in ("storefront", "orders")
        for sent in ("GET /a", "GET /b")
    }
    assert len(one.calls) == 8


def test_the_rule_of_by_may_be_one_without_a_name() -> None:
    assert case("- {from: orders, to: ledger, expect: allow, by: orders->ledger}\n").by == "orders->ledger"


def test_files_are_read_in_order_and_pages_block_by_block() -> None:
    block = b"```yaml septum-test\n- {from: orders, to: ledger, expect: allow}\n```\n"
    found = read(
        "- {from: orders, to: ledger, expect: allow}\n",
        **{"policy/b.md": b"# b\n" + block + block, "policy/a/z_test.yaml": b"# nothing yet\n", "README.md": block},
    )
    assert found.diagnostics == ()
    assert [str(one.span.place) for one in found.cases if one.span] == [
        "policy/a_test.yaml:1", "policy/b.md:3", "policy/b.md:6",
    ]  # fmt: skip


def test_a_file_with_a_mistake_gives_no_case_and_the_others_theirs() -> None:
    good = b"- {from: orders, to: ledger, expect: allow}\n"
    found = read(good + b"- {from: orders, to: nobody, expect: allow}\n", **{"policy/b_test.yaml": good})
    assert [error.code for error in found.errors] == ["SEP203"]
    assert [one.span.file for one in found.cases if one.span] == ["policy/b_test.yaml"]


def test_a_warning_is_no_reason_to_leave_a_case_out() -> None:
    found = read("- {from: [orders, orders], to: ledger, expect: allow}\n")
    assert [found.code for found in found.diagnostics] == ["SEP304"]
    assert found.errors == ()
    assert len(found.cases) == 1


def test_names_are_looked_up_in_a_policy_with_errors_too() -> None:
    files = {**FILES, "policy/rules.yaml": b"allow:\n  - {name: a, from: orders, to: ledgr}\n"}
    files["policy/a_test.yaml"] = b"- {from: ordres, to: ledger, expect: allow, by: a}\n"
    loaded = load(files)
    assert loaded.policy is None
    assert [error.message for error in read_cases(files, loaded.partial).errors] == ["unknown workload `ordres`"]


def test_without_any_policy_the_shape_is_checked() -> None:
    files = {"policy/a_test.yaml": b"- {from: nobody, expect: maybe}\n"}
    assert load(files).partial is None
    found = read_cases(files, None)
    assert [error.code for error in found.errors] == ["SEP202", "SEP205"]
    assert found.cases == ()


def test_what_cannot_be_read_is_said_where_it_would_be_tests() -> None:
    files = {**FILES, "policy/a_test.yaml": OSError(5, "broken"), "policy/b.md": OSError(5, "broken")}
    found = read_cases(files, load(files).policy)
    assert [(error.code, error.span.file) for error in found.errors] == [
        ("SEP109", "policy/a_test.yaml"), ("SEP109", "policy/b.md"),
    ]  # fmt: skip


def test_yaml_that_is_none_is_said_at_its_line_of_the_page() -> None:
    [error] = read(b"\tx\n\n```yaml septum-test\n- {from: [\n```\n", "policy/b.md").errors
    assert (error.code, error.span.line) == ("SEP101", 4)


def test_a_page_that_is_too_large_is_no_page() -> None:
    [error] = read(b"x" * (MAX_BYTES + 1), "policy/b.md").errors
    assert error.code == "SEP108"


def test_tests_are_no_part_of_a_policy() -> None:
    with_tests = {**FILES, "policy/a_test.yaml": b"this is [ no test", "policy/b.md": b"\xff"}
    assert load(with_tests) == load(FILES)
