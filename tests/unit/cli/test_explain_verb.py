from __future__ import annotations

import json
from pathlib import Path

import pytest

import meshes
from command_line import Ran, septum, write_mesh


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", meshes.SHOP, orders=meshes.SHOP_RULES)


@pytest.fixture
def grant(tmp_path: Path) -> Path:
    rules = """\
allow:
  - name: refunds
    from: storefront
    to: payments
    grpc: [shop.v1.P/Refund]
    from_time: 2027-01-01T00:00:00Z
    until: 2027-01-31T00:00:00Z
    because: a sale
"""
    return write_mesh(tmp_path / "shop", meshes.SHOP, grant=rules)


def explain(mesh: Path, *arguments: str) -> Ran:
    return septum("explain", *arguments, cwd=mesh)


def test_an_allow_names_its_rule_and_the_reason(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "orders", "GET /orders/42?x=1")
    assert ran.status == 0
    assert (
        ran.out
        == """\
allow  storefront -> orders  GET /orders/42
  rule     customers-orders  policy/orders.yaml:2
  because  customers browse, place and view orders
  mode     observe
"""
    )


def test_a_denial_names_the_nearest_rule_and_the_one_thing_that_did_not_match(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "orders", "DELETE /orders/42")
    assert ran.status == 1
    assert (
        ran.out
        == """\
deny  storefront -> orders  DELETE /orders/42
  nearest  customers-orders  policy/orders.yaml:2
  because  customers browse, place and view orders
  reason   method: it allows GET, not DELETE
  mode     observe: it would be denied, and passes because `core` is observed
"""
    )


def test_a_denial_where_it_is_enforced(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "payments", "shop.payments.v1.Payments/Authorize")
    assert ran.status == 1
    assert (
        ran.out
        == """\
deny  storefront -> payments  shop.payments.v1.Payments/Authorize
  nearest  segment:core->payments  policy/orders.yaml:7
  reason   caller: it is for segment:core, not storefront
  mode     enforce
"""
    )


def test_a_tcp_session(mesh: Path) -> None:
    ran = explain(mesh, "orders", "ledger", "connect")
    assert ran.status == 0
    assert ran.out.splitlines()[:2] == [
        "allow  orders -> ledger  connect",
        "  rule     orders->ledger  policy/orders.yaml:10",
    ]


def test_a_request_that_the_proxy_refuses_by_itself_does_not_pass_where_denials_are_observed(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "orders", "GET /orders%2F42")
    assert ran.status == 1
    assert (
        ran.out
        == """\
deny  storefront -> orders  GET /orders%2F42
  reason   the path holds an encoded slash
  mode     observe: the proxy refuses it before any rule is asked
"""
    )


def test_a_workload_of_its_own_mode(tmp_path: Path) -> None:
    mesh = write_mesh(tmp_path, meshes.SHOP.replace("protocol: tcp", "protocol: tcp, mode: observe"))
    ran = explain(mesh, "orders", "ledger", "connect")
    assert ran.out.splitlines()[-1] == "  mode     observe: it would be denied, and passes because `ledger` is observed"


def test_who_is_not_in_the_mesh(mesh: Path) -> None:
    ran = explain(mesh, "orders", "nobody", "GET /")
    assert ran.status == 1
    assert ran.out == "deny  orders -> nobody  GET /\n  reason   `nobody` names no workload\n"


def test_files_are_named_as_seen_from_here(mesh: Path) -> None:
    ran = septum("-C", "shop", "explain", "orders", "ledger", "connect", cwd=mesh.parent)
    assert "shop/policy/orders.yaml:10" in ran.out


def test_json_of_an_allow(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "orders", "GET /orders/42?x=1", "--json", "--at", "2026-11-24T17:04:00Z")
    assert ran.status == 0
    assert json.loads(ran.out) == {
        "decision": "allow",
        "caller": "storefront",
        "target": "orders",
        "operation": "GET /orders/42",
        "claims": {},
        "at": "2026-11-24T17:04:00Z",
        "mode": "observe",
        "rule": {
            "id": "customers-orders",
            "operations": ["GET /orders/{id}", "GET,HEAD /catalog/**", "POST /orders"],
            "when": None,
            "from_time": None,
            "until": None,
            "because": "customers browse, place and view orders",
            "file": "policy/orders.yaml",
            "line": 2,
        },
        "nearest": None,
        "reason": None,
        "policy_version": meshes.policy(meshes.SHOP_RULES).version,
    }


def test_json_of_a_denial(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "ledger", "connect", "--json")
    assert ran.status == 1
    value = json.loads(ran.out)
    assert (value["decision"], value["mode"], value["rule"]) == ("deny", "enforce", None)
    assert value["nearest"]["id"] == "orders->ledger"
    assert value["reason"] == "caller: it is for orders, not storefront"


