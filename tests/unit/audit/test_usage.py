"""What recorded traffic used, by rule and operation."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import meshes
from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import FILE, StoreUnavailable
from septum.audit.store import Store
from septum.audit.usage import Use, most_used, usage
from septum.model.policy import Policy
from septum.model.record import Record

RULES = """\
allow:
  - name: customers-orders
    from: storefront
    to: orders
    http: [GET /orders/{id}, "GET,HEAD /orders/**", GET /healthz, POST /orders]
  - {from: segment:core, to: payments, grpc: "a.B/*"}
  - {from: segment:core, to: payments, grpc: a.C/D}
  - {from: orders, to: ledger}
"""


@pytest.fixture
def policy() -> Policy:
    return meshes.policy(RULES)


def record(raw: bytes, **differs: object) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read, "n1")._replace(**differs)


def call(time: float, path: str, rule: str = "customers-orders", **differs: object) -> Record:
    return record(line(), time=time, path=path, rule=rule, **differs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


def written(path: Path, *records: Record) -> None:
    with closing(Store(path)) as store:
        store.write("n1", records, Position(), {})


def test_each_operation_that_covers_a_call_is_used(path: Path, policy: Policy) -> None:
    written(path, call(5, "/orders/1"), call(20, "/orders/1"), call(30, "/orders/1/lines"), call(40, "/healthz"))
    found = usage(path, policy, 10)
    assert found.operations == {
        ("customers-orders", "GET /orders/{id}"): Use(1, 20, 20),
        ("customers-orders", "GET,HEAD /orders/**"): Use(2, 20, 30),
        ("customers-orders", "GET /healthz"): Use(1, 40, 40),
    }
    rules = {rule.id: rule for rule in policy.rules}
    assert found.of_rule(rules["customers-orders"]) == Use(4, 20, 40)
    assert found.of_rule(rules["orders->ledger"]) is None
    assert (found.begins, found.records, found.lost, found.covers) == (5, 3, 0, True)


def test_what_an_observed_target_let_pass_is_no_use_of_a_rule_that_did_not_allow_it(path: Path, policy: Policy) -> None:
    passed = record(
        denied(), time=20, path="/orders/1", method="GET", mode="observe", decision="allow", would_be="deny"
    )
    observed = call(30, "/orders/1", mode="observe")
    written(path, passed._replace(rule="", nearest="customers-orders"), observed)
    assert usage(path, policy, 0).operations["customers-orders", "GET /orders/{id}"] == Use(1, 30, 30)


def test_the_health_path_is_used_by_the_operation_that_spells_it_out(path: Path) -> None:
    rules = 'allow:\n  - {name: r, from: storefront, to: orders, http: [GET /healthz, "* /**"]}\n'
    written(path, call(20, "/healthz", "r"))
    assert set(usage(path, meshes.policy(rules), 0).operations) == {("r", "GET /healthz")}


def test_a_call_that_lasts_is_one_call_and_one_that_goes_on_is_one_too(path: Path, policy: Policy) -> None:
    lasting = call(20, "/orders/1")
    written(path, lasting._replace(open=True), lasting, call(30, "/healthz", open=True))
    found = usage(path, policy, 0).operations
    assert found["customers-orders", "GET /orders/{id}"] == Use(1, 20, 20)
    assert found["customers-orders", "GET /healthz"] == Use(1, 30, 30)


def test_sessions_and_methods(path: Path, policy: Policy) -> None:
    session = call(20, "", "orders->ledger", target="ledger", protocol="tcp", method="connect")
    method = call(30, "/a.B/X", "segment:core->payments", target="payments", protocol="grpc", method="POST")
    written(path, session, method)
    assert set(usage(path, policy, 0).operations) == {
        ("orders->ledger", "connect"),
        ("segment:core->payments", "a.B/*"),
    }


def test_unnamed_rules_are_told_apart_by_their_operations(path: Path, policy: Policy) -> None:
    """The number in a record is that of an older version, in which another rule came first."""
    second = call(30, "/a.C/D", "segment:core->payments", target="payments", protocol="grpc", method="POST")
    first = call(40, "/a.B/X", "segment:core->payments#2", target="payments", protocol="grpc", method="POST")
    written(path, second, first)
    assert usage(path, policy, 0).operations == {
        ("segment:core->payments", "a.B/*"): Use(1, 40, 40),
        ("segment:core->payments#2", "a.C/D"): Use(1, 30, 30),
    }


def test_what_is_not_in_the_policy_any_more_is_left_out(path: Path, policy: Policy) -> None:
    gone = (call(20, "/orders/1", "gone"), call(20, "/orders/1", target="gone"), call(20, "/elsewhere"))
    written(path, *gone)
    assert usage(path, policy, 0).operations == {}


def test_of_what_is_looked_at_the_kinds_of_calls_are_kept(path: Path, policy: Policy) -> None:
    written(path, *(call(20, f"/orders/{number}") for number in range(3)), call(30, "/orders/1/lines"))
    found = usage(path, policy, 0, lambda pattern: pattern.path.tail)
    assert set(found.seen) == {("customers-orders", "GET,HEAD /orders/**")}
    [seen] = found.seen.values()
    assert most_used(seen, 1) == [("GET /orders/{id}", 3)]
    assert seen.total() == 4


def test_losses_are_told(path: Path, policy: Policy) -> None:
    written(path, call(20, "/orders/1"))
    with closing(Store(path)) as store:
        store.note_loss("n1", "run", 10, 7)
    assert usage(path, policy, 0).lost == 3


def test_without_records_nothing_is_covered(path: Path, policy: Policy) -> None:
    written(path)
    found = usage(path, policy, 0)
    assert (found.begins, found.covers, found.operations) == (None, False, {})


def test_a_file_that_is_none_is_said(path: Path, policy: Policy) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at as one")
    with pytest.raises(StoreUnavailable, match=FILE):
        usage(path, policy, 0)
    with pytest.raises(StoreUnavailable), closing(sqlite3.connect(path)):
        usage(path.with_name("nowhere.db"), policy, 0)
