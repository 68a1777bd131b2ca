from __future__ import annotations

from dataclasses import replace

import pytest

import meshes
from septum.model.policy import Policy
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from septum.verify.diff import Diff, diff
from septum.verify.passing import Kind
from septum.verify.risk import Word
from septum.verify.rows import Row

NOW = 1_764_000_000
SOON, LATER = "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"
MESH = meshes.SHOP.replace("enforce: [pci, data]", "enforce: [edge, core, pci, data]")
TOKENS = """\
issuers:
  login: {issuer: https://login.test, audiences: [shop], jwks: https://login.test/keys}
external:
  partner: {host: api.partner.test, protocol: http}
"""


def rules(*lines: str) -> str:
    return "allow:\n" + "".join(f"  - {line}\n" for line in lines) if lines else "allow: []\n"


def policy(*lines: str, mesh: str = MESH) -> Policy:
    return meshes.policy(rules(*lines), mesh)


def shown(rows: tuple[Row, ...]) -> list[str]:
    return [f"{row.callers_text} -> {row.targets_text} {row.operation}" for row in rows]


def between(old: tuple[str, ...], new: tuple[str, ...], mesh: str = MESH) -> Diff:
    return diff(policy(*old, mesh=mesh), policy(*new, mesh=mesh), NOW)


BROWSE = "{name: browse, from: storefront, to: orders, http: GET /catalog/**}"
ORDER = "{name: order, from: storefront, to: orders, http: POST /orders}"


# --- rows


def test_a_new_rule_is_newly_allowed_pattern_by_pattern() -> None:
    found = between((), ("{name: a, from: storefront, to: orders, http: [GET /a, POST /b/{id}]}",))
    assert shown(found.allowed) == ["storefront -> orders GET /a", "storefront -> orders POST /b/{id}"]
    assert found.denied == ()
    assert str(found.allowed[1].witness.operation) == "POST /b/1"
    assert found.risk.word is Word.WIDENS


def test_what_was_open_by_another_rule_is_not_newly_allowed() -> None:
    found = between((BROWSE,), (BROWSE, "{name: shoes, from: storefront, to: orders, http: GET /catalog/shoes}"))
    assert (found.allowed, found.denied) == ((), ())
    assert [change.name for change in found.changes] == ["shoes"]
    assert found.risk.word is Word.NEITHER


def test_methods_that_are_new_are_a_row_of_their_own() -> None:
    found = between((BROWSE,), (BROWSE.replace("GET /", "'GET,HEAD,PUT /").replace("**}", "**'}"),))
    assert shown(found.allowed) == ["storefront -> orders HEAD,PUT /catalog/**"]
    assert found.allowed[0].other == ()


def test_of_a_wider_pattern_the_part_that_is_new_says_what_was_open_before() -> None:
    (row,) = between((BROWSE,), (BROWSE.replace("/catalog/**", "/**"),)).allowed
    assert row.operation == "GET /**"
    assert row.other == ("GET /catalog/** (browse)",)
    assert not row.contains(replace(row.witness, operation=type(row.witness.operation)("GET", "/catalog/x")))


def test_at_most_three_patterns_say_what_was_open_before() -> None:
    old = [f"{{name: r{n}, from: storefront, to: orders, http: GET /a/{n}}}" for n in range(5)]
    (row,) = between(tuple(old), ("{name: all, from: storefront, to: orders, http: GET /a/**}",)).allowed
    assert row.other == ("GET /a/0 (r0)", "GET /a/1 (r1)", "GET /a/2 (r2)", "2 more")


def test_two_rules_that_overlap_show_each_request_once() -> None:
    new = (
        "{name: a, from: storefront, to: orders, http: GET /x/**}",
        "{name: b, from: storefront, to: orders, http: GET /{p}/y}",
    )
    first, second = between((), new).allowed
    assert (first.above, second.above) == ((), ("GET /x/** (a)",))
    both = replace(second.witness, operation=type(second.witness.operation)("GET", "/x/y"))
    assert first.contains(both)
    assert not second.contains(both)


def test_a_pattern_that_earlier_rows_show_whole_has_no_row() -> None:
    new = (
        "{name: a, from: storefront, to: orders, http: GET /x/**}",
        "{name: b, from: storefront, to: orders, http: GET /x/y}",
    )
    assert [row.rule.id for row in between((), new).allowed] == ["a"]


