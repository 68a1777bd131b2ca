from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from graph_languages import Drawn, read_dot, read_mermaid

import meshes
from command_line import Ran, septum, write_mesh
from septum.cli import drawing
from septum.verify.reach import reach

MORE = """\
  - {name: refunds, from: storefront, to: payments, grpc: [shop.v1.P/Refund, shop.v1.P/Void, a.B/C, a.B/D],
     until: 2099-01-31T00:00:00Z}
  - {name: over, from: payments, to: ledger, until: 2020-01-01T00:00:00Z}
  - {name: back, from: payments, to: storefront, http: GET /}
  - {name: out, from: orders, to: bank}
  - name: staff
    from: storefront
    to: orders
    http: POST /refunds
    when: {claims: {iss: https://login.shop.test, 'say "hi" \\\\ & <b>': {contains: '#1 `x` \\n'}}}
"""
FURTHER = """\
issuers:
  login: {issuer: https://login.shop.test, audiences: [shop], jwks: https://login.shop.test/keys}
external:
  bank: {host: bank.test, protocol: tls, mode: observe}
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", meshes.SHOP + FURTHER, orders=meshes.SHOP_RULES + MORE)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "plain", meshes.SHOP, orders=meshes.SHOP_RULES)


def run(mesh: Path, *arguments: str) -> Ran:
    return septum("reach", *arguments, cwd=mesh)


def test_what_one_reaches_is_a_tree_with_the_operations_on_the_way(plain: Path) -> None:
    ran = run(plain, "storefront")
    assert (ran.status, ran.err) == (0, "")
    assert (
        ran.out
        == """\
