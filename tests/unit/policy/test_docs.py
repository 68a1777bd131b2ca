"""docs/policy.md holds what the language is: its examples load, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import meshes
import strategies
from septum.policy.load import load
from septum.policy.shape import EXTERNAL, GUARANTEE, ISSUER, MESH, NODE, POLICY, RULE, TEST, WORKLOAD
from septum.policy.shape import WHEN as WHEN_KEYS
from septum.verify.guarantee import verdicts

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")
MESH_EXAMPLE, NODES, ISSUERS, PLACES, RULES_EXAMPLE, WHEN, GRANT, GUARANTEES, _ = re.findall(
    r"```yaml\n(.*?)```", PAGE, re.DOTALL
)
HEAD = "mesh: shop\ntrust_domain: shop.test\nsegments: {core: null}\n"


def test_the_examples_load_without_a_finding() -> None:
    loaded = meshes.read(RULES_EXAMPLE, MESH_EXAMPLE)
    assert loaded.diagnostics == ()
    assert loaded.policy is not None
    assert [rule.id for rule in loaded.policy.rules] == ["customers-orders", "orders->ledger", "segment:core->payments"]


def test_the_example_of_nodes_loads() -> None:
    policy = meshes.policy(mesh=HEAD + NODES)
    assert policy.mesh.on("alpha") == ("orders",)


def test_the_examples_of_issuers_places_outside_conditions_and_grants_load() -> None:
    workloads = "".join(
        f"  {name}: {{segment: core, at: 127.0.0.1:{port}, protocol: http}}\n"
        for port, name in enumerate(("support-tool", "orders"), start=9101)
    )
    files = {
        "septum.yaml": f"{HEAD}workloads:\n{workloads}{ISSUERS}{PLACES}",
        "policy/a.yaml": WHEN,
        "policy/b.yaml": GRANT,
        "files/login.json": strategies.KEYS,
        "files/partner.pem": strategies.CERTIFICATE,
    }
    assert load({path: text.encode() for path, text in files.items()}).diagnostics == ()


def test_the_examples_of_guarantees_are_kept_by_the_example_of_rules_but_for_two() -> None:
    desk = "  support-tool: {segment: edge, at: 127.0.0.1:9106, protocol: http}\n"
    mesh = MESH_EXAMPLE.replace("workloads:\n", f"workloads:\n{desk}")
    policy = meshes.policy(RULES_EXAMPLE + GUARANTEES, mesh)
    found = verdicts(policy, 1_790_000_000)
    assert [verdict.holds for verdict in found] == [False, True, False, True]
    assert [step.rule.id for step in found[0].chain if step.rule] == ["customers-orders", "orders->ledger"]


def test_the_tests_of_claims_that_it_shows_are_tests() -> None:
    written = re.findall(r"^\| (`[a-z]+: [^|]*`) \|", PAGE, re.MULTILINE)
    assert len(written) == 4
    for test in (one.strip("` ") for row in written for one in row.split(", or ")):
        mesh = meshes.SHOP + ISSUERS.replace("files/login.json", "https://login.shop.test/keys")
        when = f"{{claims: {{iss: https://login.shop.test, {test}}}}}"
        rules = f"allow:\n  - {{from: storefront, to: orders, http: GET /, when: {when}}}\n"
        assert meshes.read(rules, mesh).diagnostics == (), test


def test_every_key_is_named() -> None:
    for keys in (MESH, POLICY, RULE, WORKLOAD, NODE, ISSUER, EXTERNAL, WHEN_KEYS, TEST.one_of, GUARANTEE):
        for key in keys.keys:
            assert re.search(rf"`{key}`|\b{key}:", PAGE), key


def test_the_patterns_that_it_shows_are_patterns() -> None:
    written = re.findall(r"^\| `(?:([A-Z,]+) )?([^`]*/[^`]*)` \|", PAGE, re.MULTILINE)
    assert len(written) == 5
    for methods, what in written:
        key, target = ("http", "orders") if what.startswith("/") else ("grpc", "payments")
        entry = f"{methods or 'GET'} {what}" if key == "http" else what
        rules = f"allow:\n  - {{from: storefront, to: {target}, {key}: ['{entry}']}}\n"
        assert meshes.read(rules).errors == (), entry
