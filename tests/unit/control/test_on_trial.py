"""A version on trial: confirmed in time it stays; otherwise, or when it does harm, it goes back by itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from control_world import HOSTS, HOSTS_RULES, NOW, World, files

from meshes import SHOP_RULES
from septum.control.applied import Applied, Outcome, Terms
from septum.control.signing import Standing
from septum.control.state import End, Fate
from septum.control.versions import AUTOMATIC, Ended, Versions
from septum.xds.types import ROUTE

pytestmark = pytest.mark.anyio

NARROWER = SHOP_RULES.replace(", POST /orders", "")
WIDER = SHOP_RULES.replace("POST /orders]", "POST /orders, GET /basket]")


async def on_trial(world: World, rules: str = WIDER, seconds: float = 60.0, **terms: Any) -> Applied:
    return await world.plane.apply(files(rules), "ada", terms=Terms(confirm=seconds, **terms))


@pytest.fixture
async def first(world: World) -> Applied:
    """The version before, enforced a while ago. The world's node is there."""
    world.node()
    applied = await world.apply()
    world.now += 3600
    return applied


async def looked(world: World, after: float = 0.0) -> None:
    """What the control plane does by itself after so many seconds."""
    world.now += after
    assert await world.trial.look()


def history(world: World) -> list[tuple[int, Ended, str]]:
    return [(entry.version.number, entry.ended, entry.why) for entry in Versions(world.state.rows).history()]


async def test_it_is_enforced_at_once_and_shown_with_the_time_that_is_left(world: World, first: Applied) -> None:
    applied = await on_trial(world)
    assert (applied.outcome, applied.confirm_by) == (Outcome.HELD, world.now + 60)
    assert world.version() == world.enforced() == applied.version
    await looked(world, 20)
    status = await world.ask("status")
    assert status["provisional"] == {
        "number": 2,
        "version": applied.version,
        "confirm_by": NOW + 3660,
        "seconds_left": 40.0,
        "falls_back": 1,
        "trouble": "",
    }
    assert status["rolled_back"] is None


async def test_without_a_word_it_goes_back(world: World, first: Applied) -> None:
    applied = await on_trial(world)
    await looked(world, 59.9)
    assert world.version() == applied.version
    await looked(world, 0.1)
    assert world.version() == world.enforced() == first.version
    assert history(world) == [
        (3, Ended.ENFORCED, ""),
        (2, Ended.ROLLED_BACK, "it was not confirmed in time"),
        (1, Ended.REPLACED, ""),
    ]
    status = await world.ask("status")
    assert status["provisional"] is None
    assert status["rolled_back"] == {
        "at": world.now,
        "from": applied.version,
        "to": 1,
        "number": 3,
        "why": "it was not confirmed in time",
    }
    assert status["author"] == AUTOMATIC


async def test_confirmed_it_stays(world: World, first: Applied) -> None:
    applied = await on_trial(world)
    said = await world.ask("confirm", author="bob", version=applied.version[:12])
    assert said == {"version": applied.version, "number": 2}
    await looked(world, 3600)
    assert world.version() == applied.version
    assert (await world.ask("status"))["provisional"] is None
    entry = Versions(world.state.rows).history()[0]
    assert (entry.ended, entry.version.end and entry.version.end.why) == (Ended.ENFORCED, "bob")
    again = World(world.path.parent)
    assert again.plane.restore()
    await looked(again, 7200)
    assert again.version() == applied.version
    again.state.close()


async def test_there_is_nothing_to_confirm(world: World, first: Applied) -> None:
    assert await world.ask("confirm", author="bob") == {"error": "no version awaits its confirmation"}
    applied = await on_trial(world)
    other = await world.ask("confirm", author="bob", version=first.version)
    assert "awaits its confirmation, and not" in other["error"]
    await looked(world, 60)
    late = await world.ask("confirm", author="bob", version=applied.version)
    assert late == {"error": "no version awaits its confirmation"}


async def test_there_is_nothing_to_go_back_to(world: World) -> None:
    world.node()
    texts = {path: content.decode() for path, content in files().items() if isinstance(content, bytes)}
    said = await world.ask("apply", files=texts, author="ada", confirm=60)
    assert said == {"error": "nothing is enforced yet that this could go back to: apply it without --confirm"}
    assert world.version() == ""


async def test_what_is_not_stored_awaits_nothing(world: World, first: Applied) -> None:
    applied = await on_trial(world, SHOP_RULES)
    assert (applied.outcome, applied.confirm_by) == (Outcome.UNCHANGED, None)
    await looked(world, 60)
    assert history(world) == [(1, Ended.ENFORCED, "")]