storefront
└─ orders (observed)  GET /orders/{id}, GET,HEAD /catalog/**, POST /orders
   ├─ payments  shop.payments.v1.Payments/Authorize
   └─ ledger  connect
storefront reaches 3 (1 directly)
what is observed takes calls from everyone; this is what the rules allow
"""
    )


def test_who_reaches_one_is_a_tree_of_callers(plain: Path) -> None:
    ran = run(plain, "--to", "ledger")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[:4] == [
        "ledger",
        "└─ orders (observed)  connect",
        "   └─ storefront  GET /orders/{id}, GET,HEAD /catalog/**, POST /orders",
        "ledger is reached by 2 (1 directly)",
    ]


def test_with_both_ends_it_is_all_the_shortest_chains(mesh: Path) -> None:
    rules = """\
  - {name: side, from: storefront, to: payments, grpc: a.B/C}
  - {name: books, from: payments, to: ledger}
  - {name: long-way, from: payments, to: orders, http: GET /}
"""
    write_mesh(mesh, meshes.SHOP, orders=meshes.SHOP_RULES + rules)
    ran = run(mesh, "storefront", "ledger")
    assert ran.status == 0
    assert ran.out.splitlines()[:6] == [
        "storefront",
        "├─ orders (observed)  GET /orders/{id}, GET,HEAD /catalog/**, POST /orders",
        "│  └─ ledger  connect",
        "└─ payments  a.B/C",
        "   └─ ledger  connect",
        "storefront reaches ledger",
    ]
    assert run(mesh, "storefront", "--to", "ledger") == ran


def test_conditions_and_ends_are_shown_and_what_is_over_plays_no_part(mesh: Path) -> None:
    out = run(mesh, "storefront").out
    assert "└─ payments  shop.v1.P/Refund, shop.v1.P/Void, a.B/C +1 [until 2099-01-31T00:00:00Z]\n" in out
    assert '; POST /refunds [iss is "https://login.shop.test", say "hi"' in out
    assert "│  └─ bank (observed)  connect\n" in out
    assert "payments" not in run(mesh, "--to", "ledger", "--direct").out


def test_what_is_shown_once_is_marked_where_it_stands_again(mesh: Path) -> None:
    out = run(mesh, "storefront").out
    assert "   └─ storefront (observed) …  GET /\n" in out
    assert "│  ├─ payments …  shop.payments.v1.Payments/Authorize\n" in out
    assert "├─ ledger  connect\n" in out


def test_when_there_is_no_chain_the_exit_status_says_so(mesh: Path) -> None:
    ran = run(mesh, "ledger", "orders")
    assert (ran.status, ran.out) == (1, "ledger cannot reach orders\n")
    ran = run(mesh, "storefront", "ledger", "--direct")
    assert (ran.status, ran.out) == (1, "storefront cannot reach ledger\n")
    assert run(mesh, "ledger").out == "ledger reaches nobody\n"
    assert json.loads(run(mesh, "ledger", "orders", "--json").out)["reached"] is False


def test_nobody_reaches_is_a_status_too(plain: Path) -> None:
    ran = run(plain, "--to", "storefront")
    assert (ran.status, ran.out) == (1, "storefront is reached by nobody\n")


def test_segments_stand_for_their_workloads(mesh: Path) -> None:
    assert run(mesh, "segment:edge", "segment:data").out.splitlines()[0] == "storefront"
    out = json.loads(run(mesh, "--to", "segment:pci", "--direct", "--json").out)
    assert (out["from"], out["to"]) == ([], ["payments"])
    assert [(call["caller"], call["target"]) for call in out["calls"]] == [
        ("storefront", "payments"),
        ("orders", "payments"),
    ]


def test_json_has_every_call_with_its_rules(mesh: Path) -> None:
    value = json.loads(run(mesh, "orders", "payments", "--json").out)
    assert value == {
        "from": ["orders"],
        "to": ["payments"],
        "reached": True,
        "calls": [
            {
                "caller": "orders",
                "target": "payments",
                "mode": "enforce",
                "rules": [
                    {
                        "id": "segment:core->payments",
                        "operations": ["shop.payments.v1.Payments/Authorize"],
                        "when": None,
                        "from_time": None,
                        "until": None,
                        "because": "",
                        "file": "policy/orders.yaml",
                        "line": 7,
                    }
                ],
            }
        ],
    }
    assert run(mesh, "orders", "payments", "--format", "json").out == run(mesh, "orders", "payments", "--json").out


@pytest.mark.parametrize(("form", "read"), [("mermaid", read_mermaid), ("dot", read_dot)])
def test_a_drawing_is_of_its_grammar_and_says_what_the_tree_says(mesh: Path, form: str, read: object) -> None:
    drawn: Drawn = read(run(mesh, "storefront", "--format", form).out)  # type: ignore[operator]
    assert drawn.boxes == {"edge": ["storefront"], "core": ["orders"], "pci": ["payments"], "data": ["ledger"]}
    assert drawn.round == {"bank"}
    assert drawn.dashed == {"storefront", "orders", "bank"}
    assert [edge[:2] for edge in drawn.edges] == [
        ("storefront", "orders"),
        ("orders", "payments"),
        ("orders", "ledger"),
        ("orders", "bank"),
        ("storefront", "payments"),
        ("payments", "storefront"),
    ]
    (staff,) = (label for _, target, label in drawn.edges if target == "orders")
    assert staff.endswith(' [iss is "https://login.shop.test", say "hi" \\\\ & <b> holds "#1 `x` \\\\n"]')


def test_a_drawing_of_nothing_is_one_too(mesh: Path) -> None:
    assert read_mermaid(run(mesh, "ledger", "--format", "mermaid").out) == Drawn()
    assert read_dot(run(mesh, "ledger", "--format", "dot").out) == Drawn()


def test_a_terminal_without_box_characters_gets_others() -> None:
    policy = meshes.policy(meshes.SHOP_RULES)
    with patch.object(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1")):
        how = drawing.strokes()
    assert list(drawing.tree(reach(policy, 0.0, ["storefront"]), policy.mesh, how)) == [
        "storefront",
        "`- orders (observed)  GET /orders/{id}, GET,HEAD /catalog/**, POST /orders",
        "   |- payments  shop.payments.v1.Payments/Authorize",
        "   `- ledger  connect",
    ]
    with patch.object(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
        assert drawing.strokes() is drawing.BOXES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name whose reach it is: septum reach FROM, or septum reach --to TO"),
        (("storefront", "ledger", "--to", "orders"), "TO is given twice"),
        (("storefrnt",), "no workload is called `storefrnt`; did you mean `storefront`?"),
        (("bank",), "`bank` is a place outside, and nobody there calls anyone here"),
        (("core",), "no workload is called `core`; did you mean `segment:core`?"),
        (("segment:cor",), "no segment is called `cor`; did you mean `core`?"),
        (("storefront", "bnk"), "no workload or place outside is called `bnk`; did you mean `bank`?"),
        (("storefront", "--format", "svg"), "'svg' is not one of"),
    ],
)
def test_wrong_usage(mesh: Path, words: tuple[str, ...], said: str) -> None:
    ran = run(mesh, *words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


def test_an_empty_segment_and_a_broken_policy_have_no_answer(tmp_path: Path) -> None:
    empty = write_mesh(
        tmp_path / "a",
        meshes.SHOP.replace("  data: stores", "  data: stores\n  lab: x"),
    )
    assert "no workload is in the segment `lab`" in run(empty, "segment:lab").err
    broken = write_mesh(tmp_path / "b", meshes.SHOP, a="allow: [x]\n")
    ran = run(broken, "storefront")
    assert (ran.status, ran.out) == (2, "")
    assert "error[SEP204]" in ran.err
    assert "the policy has errors, so there is no telling who reaches what" in ran.err
