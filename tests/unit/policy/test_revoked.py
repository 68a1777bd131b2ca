from __future__ import annotations

import pytest

from septum.model.policy import Policy
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from septum.policy.revoked import revoked

MESH = """\
mesh: shop
trust_domain: shop.test
segments: {core: null, seen: null}
workloads:
  web: {segment: core, at: 127.0.0.1:9101, protocol: http}
  desk: {segment: core, at: 127.0.0.1:9102, protocol: http}
  orders: {segment: core, at: 127.0.0.1:9103, protocol: http, health: /live, websocket: true}
  ledger: {segment: core, at: 127.0.0.1:9104, protocol: tcp}
  watched: {segment: seen, at: 127.0.0.1:9105, protocol: http}
issuers:
  login: {issuer: https://login.test, audiences: [shop, desk], jwks: files/login.json}
external:
  bank: {host: bank.test, protocol: tls}
enforce: [core]
"""
RULES = """\
allow:
  - {name: browse, from: web, to: orders, http: ["GET /orders/{id}", "GET,HEAD /catalog/**"], because: they browse}
  - {name: support, from: [web, desk], to: orders, http: POST /refunds, when: {claims: {iss: https://login.test}}}
  - {name: books, from: [web, desk], to: ledger}
  - {name: money, from: desk, to: bank}
  - {name: seen, from: web, to: watched, http: GET /}
"""
KEYS = '{"keys": [{"kty": "OKP", "kid": "1", "x": "AA"}]}'
MORE_KEYS = '{"keys": [{"kty": "EC", "kid": "2", "x": "AA"}, {"kid": "1", "kty": "OKP", "x": "AA"}]}'


def policy(rules: str = RULES, mesh: str = MESH, keys: str = KEYS) -> Policy:
    texts = {"septum.yaml": mesh, "policy/rules.yaml": rules, "files/login.json": keys}
    loaded = load({path: text.encode() for path, text in texts.items()})
    assert loaded.policy is not None, loaded.errors
    return loaded.policy


def taken(rules: str = RULES, mesh: str = MESH, keys: str = KEYS) -> set[tuple[str, str]]:
    assert (rules, mesh, keys) != (RULES, MESH, KEYS)
    return set(revoked(policy(), policy(rules, mesh, keys)))


def swap(old: str, new: str, text: str = RULES) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(
    "rules",
    [
        RULES + "  - {from: orders, to: ledger}\n",
        swap("they browse", "people browse"),
        swap("name: browse", "name: shopping"),
        swap("from: web, to: orders", "from: [web, desk], to: orders"),
        swap("GET /orders/{id}", "GET,POST /orders/{id}"),
        swap("GET /orders/{id}", "GET /orders/**"),
        swap('"GET /orders/{id}", "GET,HEAD /catalog/**"', '"GET,HEAD /catalog/**", "GET /orders/{id}"'),
        swap('["GET /orders/{id}", "GET,HEAD /catalog/**"]', '["* /**"]'),
        swap('"GET,HEAD /catalog/**"', '"GET /catalog/**", "HEAD /catalog/**"'),
        swap(", when: {claims: {iss: https://login.test}}", ""),
        swap("{iss: https://login.test}", "{iss: {any_of: [https://login.test]}}"),
        swap("[web, desk], to: ledger", "segment:core, to: ledger"),
        swap("  - {name: seen, from: web, to: watched, http: GET /}\n", ""),
        "allow:\n" + "".join(reversed(RULES.splitlines(keepends=True)[1:])),
    ],
)
def test_what_takes_nothing_away(rules: str) -> None:
    assert taken(rules) == set()


def test_a_rule_that_others_make_up_for_takes_nothing_away() -> None:
    doubled = RULES + "  - {name: more, from: web, to: orders, http: GET /orders/7}\n"
    assert revoked(policy(doubled), policy()) == frozenset()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("allow: []\n",
         {("web", "orders"), ("desk", "orders"), ("web", "ledger"), ("desk", "ledger"), ("desk", "bank")}),
        (swap("GET /orders/{id}", "GET /orders/7"), {("web", "orders")}),
        (swap("GET,HEAD /catalog/**", "GET /catalog/**"), {("web", "orders")}),
        (swap("GET,HEAD /catalog/**", "GET,HEAD /catalog/{id}"), {("web", "orders")}),
        (swap("[web, desk], to: ledger", "desk, to: ledger"), {("web", "ledger")}),
        (swap("{iss: https://login.test}", "{iss: https://login.test, groups: {contains: x}}"),
         {("web", "orders"), ("desk", "orders")}),
        (swap("because: they browse", "when: {claims: {iss: https://login.test}}"), {("web", "orders")}),
        (swap("  - {name: money, from: desk, to: bank}\n", ""), {("desk", "bank")}),
        (swap("desk, to: bank", "web, to: bank"), {("desk", "bank")}),
    ],
)  # fmt: skip
def test_what_rules_take_away(rules: str, expected: set[tuple[str, str]]) -> None:
    assert taken(rules) == expected