def test_a_grant_holds_until_its_end(grant: Path) -> None:
    during = explain(grant, "storefront", "payments", "shop.v1.P/Refund", "--at", "2027-01-30T23:59:59Z")
    assert (during.status, during.out) == (
        0,
        """\
allow  storefront -> payments  shop.v1.P/Refund
  rule     refunds  policy/grant.yaml:2
  holds    from 2027-01-01T00:00:00Z until 2027-01-31T00:00:00Z
  because  a sale
  mode     enforce
""",
    )
    after = explain(grant, "storefront", "payments", "shop.v1.P/Refund", "--at", "2027-01-31T00:00:00Z")
    assert after.status == 1
    assert "  reason   time: the rule ended at 2027-01-31T00:00:00Z\n" in after.out


def test_without_an_operation_it_says_all_that_one_may_ask_of_the_other(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "orders")
    assert (ran.status, ran.out) == (
        0,
        """\
allow  storefront -> orders
  rule     customers-orders  policy/orders.yaml:2
  opens    GET /orders/{id}
           GET,HEAD /catalog/**
           POST /orders
  because  customers browse, place and view orders
  mode     observe
""",
    )


@pytest.mark.parametrize(
    ("at", "status", "verdict", "note"),
    [
        ("2026-12-31T23:59:59Z", 1, "deny  storefront -> payments  whatever it asks", " (not yet)"),
        ("2027-01-01T00:00:00Z", 0, "allow  storefront -> payments", ""),
        ("2027-01-31T00:00:00Z", 1, "deny  storefront -> payments  whatever it asks", " (over)"),
    ],
)
def test_rules_whose_time_it_is_not_are_listed_and_open_nothing(
    grant: Path, at: str, status: int, verdict: str, note: str
) -> None:
    ran = explain(grant, "storefront", "payments", "--at", at)
    assert ran.status == status
    assert ran.out.splitlines() == [
        verdict,
        "  rule     refunds  policy/grant.yaml:2",
        "  opens    shop.v1.P/Refund",
        f"  holds    from 2027-01-01T00:00:00Z until 2027-01-31T00:00:00Z{note}",
        "  because  a sale",
        "  mode     enforce",
    ]
    (rule,) = json.loads(explain(grant, "storefront", "payments", "--at", at, "--json").out)["rules"]
    assert (rule["holds"], rule["until"]) == (status == 0, "2027-01-31T00:00:00Z")


def test_a_pair_without_a_rule(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "ledger")
    assert (ran.status, ran.out) == (
        1,
        """\
deny  storefront -> ledger  whatever it asks
  reason   no rule names storefront as a caller of ledger
  mode     enforce
""",
    )
    assert "no rule opens anything on storefront" in explain(mesh, "orders", "storefront").out


def test_a_pair_is_drawn(mesh: Path) -> None:
    drawn = explain(mesh, "orders", "ledger", "--format", "mermaid").out
    assert drawn.startswith("flowchart LR\n")
    assert '-->|"connect"|' in drawn
    assert '"orders" -> "ledger" [label="connect"]' in explain(mesh, "orders", "ledger", "--format", "dot").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("storefrnt", "orders"), "no workload is called `storefrnt`; did you mean `storefront`?"),
        (("storefront", "nobody"), "no workload is called `nobody`"),
        (("orders", "payments", "--claim", "iss=x"), "--claim goes with an OPERATION"),
        (("orders", "ledger", "connect", "--format", "dot"), "one request is no drawing"),
        (("orders", "ledger", "connect", "--at", "noon"), "`noon` is no moment"),
    ],
)
def test_wrong_usage(mesh: Path, words: tuple[str, ...], said: str) -> None:
    ran = explain(mesh, *words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


def test_what_is_no_operation_is_wrong_usage(mesh: Path) -> None:
    ran = explain(mesh, "storefront", "orders", "/orders")
    assert ran.status == 2
    assert "`/orders` is not an operation; write `METHOD /path`" in ran.err


def test_without_a_valid_policy_there_is_no_decision(tmp_path: Path) -> None:
    mesh = write_mesh(tmp_path, meshes.SHOP, a="allow: [x]\n")
    ran = explain(mesh, "storefront", "orders", "GET /")
    assert (ran.status, ran.out) == (2, "")
    assert "error[SEP204]" in ran.err
    assert "the policy has errors, so there is no decision" in ran.err


def test_without_a_mesh_it_says_how_to_get_one(tmp_path: Path) -> None:
    ran = explain(tmp_path, "a", "b", "GET /")
    assert ran.status == 2
    assert "septum init" in ran.err