def test_callers_are_shown_by_segments_as_far_as_they_are_complete() -> None:
    mesh = MESH.replace("enforce:", "  reports: {segment: edge, at: 127.0.0.1:9105, protocol: http}\nenforce:")
    some = "{name: a, from: [storefront, reports, payments], to: orders, http: GET /a}"
    (row,) = between((), (some,), mesh).allowed
    assert row.callers_text == "storefront, reports, payments"  # as the rule has it
    (row,) = between(("{name: b, from: payments, to: orders, http: GET /a}",), (some,), mesh).allowed
    assert row.callers_text == "segment:edge"


def test_targets_that_differ_in_what_they_take_are_one_row_with_each_its_requests() -> None:
    mesh = MESH.replace("enforce:", "  stock: {segment: core, at: 127.0.0.1:9105, protocol: http}\nenforce:")
    (row,) = between((), ("{name: a, from: storefront, to: 'segment:core', http: GET /**}",), mesh).allowed
    health = replace(row.witness, operation=type(row.witness.operation)("GET", "/healthz"))
    assert row.targets == ("orders", "stock")
    assert [row.contains(replace(health, target=name)) for name in row.targets] == [False, True]


def test_a_workload_that_is_gone_loses_what_it_had() -> None:
    old = policy(BROWSE, "{name: pay, from: orders, to: payments, grpc: '*'}")
    less = MESH.replace("  payments:   {segment: pci,  at: 127.0.0.1:9103, protocol: grpc}\n", "")
    found = diff(old, policy(BROWSE, mesh=less), NOW)
    assert shown(found.denied) == ["orders -> payments *"]
    assert ("workload", "payments", "removed") in [(c.kind, c.name, c.what) for c in found.changes]


def test_another_protocol_is_another_target() -> None:
    old = policy("{name: a, from: orders, to: ledger}")
    other = MESH.replace("at: 127.0.0.1:9104, protocol: tcp", "at: 127.0.0.1:9104, protocol: http")
    found = diff(old, policy("{name: a, from: orders, to: ledger, http: GET /}", mesh=other), NOW)
    assert (shown(found.allowed), shown(found.denied)) == (["orders -> ledger GET /"], ["orders -> ledger connect"])


def test_a_health_path_that_moves_changes_what_a_wide_rule_opens() -> None:
    wide = "{name: a, from: storefront, to: orders, http: GET /**}"
    found = diff(policy(wide), policy(wide, mesh=MESH.replace("/healthz", "/livez")), NOW)
    assert [str(row.witness.operation) for row in (*found.allowed, *found.denied)] == ["GET /healthz", "GET /livez"]


# --- conditions


def test_a_condition_that_is_dropped_widens_and_the_witness_has_no_token() -> None:
    when = "{name: a, from: storefront, to: orders, http: GET /a, when: {claims: {iss: https://login.test}}}"
    plain = "{name: a, from: storefront, to: orders, http: GET /a}"
    found = between((when,), (plain,), TOKENS + MESH)
    (row,) = found.allowed
    assert row.witness.claims == {}
    assert row.other == ("GET /a (a)",)
    assert between((plain,), (when,), TOKENS + MESH).denied[0].witness.claims == {}


def test_a_rule_that_ends_takes_away_what_comes_after() -> None:
    plain = "{name: a, from: storefront, to: orders, http: GET /a}"
    (row,) = between((plain,), (plain.replace("}", f", until: '{LATER}'}}"),)).denied
    assert row.witness.time is not None
    assert row.witness.time >= 1_798_761_600  # LATER
    assert row.contains(row.witness)
    assert not row.contains(replace(row.witness, time=float(NOW)))


def test_what_is_over_is_nothing_and_what_begins_later_is_something() -> None:
    over = f"{{name: a, from: storefront, to: orders, http: GET /a, until: '{SOON}'}}"
    assert diff(policy(), policy(over), 1_800_000_000).allowed == ()
    begins = f"{{name: a, from: storefront, to: orders, http: GET /a, from_time: '{LATER}'}}"
    (row,) = diff(policy(), policy(begins), NOW).allowed
    assert row.witness.time == 1_798_761_600


# --- as a whole


def test_observing_lets_everything_pass_and_enforcing_stops_it() -> None:
    enforced, observed = policy(BROWSE), policy(BROWSE, mesh=meshes.SHOP)
    forth, back = diff(enforced, observed, NOW), diff(observed, enforced, NOW)
    assert [(s.kind, s.name) for s in forth.shifts] == [(Kind.OBSERVED, "storefront"), (Kind.OBSERVED, "orders")]
    assert [s.kind for s in back.shifts] == [Kind.ENFORCED, Kind.ENFORCED]
    assert (forth.risk.word, back.risk.word) == (Word.WIDENS, Word.NARROWS)
    assert (forth.allowed, forth.denied) == ((), ())


