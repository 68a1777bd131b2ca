"""A plan with something of everything, of a moment that does not move."""

from __future__ import annotations

import meshes
from septum.model.policy import Policy
from septum.plan.made import Planned, plan_of
from septum.plan.plan import Plan
from septum.plan.replayed import Group, Now, Replay
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from septum.verify.diff import diff

NOW = 1_764_000_000.0
ISSUER = "issuers:\n  login: {issuer: https://login.test, audiences: [shop], jwks: https://login.test/keys}\n"
MESH = ISSUER + meshes.SHOP.replace("enforce: [pci, data]", "enforce: [core, pci, data]")
WANTED_MESH = MESH.replace("enforce: [core, pci, data]", "enforce: [edge, core, pci]").replace("stores", "what is kept")
RULES = """\
allow:
  - name: customers-orders
    from: storefront
    to: orders
    http: [GET /orders/{id}, "GET,HEAD /catalog/**", POST /orders]
    because: customers browse, place and view orders
  - name: pay
    from: segment:core
    to: payments
    grpc: [shop.payments.v1.Payments/Authorize]
  - name: kept
    from: orders
    to: ledger
guarantees:
  - {name: the edge never reaches stores, never: {from: "segment:edge", to: "segment:data"}}
"""
WANTED_RULES = """\
allow:
  - name: customers-orders
    from: storefront
    to: orders
    http: [GET /orders/**, "GET,HEAD /catalog/**"]
    because: customers <b>browse</b> | see @everyone
  - name: support
    from: storefront
    to: orders
    http: ["POST /orders/{id}/refund"]
    when: {claims: {iss: https://login.test, groups: {contains: support}}}
    until: 2027-01-31T00:00:00Z
  - name: kept
    from: orders
    to: ledger
guarantees:
  - {name: the edge never reaches stores, never: {from: "segment:edge", to: "segment:data"}}
  - {name: pci is closed, only: {from: orders, to: "segment:pci"}}
"""


def files(mesh: str, rules: str) -> dict[str, bytes | OSError]:
    return {"septum.yaml": mesh.encode(), "policy/orders.yaml": rules.encode()}


def policy(of: dict[str, bytes | OSError]) -> Policy:
    loaded = load(of)
    assert loaded.policy is not None, loaded.errors
    return loaded.policy


def plan(mesh: str = WANTED_MESH, rules: str = WANTED_RULES, *, shut: tuple[str, ...] = ("payments",)) -> Plan:
    before, after = files(MESH, RULES), files(mesh, rules)
    old, new = quarantined(policy(before), shut), quarantined(policy(after), shut)
    groups = (
        Group("storefront", "orders", "POST /orders", Now.DENIED, 1204, NOW - 86_000, NOW - 120, "/orders"),
        Group("storefront", "orders", "GET /x|y`<b>", Now.UNKNOWN, 1, NOW - 60, NOW - 60, "/x|y`<b>"),
    )
    replay = Replay(NOW - 7 * 86_400, NOW - 2 * 86_400, 98_765, groups)
    return plan_of(
        Planned("enforced (number 3)", old, before),
        Planned("the working tree", new, after),
        diff(old, new, NOW),
        NOW,
        message="refunds",
        commit="0123456789abcdef-dirty",
        replay=replay,
    )
