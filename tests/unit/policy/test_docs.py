"""docs/policy.md holds what the language is: its examples load, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import meshes
from septum.policy.shape import MESH, POLICY, RULE, WORKLOAD

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")
MESH_EXAMPLE, RULES_EXAMPLE, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_load_without_a_finding() -> None:
    loaded = meshes.read(RULES_EXAMPLE, MESH_EXAMPLE)
    assert loaded.diagnostics == ()
    assert loaded.policy is not None
    assert [rule.id for rule in loaded.policy.rules] == ["customers-orders", "orders->ledger", "segment:core->payments"]


def test_every_key_is_named() -> None:
    for keys in (MESH, POLICY, RULE, WORKLOAD):
        for key in (*keys.keys, *keys.later):
            assert re.search(rf"`{key}`|\b{key}:", PAGE), key


def test_the_patterns_that_it_shows_are_patterns() -> None:
    written = re.findall(r"^\| `(?:([A-Z,]+) )?([^`]*/[^`]*)` \|", PAGE, re.MULTILINE)
    assert len(written) == 5
    for methods, what in written:
        key, target = ("http", "orders") if what.startswith("/") else ("grpc", "payments")
        entry = f"{methods or 'GET'} {what}" if key == "http" else what
        rules = f"allow:\n  - {{from: storefront, to: {target}, {key}: ['{entry}']}}\n"
        assert meshes.read(rules).errors == (), entry
