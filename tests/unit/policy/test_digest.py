from __future__ import annotations

import pytest

import meshes
from septum.model.policy import Policy
from septum.policy.digest import slice_of
from septum.policy.load import load
from septum.policy.quarantine import quarantined

RULES = meshes.SHOP_RULES


def version(rules: str = RULES, mesh: str = meshes.SHOP) -> str:
    return meshes.policy(rules, mesh).version


def changed(policy: Policy) -> set[str]:
    """The targets whose slice differs from the shop's."""
    before = meshes.policy(RULES)
    return {name for name in before.mesh.workloads if slice_of(before, name) != slice_of(policy, name)}


def test_a_version_is_a_sha256_and_a_slice_is_sixteen_digits() -> None:
    policy = meshes.policy(RULES)
    assert len(bytes.fromhex(policy.version)) == 32
    assert len(bytes.fromhex(slice_of(policy, "orders"))) == 8


@pytest.mark.parametrize(
    "rules",
    [
        RULES.replace("allow:", "# a comment\nallow:"),
        RULES.replace("name: customers-orders", 'name: "customers-orders"'),
        RULES.replace("from: storefront", "from: [storefront]"),
        RULES.replace("[GET /orders/{id}, ", "['GET /orders/{id}', "),
    ],
)
def test_the_version_is_about_what_is_said_and_not_how(rules: str) -> None:
    assert version(rules) == version()


def test_the_order_of_the_mesh_plays_no_part() -> None:
    lines = meshes.SHOP.splitlines(keepends=True)
    swapped = "".join([*lines[:8], lines[9], lines[8], *lines[10:]])
    assert swapped != meshes.SHOP
    assert version(mesh=swapped) == version()


def test_rules_may_move_between_files() -> None:
    first, second = RULES.replace("  - from: segment:core", "--split--  - from: segment:core").split("--split--")
    files = {"septum.yaml": meshes.SHOP, "policy/z/one.yaml": first, "policy/a.yaml": "allow:\n" + second}
    loaded = load({path: text.encode() for path, text in files.items()})
    assert loaded.policy is not None
    assert loaded.policy == meshes.policy(RULES)
    assert loaded.policy.version == version()


@pytest.mark.parametrize(
    "rules",
    [
        RULES.replace("customers-orders", "customers"),
        RULES.replace("customers browse", "people browse"),
        RULES.replace("POST /orders]", "POST /orders/]"),
        RULES.replace("to: ledger", "to: [ledger]").replace("from: orders", "from: [orders, storefront]"),
        RULES.replace("from: segment:core", "from: orders"),
        RULES + "  - {from: storefront, to: ledger}\n",
        "",
    ],
)
def test_the_version_changes_with_what_the_rules_say(rules: str) -> None:
    assert version(rules) != version()


@pytest.mark.parametrize(
    "mesh",
    [
        meshes.SHOP.replace("mesh: shop", "mesh: shop2"),
        meshes.SHOP.replace("shop.test", "shop2.test"),
        meshes.SHOP.replace("card data", "cards"),
        meshes.SHOP.replace("[pci, data]", "[pci]"),
        meshes.SHOP.replace("9104", "9105"),
        meshes.SHOP.replace(", health: /healthz", ""),
        meshes.SHOP.replace("protocol: tcp", "protocol: tcp, mode: observe"),
        meshes.SHOP.replace("protocol: tcp", "protocol: tcp, limits: {pending: 7}"),
    ],
)
def test_the_version_changes_with_what_the_mesh_says(mesh: str) -> None:
    assert mesh != meshes.SHOP
    assert version(mesh=mesh) != version()


def test_a_slice_changes_with_the_rules_of_its_target_alone() -> None:
    assert changed(meshes.policy(RULES)) == set()
    assert changed(meshes.policy(RULES.replace("POST /orders]", "POST /orders/]"))) == {"orders"}
    assert changed(meshes.policy(RULES + "  - {from: storefront, to: ledger}\n")) == {"ledger"}
    assert changed(meshes.policy(RULES.replace("customers-orders", "customers"))) == {"orders"}


def test_a_slice_does_not_change_with_what_decides_nothing() -> None:
    assert changed(meshes.policy(RULES.replace("customers browse", "people browse"))) == set()
    assert changed(meshes.policy(RULES, meshes.SHOP.replace("9102", "9112"))) == set()
    assert changed(meshes.policy(RULES, meshes.SHOP.replace("tcp}", "tcp, limits: {pending: 7}}"))) == set()


