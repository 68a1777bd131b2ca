"""A grant in a policy file: one rule more, and nothing else that is otherwise."""

from __future__ import annotations

import pytest

from septum.model.policy import Policy
from septum.model.window import Window, parse_time
from septum.policy.load import load
from septum.policy.upkeep.granting import GRANTS_FILE, Grant, NotGranted, granted

MESH = b"""\
mesh: shop
trust_domain: shop.test
segments: {edge: null, core: null}
workloads:
  web: {segment: edge, at: 127.0.0.1:9101, protocol: http}
  desk: {segment: edge, at: 127.0.0.1:9102, protocol: http}
  orders: {segment: core, at: 127.0.0.1:9103, protocol: http}
  payments: {segment: core, at: 127.0.0.1:9104, protocol: grpc}
  ledger: {segment: core, at: 127.0.0.1:9105, protocol: tcp}
issuers:
  login: {issuer: https://login.test, audiences: [shop], jwks: https://login.test/keys}
"""
RULES = b"allow:\n  - {from: web, to: orders, http: [GET /orders]}\n"
FILES = {"septum.yaml": MESH, "policy/rules.yaml": RULES}
END = parse_time("2027-01-31T00:00:00Z")
GRANT = Grant(("web",), ("orders",), ("GET /orders/{id}",), Window(until=END), "INC-1: why # not")


def before(files: dict[str, bytes]) -> Policy:
    policy = load(files).policy
    assert policy is not None
    return policy


def test_the_first_one_makes_the_file() -> None:
    made = granted(FILES, before(FILES), GRANT)
    assert made.content.decode() == (
        "# Rules that end by themselves. `septum grant` adds one, `septum tidy` takes out those that are over.\n"
        "allow:\n"
        "  - name: grant-web-orders\n"
        "    from: web\n"
        "    to: orders\n"
        "    http:\n"
        "      - GET /orders/{id}\n"
        "    until: 2027-01-31T00:00:00Z\n"
        '    because: "INC-1: why # not"\n'
    )
    assert (made.rule.id, made.rule.window, made.rule.because) == ("grant-web-orders", GRANT.window, GRANT.because)
    assert len(made.policy.rules) == 2


def test_another_one_is_added_to_it_and_comments_stay() -> None:
    text = b"# ours\nallow: # all of them\n  - {name: grant-web-orders, from: desk, to: ledger} # books\n  # the end\n"
    files = {**FILES, GRANTS_FILE: text}
    made = granted(files, before(files), GRANT)
    assert made.rule.id == "grant-web-orders-2"
    assert made.content.startswith(text.removesuffix(b"  # the end\n"))
    assert b"# the end" in made.content


@pytest.mark.parametrize("text", [b"", b"allow: []\n", b"# nothing yet\n", b"allow:\n- {from: desk, to: ledger}"])
def test_a_file_of_any_layout_takes_one(text: bytes) -> None:
    files = {**FILES, GRANTS_FILE: text}
    assert granted(files, before(files), GRANT).rule.callers == ("web",)


@pytest.mark.parametrize(
    ("callers", "targets", "operations", "claims"),
    [
        (("segment:edge",), ("ledger",), ("connect",), ()),
        (("orders",), ("payments",), ("shop.v1.Payments/Pay", "shop.v1.Refunds/*"), ()),
        (("orders",), ("payments",), ("*",), ()),
        (("segment:edge", "orders"), ("orders",), ("* /**",), ()),
        (("web",), ("orders",), ("GET,HEAD /a",), ("iss: https://login.test", "groups: {contains: support}")),
    ],
)
def test_whatever_a_rule_can_say_can_be_granted(
    callers: tuple[str, ...], targets: tuple[str, ...], operations: tuple[str, ...], claims: tuple[str, ...]
) -> None:
    grant = Grant(callers, targets, operations, Window(END - 60, END), "why", "mine", claims)
    rule = granted(FILES, before(FILES), grant).rule
    assert (rule.callers_text, rule.targets_text) == (",".join(callers), ",".join(targets))
    assert ([pattern.text for pattern in rule.operations or ()] or ["connect"]) == list(operations)
    assert (rule.window, rule.when is not None) == (Window(END - 60, END), bool(claims))


@pytest.mark.parametrize(
    "grant",
    [
        Grant(("wep",), ("orders",), ("GET /a",), Window(until=END), "why"),
        Grant(("web",), ("orders",), ("connect",), Window(until=END), "why"),
        Grant(("web",), ("ledger",), ("GET /a",), Window(until=END), "why"),
        Grant(("web",), ("segment:core",), ("GET /a",), Window(until=END), "why"),
        Grant(("web",), ("orders",), ("GET a",), Window(until=END), "why"),
        Grant(("web",), ("orders",), ("GET /a",), Window(until=END), "why", "septum.mine"),
        Grant(("web",), ("orders",), ("GET /a",), Window(until=END), "why", claims=("groups: admin",)),
        Grant(("web",), ("ledger",), ("connect",), Window(until=END), "why", claims=("iss: https://login.test",)),
    ],
)
def test_what_is_no_valid_rule_is_refused_with_the_findings(grant: Grant) -> None:
    with pytest.raises(NotGranted) as refused:
        granted(FILES, before(FILES), grant)
    assert refused.value.diagnostics
    assert all(one.span.file == GRANTS_FILE for one in refused.value.diagnostics)


@pytest.mark.parametrize(
    "grant",
    [
        Grant(("web",), ("orders",), ("GET /a",), Window(until=END), "why", claims=("iss: https://login.test } # ",)),
        Grant(("web,desk",), ("orders",), ("GET /a",), Window(until=END), "why"),
        Grant(("web",), ("orders",), ("GET /a",), Window(until=END), "why\n  from: desk"),
        Grant(("web",), ("orders",), ("GET /a",), Window(until=END), "why", "a\n    to: ledger"),
    ],
)
def test_words_that_would_say_something_else_are_refused(grant: Grant) -> None:
    with pytest.raises(NotGranted):
        granted(FILES, before(FILES), grant)


def test_a_name_that_is_taken_is_refused() -> None:
    files = {**FILES, "policy/more.yaml": b"allow: [{name: mine, from: desk, to: ledger}]\n"}
    with pytest.raises(NotGranted) as refused:
        granted(files, before(files), Grant(("web",), ("ledger",), ("connect",), Window(until=END), "why", "mine"))
    assert "two rules are called `mine`" in refused.value.diagnostics[0].message


def test_a_file_that_cannot_be_edited_is_left() -> None:
    files = {**FILES, GRANTS_FILE: b"{allow: [{from: desk, to: ledger}]}\n"}
    with pytest.raises(NotGranted, match=r"policy/grants\.yaml"):
        granted(files, before(files), GRANT)
