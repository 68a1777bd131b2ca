from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

import meshes
from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.outcome import CONNECTION, GATE, outcome
from septum.audit.parcel import Position
from septum.audit.replay import UNDECIDED, replay
from septum.audit.schema import StoreUnavailable
from septum.audit.store import Store
from septum.model.policy import Policy
from septum.plan.replayed import Group, Now, Replay
from septum.policy.quarantine import quarantined
from septum.verify.diff import diff

NOW = 1_764_000_000.0
MESH = meshes.SHOP.replace("enforce: [pci, data]", "enforce: [edge, core, pci, data]")
TOKENS = "issuers:\n  login: {issuer: https://login.test, audiences: [shop], jwks: https://login.test/keys}\n"
BROWSE = "{name: browse, from: storefront, to: orders, http: [GET /catalog/**, GET /orders/{id}]}"

Write = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


@pytest.fixture
def write(path: Path) -> Iterator[Write]:
    """Keeps records: a plain one of storefront's to orders at NOW - 60, with the given fields."""
    read = read_line(line())
    assert isinstance(read, Line)
    plain = recorder().record(read, "n1")._replace(time=NOW - 60, protocol="http", method="GET", path="/catalog/a")
    with closing(Store(path)) as store:

        def keep(*records: dict[str, object]) -> None:
            made = [plain._replace(request_id=str(n), **of) for n, of in enumerate(records)]
            store.write("n1", made, Position(), {})

        yield keep


def policy(*rules: str, mesh: str = MESH) -> Policy:
    return meshes.policy("allow:\n" + "".join(f"  - {rule}\n" for rule in rules) if rules else "", mesh)


def replayed(path: Path, old: Policy, new: Policy, since: float = NOW - 86_400) -> Replay:
    return replay(path, old, new, diff(old, new, NOW), since, NOW)


def became(found: Replay) -> list[tuple[str, str, int]]:
    return [(group.operation, str(group.now), group.count) for group in found.groups]


def test_what_passed_and_would_be_denied_is_counted_by_kind(path: Path, write: Write) -> None:
    write(
        {"path": "/orders/1", "time": NOW - 300},
        {"path": "/orders/2", "time": NOW - 100},
        {"path": "/orders/3", "time": NOW - 200},
        {"path": "/catalog/a"},
    )
    found = replayed(path, policy(BROWSE), policy("{name: b, from: storefront, to: orders, http: GET /catalog/**}"))
    assert found.groups == (
        Group("storefront", "orders", "GET /orders/{id}", Now.DENIED, 3, NOW - 300, NOW - 100, "/orders/2"),
    )
    assert (found.records, found.oldest, found.count(Now.DENIED)) == (4, NOW - 300, 3)


def test_what_was_denied_and_would_pass_is_told_apart(path: Path, write: Write) -> None:
    write({"method": "DELETE", "path": "/orders/1", "decision": "deny", "would_be": "deny"})
    more = "{name: c, from: storefront, to: orders, http: 'DELETE /orders/{id}'}"
    assert became(replayed(path, policy(BROWSE), policy(BROWSE, more))) == [("DELETE /orders/{id}", "allowed", 1)]


def test_only_records_of_the_time_asked_for_are_looked_at(path: Path, write: Write) -> None:
    write({"time": NOW - 90_000}, {"time": NOW - 10})
    found = replayed(path, policy(BROWSE), policy())
    assert (found.records, found.count(Now.DENIED), found.oldest) == (1, 1, NOW - 90_000)


def test_a_long_call_with_two_records_is_one(path: Path, write: Write) -> None:
    write({"open": True}, {"open": False}, {"time": NOW - 50, "open": True})
    assert became(replayed(path, policy(BROWSE), policy())) == [("GET /catalog/a", "denied", 2)]


def test_a_token_is_not_on_record_so_what_its_claims_decide_is_not_known(path: Path, write: Write) -> None:
    asks = "{name: a, from: storefront, to: orders, http: GET /catalog/**, when: {claims: {iss: https://login.test}}}"
    new = policy(asks, mesh=TOKENS + MESH)
    write({}, {"jwt_issuer": "https://login.test"}, {"jwt_issuer": "https://other.test"})
    found = replayed(path, policy(BROWSE, mesh=TOKENS + MESH), new)
    assert sorted(became(found)) == [("GET /catalog/a", "denied", 1), ("GET /catalog/a", "depends on the token", 2)]


def test_two_ways_to_ask_for_the_same_tokens_are_no_difference(path: Path, write: Write) -> None:
    claims = "{{claims: {{iss: https://login.test, level: {}}}}}"
    asks = f"{{{{name: {{}}, from: storefront, to: orders, http: GET /{{}}, when: {claims}}}}}"
    old = policy(asks.format("a", "catalog/**", "{any_of: [1, 2]}"), mesh=TOKENS + MESH)
    parts = (asks.format("a", "catalog/**", 1), asks.format("b", "catalog/**", 2), asks.format("c", "else", 3))
    write({})
    assert became(replayed(path, old, policy(*parts, mesh=TOKENS + MESH))) == []