ORDERS = {("web", "orders"), ("desk", "orders")}
EVERYONE = {(name, "watched") for name in ("web", "desk", "orders", "ledger", "watched")}


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (swap("websocket: true", "websocket: false", MESH), ORDERS),
        (swap("websocket: true", "websocket: true, path_parameters: true", MESH), set()),
        (swap("websocket: true", "websocket: true, ignore_case: true", MESH), ORDERS),
        (swap("health: /live, ", "", MESH), set()),
        (swap("health: /live", "health: /catalog/live", MESH), ORDERS),
        (swap("health: /live, websocket: true", "mode: observe, health: /live, websocket: true", MESH), set()),
        (swap("enforce: [core]", "enforce: [core, seen]", MESH), EVERYONE),
        (swap("enforce: [core]", "enforce: []", MESH), set()),
        (swap("9103", "9113", MESH), set()),
        (swap("host: bank.test", "host: bank2.test", MESH), {("desk", "bank")}),
        (swap("protocol: tls", "protocol: tls, mode: observe", MESH), set()),
        (swap("audiences: [shop, desk]", "audiences: [shop, desk, web]", MESH), set()),
        (swap("audiences: [shop, desk]", "audiences: [shop]", MESH), ORDERS),
        (swap("jwks: files/login.json", "jwks: https://login.test/keys", MESH), ORDERS),
    ],
)
def test_what_the_mesh_takes_away(mesh: str, expected: set[tuple[str, str]]) -> None:
    assert taken(mesh=mesh) == expected


def test_a_key_that_is_added_takes_nothing_away_and_one_that_goes_does() -> None:
    assert taken(keys=MORE_KEYS) == set()
    assert revoked(policy(keys=MORE_KEYS), policy()) == ORDERS


def test_a_condition_that_is_lifted_is_not_about_keys_any_more() -> None:
    freed = swap(", when: {claims: {iss: https://login.test}}", "")
    assert revoked(policy(keys=MORE_KEYS), policy(freed)) == frozenset()


def test_a_workload_that_goes_takes_its_calls_with_it() -> None:
    mesh = swap("  desk: {segment: core, at: 127.0.0.1:9102, protocol: http}\n", "", MESH)
    rules = RULES.replace("[web, desk]", "web").replace("  - {name: money, from: desk, to: bank}\n", "")
    assert taken(rules, mesh) == {("desk", "orders"), ("desk", "ledger"), ("desk", "bank"), ("desk", "watched")}


def test_a_target_that_goes_and_one_that_is_another_place_under_its_name() -> None:
    mesh = swap("  ledger: {segment: core, at: 127.0.0.1:9104, protocol: tcp}\n", "", MESH)
    place = mesh.replace("external:\n", "external:\n  ledger: {host: ledger.test, port: 1, protocol: tcp}\n")
    gone = swap("  - {name: books, from: [web, desk], to: ledger}\n", "")
    both = {("web", "ledger"), ("desk", "ledger")}
    assert taken(gone, mesh) == both | {("ledger", "watched")}
    assert taken(mesh=place) == both | {("ledger", "watched")}


def test_quarantine_takes_all_of_a_workloads_calls_in_and_out() -> None:
    shut = quarantined(policy(), ["desk", "watched"])
    as_caller = {("desk", "orders"), ("desk", "ledger"), ("desk", "bank"), ("desk", "watched")}
    assert revoked(policy(), shut) == as_caller | EVERYONE
    assert revoked(shut, policy()) == frozenset()
    assert revoked(shut, quarantined(policy(), ["desk", "watched", "ledger"])) == {("web", "ledger")}


def test_the_same_rules_as_other_objects_take_nothing_away() -> None:
    assert revoked(policy(), policy()) == frozenset()
