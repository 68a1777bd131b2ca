"""docs/testing.md holds what tests can say: its example reads without a finding and passes, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import meshes
from septum.policy.cases_file import read_cases
from septum.policy.load import load
from septum.policy.shape import CASE
from septum.verify.cases import run_all

PAGE = (Path(__file__).parents[3] / "docs" / "testing.md").read_text(encoding="utf-8")
MESH = (
    meshes.SHOP
    + "issuers:\n  login: {issuer: https://login.shop.test, audiences: [a], jwks: https://login.shop.test/k}\n"
)
RULES = (
    meshes.SHOP_RULES
    + """\
  - name: refund
    from: storefront
    to: orders
    http: ["POST /orders/{id}/refund"]
    when: {claims: {iss: https://login.shop.test, groups: {contains: support}}}
    until: 2027-01-31T00:00:00Z
"""
)


def test_the_example_passes() -> None:
    files = {"septum.yaml": MESH.encode(), "policy/rules.yaml": RULES.encode(), "policy/testing.md": PAGE.encode()}
    policy = load(files).policy
    assert policy is not None
    found = read_cases(files, policy)
    assert found.diagnostics == ()
    results = run_all(policy, found.cases, 0.0)
    assert [result.case.title for result in results if not result.passed] == []
    assert len(results) == 5


def test_every_key_is_named() -> None:
    for key in CASE.keys:
        assert re.search(rf"^\| .*`{key}`", PAGE, re.MULTILINE), key