def test_where_the_target_is_observed_only_the_record_differs(path: Path, write: Write) -> None:
    write({})
    found = replayed(path, policy(BROWSE, mesh=meshes.SHOP), policy(mesh=meshes.SHOP))
    assert became(found) == [("GET /catalog/a", "would be denied", 1)]


def test_enforcing_denies_what_no_rule_allows(path: Path, write: Write) -> None:
    write({"path": "/else"}, {"path": "/catalog/a"})
    assert became(replayed(path, policy(BROWSE, mesh=meshes.SHOP), policy(BROWSE))) == [("GET /else", "denied", 1)]


def test_quarantine_denies_all_of_somebody(path: Path, write: Write) -> None:
    write({}, {"path": "/else"})
    old = policy(BROWSE)
    assert became(replayed(path, old, quarantined(old, ["storefront"]))) == [("GET /catalog/a", "denied", 1)]


def test_a_rule_that_is_over_or_yet_to_begin_does_not_count_now(path: Path, write: Write) -> None:
    write({})
    for window in ("until: '2025-01-01T00:00:00Z'", "from_time: '2027-01-01T00:00:00Z'"):
        timed = policy(BROWSE.replace("}]", "}]").removesuffix("}") + f", {window}}}")
        assert became(replayed(path, policy(BROWSE), timed)) == [("GET /catalog/a", "denied", 1)]


def test_what_a_proxy_refused_whatever_the_rules_is_no_difference(path: Path, write: Write) -> None:
    write({"path": "/catalog/a%2Fb"}, {"path": "/catalog/../x"}, {"path": "/catalog/a;b"})
    assert became(replayed(path, policy(BROWSE), policy())) == []


def test_a_segment_that_a_rule_spells_out_is_not_taken_for_any_id(path: Path, write: Write) -> None:
    write({"path": "/v/42"}, {"path": "/v/43"})
    new = policy("{name: a, from: storefront, to: orders, http: GET /v/42}")
    found = replayed(path, policy("{name: a, from: storefront, to: orders, http: 'GET /v/{id}'}"), new)
    assert [(group.count, group.example) for group in found.groups] == [(1, "/v/43")]


def test_where_case_does_not_count_it_does_not_count_here(path: Path, write: Write) -> None:
    folds = MESH.replace("health: /healthz", "ignore_case: true")
    old = policy("{name: a, from: storefront, to: orders, http: [GET /Orders/abc1234, GET /x]}", mesh=folds)
    write({"path": "/ORDERS/ABC1234"}, {"path": "/orders/other12"})
    found = replayed(path, old, policy(mesh=folds))
    assert [(group.count, group.example) for group in found.groups] == [(1, "/ORDERS/ABC1234")]


def test_sessions_and_tunnels(path: Path, write: Write) -> None:
    session = {"protocol": "tcp", "method": "connect", "path": ""}
    write({**session, "caller": "orders", "target": "ledger"}, session)
    found = replayed(path, policy(BROWSE, "{name: s, from: orders, to: ledger}"), policy())
    assert became(found) == [("connect", "denied", 1)]


def test_denials_about_which_no_rules_were_asked_stay_what_they_are(path: Path, write: Write) -> None:
    session = {"protocol": "tcp", "method": "connect", "path": "", "caller": "orders", "target": "ledger"}
    reasons = [f"{start} x" for start in UNDECIDED]
    write(*({**session, "decision": "deny", "would_be": "deny", "reason": reason} for reason in reasons))
    assert became(replayed(path, policy(), policy("{name: s, from: orders, to: ledger}"))) == []


@pytest.mark.parametrize(
    "of",
    [
        {"type": CONNECTION},
        {"type": GATE},
        {"ep": "septum.forward", "er": "denied"},
        {"ep": "septum.misdirected", "er": "denied"},
    ],
)
def test_the_words_for_such_denials_are_those_that_records_have(of: dict[str, object]) -> None:
    read = read_line(denied(**of))
    assert isinstance(read, Line)
    assert outcome(read).undecided.startswith(UNDECIDED)


def test_where_the_policies_do_not_differ_nothing_is_read_but_the_length_of_the_record(
    path: Path, write: Write
) -> None:
    write({}, {})
    assert replayed(path, policy(BROWSE), policy(BROWSE)) == Replay(NOW - 86_400, NOW - 60, 2)


def test_an_empty_record_looks_back_to_nothing(path: Path, write: Write) -> None:
    assert replayed(path, policy(BROWSE), policy()) == Replay(NOW - 86_400, None, 0)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnavailable, match=r"no\.db"):
        replayed(tmp_path / "no.db", policy(BROWSE), policy())


def test_very_many_kinds_fall_together(path: Path, write: Write) -> None:
    words = ["".join(letters) for letters in product("abcdefghij", "klmnopqrst", "uvwxyzabcd")]
    write(*({"path": f"/catalog/{word}"} for word in [*words, *(f"more/{letter}" for letter in "abcdefghij")]))
    found = replayed(path, policy(BROWSE), policy())
    assert len(found.groups) == 1001
    assert sum(group.count for group in found.groups) == 1010
    assert [group.count for group in found.groups if group.operation == "(other operations)"] == [10]