def test_a_slice_does_not_change_with_another_target_of_its_rules() -> None:
    rule = "  - {name: x, from: storefront, to: %s, http: GET /x}\n"
    mesh = meshes.SHOP.replace("  ledger:", "  catalog: {segment: core, at: 127.0.0.1:9105, protocol: http}\n  ledger:")
    one = meshes.policy("allow:\n" + rule % "orders", mesh)
    both = meshes.policy("allow:\n" + rule % "[orders, catalog]", mesh)
    assert slice_of(one, "orders") == slice_of(both, "orders")
    assert slice_of(one, "catalog") != slice_of(both, "catalog")


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (meshes.SHOP.replace(", health: /healthz", ""), {"orders"}),
        (meshes.SHOP.replace("/healthz}", "/healthz, websocket: true}"), {"orders"}),
        (meshes.SHOP.replace("/healthz}", "/healthz, ignore_case: true}"), {"orders"}),
        (meshes.SHOP.replace("/healthz}", "/healthz, path_parameters: true}"), {"orders"}),
        (meshes.SHOP.replace("[pci, data]", "[pci]"), {"ledger"}),
        (meshes.SHOP.replace("shop.test", "x.test"), {"storefront", "orders", "payments", "ledger"}),
    ],
)
def test_a_slice_changes_with_what_its_target_takes(mesh: str, expected: set[str]) -> None:
    assert changed(meshes.policy(RULES, mesh)) == expected


WIDE = (
    meshes.SHOP.replace("http}", "http, node: alpha}")
    .replace("/healthz}", "/healthz, node: alpha}")
    .replace("grpc}", "grpc, node: beta}")
    .replace("tcp}", "tcp, node: beta}")
    + """\
nodes: {alpha: {inbound: 10.0.0.11:7443}, beta: {inbound: 10.0.0.12:7443}}
issuers: {login: {issuer: https://login.test, audiences: [shop], jwks: https://login.test/keys}}
external: {bank: {host: bank.test, protocol: http}}
"""
)
WIDE_RULES = RULES.replace("POST /orders]", "POST /orders]\n    when: {claims: {iss: https://login.test, level: 1}}")


@pytest.mark.parametrize(
    "mesh",
    [
        WIDE.replace("10.0.0.12:7443", "10.0.0.12:7444"),
        WIDE.replace("tcp, node: beta", "tcp, node: alpha"),
        WIDE.replace("[shop]", "[shop, desk]"),
        WIDE.replace("login.test/keys", "login.test/other"),
        WIDE.replace("host: bank.test", "host: bank2.test"),
        WIDE.replace("protocol: http}}", "protocol: http, mode: observe}}"),
        WIDE.replace("protocol: http}}", "protocol: http, port: 81}}"),
        WIDE.replace("{bank: {host: bank.test, protocol: http}}", "{}"),
        WIDE.replace("external: {bank: {host: bank.test, protocol: http}}\n", ""),
    ],
)
def test_the_version_changes_with_nodes_issuers_and_places_outside(mesh: str) -> None:
    assert mesh != WIDE
    assert version(WIDE_RULES, mesh) != version(WIDE_RULES, WIDE)


@pytest.mark.parametrize(
    "rules",
    [
        WIDE_RULES.replace("level: 1", "level: '1'"),
        WIDE_RULES.replace("level: 1", "level: true"),
        WIDE_RULES.replace("level: 1", "level: {contains: 1}"),
        WIDE_RULES.replace(", level: 1", ""),
        RULES,
    ],
)
def test_a_condition_is_part_of_the_version_and_of_the_slice(rules: str) -> None:
    before, after = meshes.policy(WIDE_RULES, WIDE), meshes.policy(rules, WIDE)
    assert before.version != after.version
    assert before.rules != after.rules
    differing = {name for name in before.mesh.targets if slice_of(before, name) != slice_of(after, name)}
    assert differing == {"orders"}


def test_how_a_condition_is_written_plays_no_part() -> None:
    again = WIDE_RULES.replace(
        "{iss: https://login.test, level: 1}", "{level: {equals: 1}, 'iss': 'https://login.test'}"
    )
    assert again != WIDE_RULES
    assert meshes.policy(again, WIDE) == meshes.policy(WIDE_RULES, WIDE)


def test_a_mesh_that_says_nothing_new_keeps_its_version() -> None:
    """State that was stored by an earlier Septum names versions: they go on to mean what they meant."""
    assert version() == "1a9a47fc729d69f670f7dcb890e5279e446f901dc5c528317c611c6bb30bc608"


def shut(*names: str) -> set[str]:
    """The targets whose slice a quarantine changes. Edge and core are observed."""
    before = meshes.policy(RULES)
    after = quarantined(before, names)
    assert after.version != before.version
    return {name for name in before.mesh.targets if slice_of(before, name) != slice_of(after, name)}


def test_a_slice_changes_with_the_quarantine_of_its_target_and_of_those_who_could_call_it() -> None:
    observed = {"storefront", "orders"}
    assert shut("ledger") == {"ledger"} | observed
    assert shut("orders") == {"orders", "ledger", "payments"} | observed
    assert shut("storefront") == observed


def test_a_quarantine_of_nobody_is_none() -> None:
    policy = meshes.policy(RULES)
    assert quarantined(policy, ["nobody"]) == quarantined(policy, []) == policy
    assert quarantined(quarantined(policy, ["orders"]), ["nobody"]) == policy
    assert quarantined(quarantined(policy, ["orders"]), ["ledger"]) == quarantined(policy, ["ledger"])
