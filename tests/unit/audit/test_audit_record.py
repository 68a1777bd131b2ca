"""Lines of Envoy's log, and the records they become."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from fakes.decision_log import Always, denied, line, policy, recorder
from septum.audit import explain
from septum.audit.explain import Explainer
from septum.audit.line import Line, Unreadable, read_line, read_lines
from septum.audit.parse import Recorder
from septum.envoy.access_log import FIELDS
from septum.model.claims import Contains, Equals, When
from septum.model.mesh import Address, External, Node, Protocol
from septum.model.record import Record


def record(raw: bytes) -> Record:
    read = read_line(raw.rstrip(b"\n"))
    assert isinstance(read, Line), read
    return recorder().record(read, "n1")


def test_an_allowed_call_names_its_rule() -> None:
    got = record(
        line(
            t="1764000000.123456",
            id="r1",
            tp="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            flags="-",
            us=3456,
            uus=1234,
            **{"in": 10, "out": 20},
        )
    )
    assert got == Record(
        time=1764000000.123456,
        request_id="r1",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        node="n1",
        caller="storefront",
        target="orders",
        protocol="http",
        method="GET",
        path="/orders/42",
        decision="allow",
        mode="enforce",
        would_be="allow",
        rule="customers-orders",
        nearest="",
        reason="",
        jwt_issuer="",
        jwt_subject="",
        policy_version="v" * 64,
        candidate="",
        candidate_rule="",
        candidate_version="",
        status=200,
        flags="",
        bytes_received=10,
        bytes_sent=20,
        duration=3.456,
        upstream="127.0.0.1:9102",
        upstream_duration=1.234,
    )


def test_a_denial_names_the_nearest_rule_and_what_did_not_match() -> None:
    got = record(denied(path="/orders/42", method="DELETE"))
    assert (got.decision, got.would_be, got.rule) == ("deny", "deny", "")
    assert (got.nearest, got.reason) == ("customers-orders", "method: it allows GET, not DELETE")


# Of a proxy whose observed targets have an open door, and their rules in the shadow.
DOOR = {"mode": "observe", "ep": "septum.observe"}


@pytest.mark.parametrize("proxy", [DOOR, DOOR | {"sp": "septum.deny"}, DOOR | {"sp": "septum.health"}])
def test_an_observed_call_that_no_rule_allows_passes_and_would_be_denied(proxy: dict[str, str]) -> None:
    got = record(line(path="/admin", **proxy))
    assert (got.decision, got.would_be, got.rule, got.nearest) == ("allow", "deny", "", "customers-orders")
    assert (got.candidate, got.candidate_version) == ("", "")


@pytest.mark.parametrize("proxy", [{"mode": "observe", "ep": "customers-orders"}, DOOR | {"sp": "customers-orders"}])
def test_an_observed_call_that_a_rule_allows_names_it(proxy: dict[str, str]) -> None:
    got = record(line(**proxy))
    assert (got.decision, got.would_be, got.rule) == ("allow", "allow", "customers-orders")
    assert got.candidate == ""


@pytest.mark.parametrize(
    ("said", "candidate", "rule"),
    [
        ("wide", "allow", "wide"),
        ("septum.deny", "deny", ""),
        ("septum.health", "deny", ""),
        ("septum.upgrade", "deny", ""),
    ],
)
@pytest.mark.parametrize(
    ("proxy", "decision", "would_be", "by"),
    [
        ({}, "allow", "allow", "customers-orders"),
        ({"mode": "observe", "ep": "customers-orders"}, "allow", "allow", "customers-orders"),
        (DOOR | {"path": "/admin"}, "allow", "deny", ""),
        ({"ep": "septum.deny", "path": "/admin", "up": None, "details": "rbac_access_denied"}, "deny", "deny", ""),
        ({"ep": "septum.quarantine", "mode": "observe", "up": None, "details": "rbac"}, "deny", "deny", ""),
    ],
)
def test_what_a_candidate_says_stands_beside_and_changes_nothing(
    proxy: dict[str, str], decision: str, would_be: str, by: str, said: str, candidate: str, rule: str
) -> None:
    got = record(line(sp=said, cv="c" * 64, **proxy))
    assert (got.decision, got.would_be, got.rule) == (decision, would_be, by)
    assert (got.candidate, got.candidate_rule, got.candidate_version) == (candidate, rule, "c" * 64)


@pytest.mark.parametrize(
    "fields",
    [
        {"ep": None, "up": None, "details": "path_normalization_failed"},
        {"ep": "septum.tunnel", "code": 503, "up": None},
        {"ep": "septum.forward", "sp": "septum.deny", "flags": "UF", "up": None},
        {"ep": "septum.misdirected", "up": None, "code": 421},
        {"ep": "septum.deny", "up": None, "code": 403},
    ],
)
def test_what_is_not_decided_here_no_candidate_is_asked_about(fields: dict[str, object]) -> None:
    got = record(line(cv="c" * 64, **fields))
    assert (got.candidate, got.candidate_rule, got.candidate_version) == ("", "", "")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("path_normalization_failed", "the path has no safe reading"),
        ("upgrade_failed", "the target does not take this upgrade"),
        ("http1.codec_error", "the request is malformed"),
        ("request_headers_too_large", "the headers are too large"),
        ("http2.too_many_headers", "there are too many headers"),
        ("something_new{with more}", "the proxy refused it: something_new"),
        (None, "the proxy refused it"),
    ],
)
def test_a_request_that_envoy_refuses_by_itself_is_denied_for_a_reason_in_words(
    details: str | None, reason: str
) -> None:
    got = record(line(er=None, ep=None, target=None, mode=None, slice=None, up=None, code=400, details=details))
    assert (got.decision, got.would_be, got.reason, got.status) == ("deny", "deny", reason, 400)
    assert got.target == "orders", "the authority names the workload"


def test_an_unknown_target_is_recorded_as_it_was_named() -> None:
    got = record(denied(target=None, authority="nowhere:81", mode=None, slice=None))
    assert (got.target, got.reason) == ("nowhere:81", "`nowhere:81` names no workload")


def test_an_upstream_failure_of_an_allowed_call_is_an_allow() -> None:
    got = record(line(code=503, flags="UF", details="upstream_reset_before_response_started{connection_failure}"))
    assert (got.decision, got.status, got.flags, got.reason) == ("allow", 503, "UF", "")


def test_a_caller_of_another_trust_domain_keeps_its_whole_name() -> None:
    got = record(denied(caller="spiffe://elsewhere.test/orders"))
    assert (got.caller, got.reason) == (
        "spiffe://elsewhere.test/orders",
        "no workload is called `spiffe://elsewhere.test/orders`",
    )


@pytest.mark.parametrize(
    ("fields", "protocol", "method", "path"),
    [
        ({"method": "CONNECT", "path": None, "target": "ledger"}, "tcp", "connect", ""),
        ({"method": "POST", "path": "/a.B/C", "ctype": "application/grpc+proto"}, "grpc", "POST", "/a.B/C"),
        ({"method": "POST", "path": "/a.B/C", "ctype": "application/grpc-web"}, "http", "POST", "/a.B/C"),
        ({"method": "GET", "path": "/ws", "upgrade": "WebSocket"}, "websocket", "GET", "/ws"),
        ({"method": "GET", "path": "/h2c", "upgrade": "h2c"}, "http", "GET", "/h2c"),
    ],
)
def test_the_protocol_is_the_one_that_was_asked_for(
    fields: dict[str, object], protocol: str, method: str, path: str
) -> None:
    got = record(denied(**fields))
    assert (got.protocol, got.method, got.path) == (protocol, method, path)


def test_a_denial_of_what_the_policy_allows_is_a_disagreement() -> None:
    assert record(denied(method="GET")).reason == "septum: decide says allow by customers-orders"


@pytest.mark.parametrize("path", ["/admin", "/orders/1/refund"])
def test_an_allow_of_what_the_policy_denies_is_a_disagreement(path: str) -> None:
    assert record(line(path=path)).reason.startswith("septum: decide says deny, path: it allows")


def test_an_allow_by_a_rule_that_is_not_in_the_policy_is_a_disagreement() -> None:
    assert record(line(ep="another")).reason == "septum: decide says allow by customers-orders, and not by another"


def test_what_reached_an_upstream_without_a_decision_is_a_disagreement() -> None:
    got = record(line(er=None, ep=None))
    assert (got.decision, got.would_be, got.reason) == ("allow", "deny", "septum: it passed and no rules were asked")


def test_a_tunnel_that_failed_is_no_disagreement() -> None:
    got = record(line(ep="septum.tunnel", method="CONNECT", code=503))
    assert (got.decision, got.rule, got.reason) == ("allow", "", "the tunnel into the proxy failed")


def test_a_call_that_did_not_get_to_the_node_that_decides_is_a_denial_of_no_rule() -> None:
    got = record(line(ep="septum.forward", code=503, flags="UF", details="upstream_reset", up="10.0.0.2:7443"))
    assert (got.decision, got.would_be, got.rule, got.nearest) == ("deny", "deny", "", "")
    assert (got.target, got.reason) == ("orders", "not delivered: UF, upstream_reset")
    said = record(line(ep="septum.forward", flags="UF", tls="TLS_error:CERTIFICATE_VERIFY_FAILED"))
    assert said.reason == "not delivered: UF, TLS_error:CERTIFICATE_VERIFY_FAILED"


def test_a_request_to_another_host_than_its_connection_is_a_denial() -> None:
    got = record(line(ep="septum.misdirected", target=None, authority="ledger", sni="orders.shop.test", code=421))
    assert (got.decision, got.would_be, got.target, got.status) == ("deny", "deny", "ledger", 421)
    assert got.reason == "misdirected: the request is to ledger, and its TLS connection to orders.shop.test"


def test_a_connection_that_came_to_no_request_is_a_denial_of_nobody() -> None:
    read = read_line(
        b'{"t":"5.5","type":"Connection","node":"n1","run":"r","from":"10.0.0.9:4000","claimed":"spiffe://x.test/a",'
        b'"sni":"orders.shop.test","tls":"TLS_error:CERTIFICATE_VERIFY_FAILED","ms":3}'
    )
    assert isinstance(read, Line)
    got = recorder().record(read, "n1")
    assert (got.decision, got.would_be, got.caller, got.target) == ("deny", "deny", "", "orders")
    assert (got.protocol, got.method) == ("tcp", "connect")
    assert got.reason == (
        "the connection was turned away: TLS_error:CERTIFICATE_VERIFY_FAILED, from 10.0.0.9:4000, "
        "which says that it is spiffe://x.test/a"
    )


STAFF = When((("iss", Equals("https://login.test")), ("groups", Contains("staff"))))


def conditional(*lines: bytes) -> list[Record]:
    """Records of a policy whose rule asks for a token of the staff."""
    known = policy()
    one = recorder(replace(known, rules=tuple(replace(rule, when=STAFF) for rule in known.rules)))
    read = [read_line(raw) for raw in lines]
    return [one.record(item, "n1") for item in read if isinstance(item, Line)]


def test_the_issuer_and_the_subject_of_a_token_are_kept() -> None:
    (got,) = conditional(line(iss="https://login.test", sub="alice"))
    assert (got.jwt_issuer, got.jwt_subject, got.rule, got.reason) == (
        "https://login.test", "alice", "customers-orders", "",
    )  # fmt: skip


def test_whether_a_token_had_what_a_rule_asks_is_not_on_record_and_so_no_disagreement() -> None:
    reasons = [
        got.reason
        for got in conditional(
            denied(method="GET"),
            denied(method="GET", iss="https://login.test", sub="alice"),
            denied(method="GET", iss="https://other.test", sub="alice"),
            denied(method="DELETE", iss="https://login.test", sub="alice"),
        )
    ]
    assert reasons == [
        'token: there is no valid one, and its `iss` has to be "https://login.test"',
        "token: it does not have what the rule asks of `groups`",
        'token: its `iss` does not fit; it has to be "https://login.test"',
        "method: it allows GET, not DELETE",
    ]


def test_a_rule_that_asks_for_nothing_but_the_issuer_may_have_held_or_not() -> None:
    known, of_issuer = policy(), When((("iss", Equals("https://login.test")),))
    one = recorder(replace(known, rules=tuple(replace(rule, when=of_issuer) for rule in known.rules)))
    read = read_line(denied(method="GET", iss="https://login.test"))
    assert isinstance(read, Line)
    got = one.record(read, "n1")
    assert (got.nearest, got.reason) == ("customers-orders", "token: it does not have what the rule asks of it")


def test_an_allow_of_somebody_in_quarantine_is_a_disagreement() -> None:
    read = read_line(line())
    assert isinstance(read, Line)
    for name in ("storefront", "orders"):
        got = recorder(replace(policy(), quarantined=frozenset({name}))).record(read, "n1")
        assert got.reason == f"septum: decide says deny, quarantine: {name} is quarantined"


def test_a_place_outside_is_a_target_like_any_other() -> None:
    known = policy()
    outside = External("stripe", "api.stripe.test", 443, Protocol.HTTP)
    rule = replace(known.rules[0], targets=("stripe",))
    one = recorder(replace(known, mesh=replace(known.mesh, external={"stripe": outside}), rules=(rule,)))
    read = [read_line(raw) for raw in (line(target="stripe"), denied(target="stripe"))]
    reasons = [one.record(item, "n1").reason for item in read if isinstance(item, Line)]
    assert reasons == ["", "method: it allows GET, not DELETE"]


def test_an_address_is_looked_up_on_the_node_that_was_asked() -> None:
    known = policy()
    nodes = {name: Node(name, Address("10.0.0.1", 7443)) for name in ("n1", "n2")}
    workloads = {
        name: replace(workload, node="n2" if name == "orders" else "n1")
        for name, workload in known.mesh.workloads.items()
    }
    one = recorder(replace(known, mesh=replace(known.mesh, nodes=nodes, workloads=workloads)))
    at = str(known.mesh.workloads["orders"].at)
    read = read_line(denied(target=None, authority=at, node=None))
    assert isinstance(read, Line)
    assert [one.record(read, node).target for node in ("n1", "n2")] == [at, "orders"]


def test_without_the_policy_a_denial_says_so() -> None:
    read = read_line(denied())
    assert isinstance(read, Line)
    got = Recorder("shop.test", Explainer(Always(None))).record(read, "n1")
    assert (got.policy_version, got.reason) == ("", "no rule allows it; the policy of that moment is not at hand")


def test_equal_denials_ask_the_policy_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(explain, "decide", lambda p, r, real=explain.decide: asked.append(r) or real(p, r))
    one = recorder()
    for _ in range(3):
        read = read_line(denied())
        assert isinstance(read, Line)
        one.record(read, "n1")
    assert len(asked) == 1


def test_another_version_is_asked_again() -> None:
    policies = Always(policy("1" * 64))
    one, read = Recorder("shop.test", Explainer(policies)), read_line(denied())
    assert isinstance(read, Line)
    first = one.record(read, "n1").policy_version
    policies.policy = policy("2" * 64)
    assert (first, one.record(read, "n1").policy_version) == ("1" * 64, "2" * 64)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"t":"soon"}',
        b'{"t":"nan"}',
        b'{"t":"1e999"}',
        b'{"t":"-"}',
        b'{"t":1,"code":99999999999999999999}',
        b'{"t":1,"code":-1}',
        b'{"t":-1}',
        b'{"t":1e300}',
        b'{"t":1,"id":"\\ud800"}',
        b'{"t":1,"path":"/a\xff"}',
        b'{"t":' + b"[" * 100_000,
    ],
)
def test_what_is_no_decision_comes_back_as_it_was(raw: bytes) -> None:
    read = read_line(raw)
    assert isinstance(read, Unreadable)
    assert read.line == raw
    assert read.reason


def test_dashes_and_numbers_in_quotes_are_read() -> None:
    read = read_line(b'{"t":"5.5","id":"-","code":"200","us":"-","in":"7"}')
    assert isinstance(read, Line)
    assert (read.time, read.id, read.code, read.us, read.in_) == (5.5, None, 200, None, 7)


def test_a_torn_line_and_the_next_runs_first_are_told_apart() -> None:
    whole = line(path="/a{", id="b").rstrip(b"\n")
    torn, rest = read_lines(b'{"t":"1764000000.5","id":"ab' + whole)
    assert isinstance(torn, Unreadable)
    assert torn.line == b'{"t":"1764000000.5","id":"ab'
    assert isinstance(rest, Line)
    assert rest.path == "/a{"


def test_every_key_that_envoy_writes_is_read() -> None:
    assert set(FIELDS) <= {field.encode_name for field in msgspec.structs.fields(Line)}


def test_a_line_of_every_key_is_read() -> None:
    numbers = {"code", "grpc", "in", "out", "us", "ms", "uus"}
    raw = json.dumps({key: 1 if key in numbers else "1" for key in FIELDS}).encode()
    assert isinstance(read_line(raw), Line)
