"""Meshes that tests share, as they are written."""

from __future__ import annotations

from septum.model.policy import Policy
from septum.policy.load import Loaded, load

SHOP = """\
mesh: shop
trust_domain: shop.test
segments:
  edge: takes traffic from outside
  core: order handling
  pci:  card data
  data: stores
workloads:
  storefront: {segment: edge, at: 127.0.0.1:9101, protocol: http}
  orders:     {segment: core, at: 127.0.0.1:9102, protocol: http, health: /healthz}
  payments:   {segment: pci,  at: 127.0.0.1:9103, protocol: grpc}
  ledger:     {segment: data, at: 127.0.0.1:9104, protocol: tcp}
enforce: [pci, data]
"""

SHOP_RULES = """\
allow:
  - name: customers-orders
    from: storefront
    to: orders
    http: [GET /orders/{id}, "GET,HEAD /catalog/**", POST /orders]
    because: customers browse, place and view orders
  - from: segment:core
    to: payments
    grpc: [shop.payments.v1.Payments/Authorize]
  - from: orders
    to: ledger
"""


def read(rules: str = "", mesh: str = SHOP) -> Loaded:
    """A mesh and one policy file, loaded."""
    return load({"septum.yaml": mesh.encode(), "policy/rules.yaml": rules.encode()})


def policy(rules: str = "", mesh: str = SHOP) -> Policy:
    """A mesh and one policy file without errors."""
    loaded = read(rules, mesh)
    assert loaded.policy is not None, loaded.errors
    return loaded.policy