class TestMeanwhile:
    async def test_nothing_else_is_applied(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        applied = await world.apply(NARROWER)
        assert (applied.outcome, applied.previous, applied.confirm_by) == (
            Outcome.AWAITS, tried.version, tried.confirm_by,
        )  # fmt: skip
        assert world.version() == world.enforced() == tried.version

    async def test_the_same_again_changes_nothing_and_confirms_nothing(self, world: World, first: Applied) -> None:
        await on_trial(world)
        assert (await world.apply(WIDER)).outcome is Outcome.UNCHANGED
        await looked(world, 60)
        assert world.version() == first.version

    async def test_another_may_take_its_place_for_good(self, world: World, first: Applied) -> None:
        await on_trial(world)
        applied = await world.plane.apply(files(NARROWER), "ada", terms=Terms(supersede=True))
        await looked(world, 3600)
        assert world.version() == applied.version

    async def test_another_on_trial_falls_back_to_what_was_good_last(self, world: World, first: Applied) -> None:
        await on_trial(world)
        await on_trial(world, NARROWER, 300, supersede=True)
        await looked(world, 299)
        assert (await world.ask("status"))["provisional"]["falls_back"] == 1
        await looked(world, 1)
        assert world.version() == first.version

    async def test_what_is_put_in_its_place_and_refused_leaves_it_on_trial(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        node = world.node()
        node.refuses["orders"] = "no"
        applied = await world.plane.apply(files(NARROWER), "ada", terms=Terms(supersede=True))
        assert applied.outcome is Outcome.REJECTED
        assert world.version() == world.enforced() == tried.version
        node.refuses.clear()
        await looked(world, 60)
        assert world.version() == first.version

    async def test_it_can_be_taken_back_by_hand(self, world: World, first: Applied) -> None:
        await on_trial(world)
        said = await world.ask("rollback", author="bob", message="no")
        assert (said["outcome"], said["restored"]) == ("held", 1)
        await looked(world, 3600)
        assert history(world)[:2] == [(3, Ended.ENFORCED, ""), (2, Ended.ROLLED_BACK, "no")]

    async def test_a_quarantine_neither_confirms_it_nor_is_undone(self, world: World, first: Applied) -> None:
        await on_trial(world)
        await world.ask("quarantine", workload="ledger", author="eve")
        assert (await world.ask("status"))["provisional"]["falls_back"] == 1
        await looked(world, 60)
        assert world.plane.policy is not None
        assert world.plane.policy.quarantined == {"ledger"}
        stored = world.plane.stored
        assert stored is not None
        assert (stored.files, stored.restores, stored.quarantined) == (files(), 1, {"ledger"})

    async def test_confirming_counts_for_what_came_beside_it(self, world: World, first: Applied) -> None:
        await on_trial(world)
        await world.ask("quarantine", workload="ledger", author="eve")
        await world.ask("confirm", author="bob")
        await looked(world, 3600)
        assert [ended for _, ended, _ in history(world)] == [Ended.ENFORCED, Ended.REPLACED, Ended.REPLACED]
        assert all(e.confirmed for e in Versions(world.state.rows).history(2))


class TestRestart:
    async def test_the_time_goes_on(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        again = World(world.path.parent)
        again.now = world.now + 59
        assert again.plane.restore()
        node = again.node()
        assert again.version() == tried.version
        await looked(again)
        assert again.version() == tried.version
        await looked(again, 1)
        assert again.version() == again.enforced() == first.version
        assert (ROUTE, "orders") in node.holds
        again.state.close()

    async def test_a_time_that_is_over_is_over_at_once(self, world: World, first: Applied) -> None:
        await on_trial(world)
        again = World(world.path.parent)
        again.now = world.now + 86400
        assert again.plane.restore()
        again.node()
        await looked(again)
        assert again.version() == again.enforced() == first.version
        again.state.close()


NOT_TALKING: dict[str, dict[str, Any]] = {
    "too few requests before": {"number": 4},
    "too long ago": {"number": 50, "time": NOW + 3600 - 901},
    "another pair": {"number": 50, "target": "payments"},
    "denied before too": {"number": 50, "decision": "deny"},
}


class TestDenials:
    @pytest.fixture
    async def talking(self, world: World, first: Applied) -> World:
        """Storefront and orders have talked; what they say is on trial is narrower."""
        world.record("storefront", "orders", "/orders", 10, time=world.now - 60)
        await on_trial(world, NARROWER, 300)
        return world

    async def test_who_was_talking_and_is_denied_takes_it_back(self, talking: World, first: Applied) -> None:
        talking.record("storefront", "orders", "/orders", 4, time=talking.now, decision="deny")
        await looked(talking, 1)
        assert talking.version() != first.version, "four may be chance"
        talking.record("storefront", "orders", "/orders", 1, time=talking.now, decision="deny")
        await looked(talking, 1)
        assert talking.version() == talking.enforced() == first.version
        why = "storefront is denied at orders: 5 of its 5 requests since, 0 of 10 before"
        assert history(talking)[1] == (2, Ended.ROLLED_BACK, why)

    async def test_a_fifth_of_the_requests_is_not_enough(self, talking: World, first: Applied) -> None:
        talking.record("storefront", "orders", "/orders", 20, time=talking.now)
        talking.record("storefront", "orders", "/orders", 5, time=talking.now, decision="deny")
        await looked(talking, 1)
        assert talking.version() != first.version
        talking.record("storefront", "orders", "/orders", 1, time=talking.now, decision="deny")
        await looked(talking, 1)
        assert talking.version() == first.version

    async def test_what_was_denied_before_as_well_is_not_its_fault(self, world: World, first: Applied) -> None:
        world.record("storefront", "orders", "/x", 5, time=world.now - 60)
        world.record("storefront", "orders", "/y", 20, time=world.now - 60, decision="deny")
        tried = await on_trial(world)
        world.record("storefront", "orders", "/y", 50, time=world.now, decision="deny")
        await looked(world, 1)
        assert world.version() == tried.version

    @pytest.mark.parametrize("what", NOT_TALKING)
    async def test_who_was_not_talking_takes_nothing_back(self, world: World, first: Applied, what: str) -> None:
        given = {"caller": "storefront", "target": "orders", "path": "/orders", "time": world.now - 60}
        world.record(**(given | NOT_TALKING[what]))
        tried = await on_trial(world)
        world.record("storefront", "orders", "/orders", 50, time=world.now, decision="deny")
        await looked(world, 1)
        assert world.version() == tried.version

    async def test_what_passes_where_it_is_observed_is_no_denial(self, talking: World, first: Applied) -> None:
        talking.record("storefront", "orders", "/orders", 50, time=talking.now, would_be="deny")
        await looked(talking, 1)
        assert talking.version() != first.version

    async def test_the_record_of_before_is_looked_at_after_a_restart_too(self, talking: World, first: Applied) -> None:
        again = World(talking.path.parent)
        again.now = talking.now + 5
        assert again.plane.restore()
        again.node()
        again.record("storefront", "orders", "/orders", 5, decision="deny")
        await looked(again)
        assert again.version() == first.version
        again.state.close()

    async def test_a_quarantine_does_not_begin_the_comparison_anew(self, talking: World, first: Applied) -> None:
        talking.record("storefront", "orders", "/orders", 3, time=talking.now, decision="deny")
        talking.now += 10
        await talking.ask("quarantine", workload="ledger", author="eve")
        talking.record("storefront", "orders", "/orders", 2, time=talking.now, decision="deny")
        await looked(talking, 1)
        assert talking.plane.stored is not None
        assert talking.plane.stored.files == files()

    async def test_who_is_denied_by_quarantine_takes_nothing_back(self, talking: World, first: Applied) -> None:
        await talking.ask("quarantine", workload="storefront", author="eve")
        talking.record("storefront", "orders", "/orders", 50, time=talking.now, decision="deny")
        await looked(talking, 1)
        assert talking.plane.stored is not None
        assert talking.plane.stored.awaits

    async def test_a_record_that_cannot_be_read_is_said_and_the_time_still_counts(
        self, talking: World, first: Applied
    ) -> None:
        with closing(sqlite3.connect(talking.records)) as other:
            other.execute("PRAGMA user_version = 99")
        await looked(talking, 1)
        assert "record version 99" in (await talking.ask("status"))["provisional"]["trouble"]
        await looked(talking, 300)
        assert talking.version() == first.version


async def test_a_node_that_is_away_does_not_keep_the_others_from_going_back(hosts: World) -> None:
    agents = await hosts.spread()
    good = hosts.version()
    narrower = HOSTS_RULES.replace(", POST /orders", "")
    await hosts.plane.apply(files(narrower, HOSTS), "ada", terms=Terms(confirm=60.0))
    agents["app"].leave()
    await looked(hosts, 60)
    assert hosts.version() == hosts.enforced() == good
    assert {n["node"]: n["held"] for n in hosts.nodes.status()} == {"app": False, "db": True, "web": True}
    hosts.node("app")
    assert {arrival.arrived for arrival in await hosts.plane.ready(5.0)} == {"held"}


class TestHealth:
    @pytest.fixture
    async def healthy(self, world: World, first: Applied) -> World:
        await world.report("n1", health={"orders": True, "ledger": False})
        await on_trial(world, NARROWER, 300)
        return world

    async def test_who_was_well_and_is_ill_in_two_reports_takes_it_back(self, healthy: World, first: Applied) -> None:
        for _ in range(2):
            assert healthy.version() != first.version
            healthy.now += 2
            await healthy.report("n1", health={"orders": False, "ledger": False})
            await looked(healthy)
            await looked(healthy)
        assert healthy.version() == healthy.enforced() == first.version
        assert history(healthy)[1] == (2, Ended.ROLLED_BACK, "the health check of orders fails")

    async def test_who_is_well_again_meanwhile_takes_nothing_back(self, healthy: World, first: Applied) -> None:
        for passes in (False, True, False):
            healthy.now += 2
            await healthy.report("n1", health={"orders": passes})
            await looked(healthy)
        assert healthy.version() != first.version

    async def test_who_was_ill_before_takes_nothing_back(self, healthy: World, first: Applied) -> None:
        for _ in range(3):
            healthy.now += 2
            await healthy.report("n1", health={"orders": True, "ledger": False})
            await looked(healthy)
        assert healthy.version() != first.version

    async def test_who_was_not_heard_of_before_takes_nothing_back(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        for _ in range(3):
            world.now += 2
            await world.report("n1", health={"orders": False})
            await looked(world)
        assert world.version() == tried.version

    async def test_an_old_report_says_nothing_of_before(self, world: World, first: Applied) -> None:
        await world.report("n1", health={"orders": True})
        world.now += 60
        tried = await on_trial(world)
        for _ in range(3):
            world.now += 2
            await world.report("n1", health={"orders": False})
            await looked(world)
        assert world.version() == tried.version

    async def test_who_was_well_is_known_after_a_restart_too(self, healthy: World, first: Applied) -> None:
        again = World(healthy.path.parent)
        again.now = healthy.now
        assert again.plane.restore()
        again.node()
        for _ in range(2):
            again.now += 2
            await again.report("n1", health={"orders": False})
            await looked(again)
        assert again.version() == first.version
        again.state.close()

    async def test_a_node_says_nothing_of_workloads_that_it_does_not_front(self, hosts: World) -> None:
        await hosts.spread()
        await hosts.report("web", health={"ledger": True, "storefront": True})
        assert set(hosts.membership.health()) == {"storefront"}


class TestWhatIsInTheWay:
    async def test_nodes_that_refuse_the_way_back(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        node = world.node()
        node.refuses["orders"] = "no such cluster"
        world.now += 60
        assert not await world.trial.look()
        assert world.version() == world.enforced() == tried.version
        trouble = (await world.ask("status"))["provisional"]["trouble"]
        assert trouble == "n1: RouteConfiguration orders: no such cluster"
        assert len(history(world)) == 2, "an attempt that is made again and again is no version"
        node.refuses.clear()
        await looked(world, 5)
        assert world.version() == first.version

    async def test_a_version_before_that_was_tampered_with(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        with closing(sqlite3.connect(world.path)) as other, other:
            other.execute("UPDATE version SET author = 'eve' WHERE number = 1")
        world.now += 60
        assert not await world.trial.look()
        assert world.version() == tried.version
        assert "is not what was stored" in (await world.ask("status"))["provisional"]["trouble"]

    async def test_a_state_that_cannot_be_written(self, world: World, first: Applied) -> None:
        tried = await on_trial(world)
        with closing(sqlite3.connect(world.path)) as other:
            other.execute("CREATE TRIGGER t BEFORE INSERT ON version BEGIN SELECT RAISE(ABORT, 'no space'); END")
            world.now += 60
            assert not await world.trial.look()
            assert world.version() == world.enforced() == tried.version
            other.execute("DROP TRIGGER t")
        await looked(world, 5)
        assert world.version() == first.version

    async def test_a_broken_guarantee_does_not_keep_it_from_going_back(self, world: World) -> None:
        """What was enforced before may not be applied any more, and is better than what does harm."""
        world.node()
        override = "override: {name: until it is mended, because: it is, until: 2027-01-15T10:00:00Z}"
        broken = SHOP_RULES + f"guarantees:\n  - {{name: g, never: {{from: storefront, to: orders}}, {override}}}\n"
        first = await world.apply(broken)
        assert first.outcome is Outcome.HELD
        await on_trial(world, WIDER, 7 * 86400)
        await looked(world, 7 * 86400)
        assert world.version() == first.version
        assert (await world.apply(broken.replace("GET /orders/{id}", "GET /x"))).outcome is Outcome.INVALID


async def test_the_end_of_a_version_is_signed(world: World, first: Applied) -> None:
    await on_trial(world)
    confirmed = await world.plane.confirm("bob")
    assert confirmed.end == End(Fate.CONFIRMED, world.now, "bob", confirmed.end.signature if confirmed.end else None)
    assert world.signer.verdict(confirmed).standing is Standing.GOOD