def test_quarantine_takes_away_and_gives_back() -> None:
    free = policy(BROWSE)
    shut = quarantined(free, ["orders"])
    found = diff(free, shut, NOW)
    assert [(s.kind, s.name) for s in found.shifts] == [(Kind.QUARANTINED, "orders")]
    assert (found.risk.word, diff(shut, free, NOW).risk.word) == (Word.NARROWS, Word.WIDENS)
    assert diff(shut, shut, NOW).shifts == ()


def test_quarantine_of_somebody_who_had_nothing_changes_nothing() -> None:
    free = policy(BROWSE)
    (shift,) = diff(free, quarantined(free, ["ledger"]), NOW).shifts
    assert shift.witness is None
    assert diff(free, quarantined(free, ["ledger"]), NOW).risk.word is Word.NEITHER


# --- what cannot be told


def test_other_keys_of_an_issuer_on_which_rules_rely_cannot_be_told() -> None:
    when = "{name: a, from: storefront, to: orders, http: GET /a, when: {claims: {iss: https://login.test}}}"
    other = TOKENS.replace("login.test/keys", "keys.login.test/all")
    found = diff(policy(when, mesh=TOKENS + MESH), policy(when, mesh=other + MESH), NOW)
    assert found.risk.word is Word.CANNOT_TELL
    assert str(found.risk) == "cannot tell: the keys of issuer login changed, so other tokens are taken"
    unused = diff(policy(BROWSE, mesh=TOKENS + MESH), policy(BROWSE, mesh=other + MESH), NOW)
    assert unused.risk.word is Word.NEITHER


def test_another_place_behind_a_name_cannot_be_told_and_rows_are_said_too() -> None:
    other = TOKENS.replace("api.partner.test", "api.other.test")
    found = diff(policy(mesh=TOKENS + MESH), policy(BROWSE, mesh=other + MESH), NOW)
    assert found.risk.word is Word.CANNOT_TELL
    assert str(found.risk).endswith("(by what can be told, it widens)")


# --- what is written


def test_a_rule_with_another_name_is_one_change() -> None:
    (change,) = between((BROWSE,), (BROWSE.replace("browse", "look"),)).changes
    assert (change.what, [(p.name, p.before, p.after) for p in change.parts]) == (
        "changed",
        [("name", "browse", "look")],
    )


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (BROWSE, BROWSE.replace("}", ", because: why}"), ("because", "", "why")),
        (ORDER, ORDER.replace("POST /orders", "[POST /orders, GET /x]"), ("operations", "", "GET /x")),
        (ORDER, ORDER.replace("storefront", "payments"), ("from", "storefront", "payments")),
        (ORDER, ORDER.replace("}", f", until: '{LATER}'}}"), ("time", "", f"until {LATER}")),
    ],
)
def test_what_of_a_rule_changed(old: str, new: str, part: tuple[str, str, str]) -> None:
    (change,) = between((old,), (new,)).changes
    assert [(p.name, p.before, p.after) for p in change.parts] == [part]
    assert change.span is not None


def test_what_of_a_mesh_changed() -> None:
    mesh = MESH.replace("protocol: http, health: /healthz", "protocol: http, websocket: true").replace(
        "stores", "shelves"
    )
    mesh = mesh.replace("enforce: [edge, core, pci, data]", "enforce: [edge, core, pci]\nexternal: {}")
    found = diff(policy(), policy(mesh=mesh), NOW)
    assert {(c.kind, c.name): [p.name for p in c.parts] for c in found.changes} == {
        ("mesh", "shop"): ["enforce", "external"],
        ("segment", "data"): ["description"],
        ("workload", "orders"): ["health", "websocket"],
        ("workload", "ledger"): ["mode"],
    }


def test_guarantees_that_go_are_said() -> None:
    stated = "guarantees:\n  - {name: safe, never: {from: storefront, to: ledger}}\n"
    old = load({"septum.yaml": MESH.encode(), "policy/a.yaml": stated.encode()}).policy
    assert old is not None
    (change,) = diff(old, policy(), NOW).changes
    assert (change.kind, change.name, change.what) == ("guarantee", "safe", "removed")


def test_a_change_touches_its_callers_and_targets_and_nobody_else() -> None:
    found = between((BROWSE,), (BROWSE, "{name: a, from: orders, to: ledger}"))
    assert (found.touched.workloads, found.touched.nodes) == (("orders", "ledger"), ("",))
    assert between((BROWSE,), (BROWSE.replace("}", ", because: why}"),)).touched.workloads == ()
