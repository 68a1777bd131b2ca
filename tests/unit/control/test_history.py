"""The policy by which a record was decided, also when it is not the enforced one any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshes import SHOP, SHOP_RULES, policy
from septum.control import history as module
from septum.control.history import History
from septum.control.state import State, Version
from septum.model.policy import Policy
from septum.policy.digest import slice_of
from septum.policy.quarantine import quarantined

NARROWER = SHOP_RULES.replace(", POST /orders", "")


class World:
    """A state with versions, of which the last is enforced."""

    def __init__(self, directory: Path) -> None:
        self.state = State(directory / "state.db")
        self.plane: Any = SimpleNamespace(policy=None)
        self.history = History(self.state, self.plane)
        self._time = 0.0

    def enforce(self, rules: str, shut: Iterable[str] = ()) -> Policy:
        found = quarantined(policy(rules), shut)
        self._time += 1
        slices = {name: slice_of(found, name) for name in found.mesh.workloads}
        files = {"septum.yaml": SHOP.encode(), "policy/rules.yaml": rules.encode()}
        self.state.enforce(Version(0, found.version, self._time, "ada", files, slices, found.quarantined))
        self.plane.policy = found
        return found

    def decided_by(self, found: Policy, target: str = "orders") -> Policy | None:
        return self.history.policy_for(target, slice_of(found, target), self._time)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.state.close()


def version(found: Policy | None) -> str:
    return found.version if found else ""


def test_the_enforced_one_where_its_rules_decided(world: World) -> None:
    found = world.enforce(SHOP_RULES)
    assert world.decided_by(found) is found


def test_an_older_one_where_that_did(world: World) -> None:
    older = world.enforce(SHOP_RULES)
    world.enforce(NARROWER)
    assert version(world.decided_by(older)) == older.version


def test_a_target_that_did_not_change_is_the_enforced_one_s(world: World) -> None:
    older = world.enforce(SHOP_RULES)
    newer = world.enforce(NARROWER)
    assert world.decided_by(older, "payments") is newer


def test_what_a_quarantine_decided_is_told_apart_from_what_the_files_say(world: World) -> None:
    shut = world.enforce(SHOP_RULES, ["orders"])
    as_written = world.enforce(SHOP_RULES)
    found = world.decided_by(shut)
    assert found is not None
    assert (found.quarantined, version(found)) == ({"orders"}, shut.version)
    assert world.decided_by(as_written) is as_written


def test_without_a_target_it_is_the_enforced_one(world: World) -> None:
    newer = world.enforce(NARROWER)
    for target, slice in ((None, None), ("orders", None), (None, "s")):
        assert world.history.policy_for(target, slice, 1.0) is newer


def test_rules_that_no_kept_version_had_are_nobody_s(world: World) -> None:
    world.enforce(NARROWER)
    assert world.decided_by(policy(SHOP_RULES)) is None
    assert world.history.policy_for("no-such-target", "s", 1.0) is None


def test_what_was_nobody_s_is_asked_again_after_a_change(world: World) -> None:
    world.enforce(NARROWER)
    wanted = policy(SHOP_RULES)
    assert world.decided_by(wanted) is None
    world.enforce(SHOP_RULES)
    assert version(world.decided_by(wanted)) == wanted.version


def test_before_anything_is_enforced(world: World) -> None:
    assert world.history.policy_for("orders", "s", 1.0) is None
    assert world.history.policy_for(None, None, 1.0) is None


def test_a_version_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    older = world.enforce(SHOP_RULES)
    world.enforce("allow: []\n")
    asked: list[str] = []
    search = world.state.with_slice
    monkeypatch.setattr(world.state, "with_slice", lambda *a: (asked.append(a[0]), search(*a))[1])
    found = [world.decided_by(older, target) for target in ("orders", "payments", "orders", "payments")]
    assert {id(policy) for policy in found} == {id(found[0])}
    assert asked == ["orders", "payments"]


def test_few_are_kept_in_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    older = [world.enforce(SHOP_RULES.replace("/catalog/**", f"/catalog/{n}")) for n in range(5)]
    world.enforce("allow: []\n")
    for _ in range(2):
        for found in older:
            assert version(world.decided_by(found)) == found.version


def test_a_state_that_cannot_be_read_explains_nothing_and_breaks_nothing(world: World, tmp_path: Path) -> None:
    older = world.enforce(SHOP_RULES)
    newer = world.enforce(NARROWER)
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute("DROP TABLE version")
    assert world.decided_by(older) is None
    assert world.decided_by(newer) is newer


def test_a_stored_version_that_is_not_valid_any_more_explains_nothing(world: World) -> None:
    world.enforce(SHOP_RULES)
    world.state.enforce(Version(0, "d" * 64, 9.0, "ada", {"septum.yaml": b"mesh: [\n"}, {"orders": "s"}))
    assert world.history.policy_for("orders", "s", 9.0) is None
