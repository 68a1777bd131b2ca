"""Since when a rule has been enforced as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from meshes import SHOP, policy
from septum.control.entered import Entered, entered
from septum.control.state import End, Fate, State, Version
from septum.control.versions import Versions

ONE = "  - {name: one, from: storefront, to: orders, http: [GET /a, GET /b]}\n"
TWO = "  - {from: segment:core, to: ledger}\n"


class World:
    """Versions that were enforced, one at each second."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.state = directory, State(directory / "state.db")

    def enforce(self, rules: str, mesh: str = SHOP, **differs: object) -> None:
        files = {"septum.yaml": mesh.encode(), "policy/rules.yaml": f"allow:\n{rules}".encode()}
        number = self.state.next_number()
        made = (number, f"{number:064}", float(number), "ada", files, {})
        self.state.enforce(Version(*made, **differs))  # type: ignore[arg-type]

    def entered(self, rules: str, since: float = 0.0, mesh: str = SHOP) -> Entered:
        with Versions.open(self.directory) as versions:
            return entered(versions, policy(f"allow:\n{rules}", mesh), since)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with closing(made.state):
        yield made


def test_an_operation_has_been_there_as_long_as_it_stood_in_every_version(world: World) -> None:
    world.enforce(ONE)
    world.enforce(ONE.replace(", GET /b", "") + TWO)
    world.enforce(ONE + TWO)
    assert world.entered(ONE + TWO).moments == {
        ("one", "GET /a"): 1,
        ("one", "GET /b"): 3,
        ("segment:core->ledger", "connect"): 2,
    }


def test_a_reason_and_other_operations_play_no_part_and_numbers_do_not(world: World) -> None:
    world.enforce(TWO.replace("}", ", because: x}") + "  - {from: segment:core, to: orders, http: GET /x}\n")
    world.enforce(TWO)
    world.enforce("  - {from: segment:core, to: ledger, until: 2099-01-01T00:00:00Z}\n" + TWO)
    now = "  - {from: segment:core, to: ledger, until: 2099-01-01T00:00:00Z}\n" + TWO
    assert world.entered(now).moments == {
        ("segment:core->ledger", "connect"): 3,
        ("segment:core->ledger#2", "connect"): 1,
    }


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("to: orders", "to: [orders, orders2]"),
        ("from: storefront", "from: [storefront, orders]"),
        ("GET /a", "POST /a"),
        ("name: one", "name: another"),
    ],
)
def test_what_a_rule_says_does(world: World, was: str, now: str) -> None:
    mesh = SHOP.replace("  payments:", "  orders2: {segment: core, at: 127.0.0.1:9109, protocol: http}\n  payments:")
    world.enforce(ONE.replace(", GET /b", ""), mesh)
    world.enforce(ONE.replace(", GET /b", "").replace(was, now), mesh)
    found = world.entered(ONE.replace(", GET /b", "").replace(was, now), mesh=mesh)
    assert list(found.moments.values()) == [2]


def test_who_comes_to_a_segment_makes_its_rules_new(world: World) -> None:
    mesh = SHOP.replace("  payments:", "  orders2: {segment: core, at: 127.0.0.1:9109, protocol: http}\n  payments:")
    world.enforce(TWO)
    world.enforce(TWO, mesh)
    assert world.entered(TWO, mesh=mesh).moments == {("segment:core->ledger", "connect"): 2}
    assert world.entered(TWO).moments == {("segment:core->ledger", "connect"): 1}


def test_what_is_not_enforced_yet_is_not_there(world: World) -> None:
    assert world.entered(ONE) == Entered({})
    world.enforce(TWO)
    assert world.entered(ONE).moments == {}


def test_it_is_looked_back_to_the_version_of_that_moment_alone(world: World) -> None:
    for _ in range(4):
        world.enforce(ONE)
    assert set(world.entered(ONE, since=3.5).moments.values()) == {3}
    assert set(world.entered(ONE, since=3.0).moments.values()) == {3}


def test_versions_that_no_node_took_do_not_count(world: World) -> None:
    world.enforce(ONE)
    world.enforce(TWO)
    [refused] = [version for version in [world.state.enforced()] if version is not None]
    world.state.end((refused.number, End(Fate.REFUSED, 2.0, "no")))
    world.enforce(ONE)
    assert set(world.entered(ONE).moments.values()) == {1}


def test_who_is_quarantined_now_is_told(world: World) -> None:
    world.enforce(ONE, quarantined=frozenset({"orders"}))
    assert world.entered(ONE).quarantined == {"orders"}
