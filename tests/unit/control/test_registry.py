"""Who belongs to the mesh: tokens are used once, members are remembered, cuts outlive a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from septum.control.registry import Quarantined, Registry, Standing, Token, TokenRefused, cut_statements
from septum.control.state import State

NOW = 1_800_000_000.0
TOKEN = Token("t1", "web", frozenset({"front", "orders"}), NOW + 60)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state.db")
    yield made
    made.close()


@pytest.fixture
def registry(state: State) -> Registry:
    made = Registry(state)
    made.add_token(TOKEN, NOW)
    return made


def test_a_token_makes_its_node_a_member_with_the_workloads_it_names(registry: Registry) -> None:
    assert registry.redeem("t1", "key", NOW + 1) == TOKEN
    member = registry.members()["web"]
    assert (member.workloads, member.joined, member.standing) == (TOKEN.workloads, NOW + 1, Standing.JOINED)


def test_a_token_is_for_one_key_which_may_ask_again(registry: Registry) -> None:
    registry.redeem("t1", "key", NOW)
    registry.redeem("t1", "key", NOW + 1)
    with pytest.raises(TokenRefused, match="was used already"):
        registry.redeem("t1", "another key", NOW + 1)


def test_a_token_ends(registry: Registry) -> None:
    with pytest.raises(TokenRefused, match="expired"):
        registry.redeem("t1", "key", NOW + 61)
    assert registry.members() == {}


def test_a_newer_token_of_the_node_voids_an_unused_one(registry: Registry) -> None:
    registry.add_token(Token("t2", "web", frozenset(), NOW + 60), NOW)
    with pytest.raises(TokenRefused, match="not known"):
        registry.redeem("t1", "key", NOW)
    assert registry.redeem("t2", "key", NOW).id == "t2"


def test_a_used_token_is_remembered_so_that_its_replay_is_named(registry: Registry) -> None:
    registry.redeem("t1", "key", NOW)
    registry.add_token(Token("t2", "web", frozenset(), NOW + 60), NOW)
    with pytest.raises(TokenRefused, match="was used already"):
        registry.redeem("t1", "thief", NOW)


def test_an_unknown_token_lets_nobody_in(registry: Registry) -> None:
    with pytest.raises(TokenRefused, match="not known"):
        registry.redeem("t9", "key", NOW)


def test_certificates_are_known_by_node_until_they_have_ended(registry: Registry) -> None:
    serial = 1 << 158
    registry.note_certificate(serial, "web", NOW + 10, NOW)
    registry.note_certificate(7, "db", NOW + 20_000, NOW)
    assert registry.certificates("web") == {serial: NOW + 10}
    registry.note_certificate(8, "db", NOW + 20_000, NOW + 10_000)
    assert registry.certificates("web") == {}
    assert registry.certificates("db").keys() == {7, 8}


def test_a_quarantine_ends_by_itself_or_by_hand(registry: Registry) -> None:
    registry.quarantine(Quarantined("orders", NOW + 60, NOW, "ada"))
    registry.quarantine(Quarantined("front", None, NOW, "ada"))
    assert registry.quarantined(NOW).keys() == {"front", "orders"}
    assert registry.quarantined(NOW + 60).keys() == {"front"}
    registry.release("front")
    assert registry.quarantined(NOW + 60) == {}


def test_cuts_are_kept_for_pairs_that_still_are(state: State, registry: Registry) -> None:
    state.write(*cut_statements({("a", "b"): "1", ("c", "b"): "1"}, {("a", "b"): "1", ("c", "b"): "1"}))
    state.write(*cut_statements({("a", "b"): "2"}, {("a", "b"): "2"}))
    assert Registry(state).cuts() == {("a", "b"): "2"}
