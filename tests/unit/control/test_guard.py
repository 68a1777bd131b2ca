"""The lock-out guard: what probes health or reads metrics is not denied by accident."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from control_world import NOW, World, files

from septum.control import guard
from septum.control.applied import Applied, Outcome, Terms
from septum.control.guard import Lockout

pytestmark = pytest.mark.anyio

HOUR = 3600.0
MESH = """\
mesh: watched
trust_domain: watched.test
segments: {core: everything}
workloads:
  prom:   {segment: core, at: 127.0.0.1:9101, protocol: http}
  front:  {segment: core, at: 127.0.0.1:9102, protocol: http}
  orders: {segment: core, at: 127.0.0.1:9103, protocol: http, health: /alive}
  pay:    {segment: core, at: 127.0.0.1:9104, protocol: grpc}
enforce: [core]
"""
RULES = """\
allow:
  - {name: scrape, from: prom, to: orders, http: [GET /metrics, GET /alive, GET /actuator/health/**]}
  - {name: health, from: prom, to: pay, grpc: [grpc.health.v1.Health/*]}
  - {name: call, from: front, to: orders, http: [GET /orders/**]}
"""
WITHOUT_METRICS = RULES.replace("GET /metrics, ", "")
NOTHING = "allow: []\n"
TOKENS = """\
issuers:
  login: {issuer: https://login.test, audiences: [x], jwks: https://login.test/keys}
"""


async def apply(world: World, rules: str, mesh: str = MESH, **terms: bool) -> Applied:
    world.now += 0.001  # no two changes are made at the same time
    return await world.plane.apply(files(rules, mesh), "ada", terms=Terms(**terms))  # type: ignore[arg-type]


@pytest.fixture
async def watched(world: World) -> World:
    """The mesh, enforced."""
    world.node()
    assert (await apply(world, RULES)).outcome is Outcome.HELD
    return world


async def test_a_scrape_that_would_be_denied_is_said_with_all_that_is_known(watched: World) -> None:
    watched.record("prom", "orders", "/metrics", time=NOW - HOUR, rule="scrape")
    watched.record("prom", "orders", "/metrics", time=NOW - 2 * HOUR, rule="older")
    before = watched.version()
    applied = await apply(watched, WITHOUT_METRICS)
    assert applied.outcome is Outcome.LOCKOUT
    why = "scrape: path: it allows GET /alive, GET /actuator/health/**, not GET /metrics"
    assert applied.lockouts == (Lockout("prom", "orders", "GET /metrics", "scrape", NOW - HOUR, why),)
    assert applied.previous == watched.version() == watched.enforced() == before
    assert watched.plane.stored is not None
    assert watched.plane.stored.number == 1, "what was not tried is not in the history"


async def test_it_is_applied_when_that_is_meant(watched: World) -> None:
    watched.record("prom", "orders", "/metrics")
    assert (await apply(watched, WITHOUT_METRICS, allow_lockout=True)).outcome is Outcome.HELD


PROBES = {
    "its own health path": ("orders", "GET", "/alive"),
    "a customary path": ("orders", "GET", "/metrics"),
    "below a customary path": ("orders", "GET", "/actuator/health/liveness"),
    "gRPC health": ("pay", "POST", "/grpc.health.v1.Health/Check"),
    "gRPC health, watched": ("pay", "POST", "/grpc.health.v1.Health/Watch"),
}


@pytest.mark.parametrize("what", PROBES)
async def test_what_is_a_probe(watched: World, what: str) -> None:
    target, method, path = PROBES[what]
    watched.record("prom", target, path, method=method, protocol="grpc" if target == "pay" else "http")
    applied = await apply(watched, NOTHING)
    assert [(one.target, one.operation) for one in applied.lockouts] == [(target, f"{method} {path}")]


IGNORED: dict[str, dict[str, object]] = {
    "no probe": {"path": "/orders/1", "caller": "front"},
    "a path that only begins so": {"path": "/metrics/x"},
    "one that was denied then": {"path": "/metrics", "decision": "deny"},
    "longer ago than a day": {"path": "/metrics", "time": NOW - 24.1 * HOUR},
    "one that is denied already": {"path": "/readyz"},
}


@pytest.mark.parametrize("what", IGNORED)
async def test_what_does_not_count(watched: World, what: str) -> None:
    watched.record(**({"caller": "prom", "target": "orders"} | IGNORED[what]))  # type: ignore[arg-type]
    assert (await apply(watched, NOTHING)).outcome is Outcome.HELD


async def test_what_stays_allowed_by_another_rule_is_no_lockout(watched: World) -> None:
    watched.record("prom", "orders", "/metrics")
    other = WITHOUT_METRICS + "  - {name: all-metrics, from: segment:core, to: orders, http: [GET /metrics]}\n"
    assert (await apply(watched, other)).outcome is Outcome.HELD


async def test_what_is_observed_from_now_on_passes(watched: World) -> None:
    watched.record("prom", "orders", "/metrics")
    observed = MESH.replace("enforce: [core]", "enforce: []")
    assert (await apply(watched, WITHOUT_METRICS, observed)).outcome is Outcome.HELD


async def test_enforcing_what_was_observed_denies_what_no_rule_allows(world: World) -> None:
    world.node()
    await apply(world, NOTHING, MESH.replace("enforce: [core]", "enforce: []"))
    world.record("front", "orders", "/healthz", rule="", would_be="deny")
    (lockout,) = (await apply(world, NOTHING)).lockouts
    assert (lockout.caller, lockout.rule, lockout.why) == ("front", "", "no rule opens anything on orders")


async def test_a_caller_that_is_called_otherwise_now_is_noticed(watched: World) -> None:
    watched.record("prom", "orders", "/metrics")
    renamed = (RULES.replace("prom", "prometheus"), MESH.replace("prom: ", "prometheus: "))
    (lockout,) = (await apply(watched, *renamed)).lockouts
    assert (lockout.caller, lockout.why) == ("prom", "no workload is called `prom`")


async def test_a_target_that_is_gone_need_not_be_probed(watched: World) -> None:
    watched.record("prom", "pay", "/grpc.health.v1.Health/Check", method="POST", protocol="grpc")
    without = "".join(line for line in MESH.splitlines(keepends=True) if "pay:" not in line)
    rules = "".join(line for line in RULES.splitlines(keepends=True) if "to: pay" not in line)
    assert (await apply(watched, rules, without)).outcome is Outcome.HELD


async def test_a_token_that_was_good_for_a_probe_is_held_to_be_good_still(world: World) -> None:
    """Tokens are not on record: a probe that needed one is denied only if none opens it any more."""
    world.node()
    mesh, when = MESH + TOKENS, "when: {claims: {iss: https://login.test, role: probe}}"
    with_token = RULES.replace("GET /actuator/health/**]}", f"GET /actuator/health/**], {when}}}")
    assert (await apply(world, with_token, mesh)).outcome is Outcome.HELD
    world.record("prom", "orders", "/metrics")
    other_claim = with_token.replace("role: probe", "role: scrape")
    assert (await apply(world, other_claim, mesh)).outcome is Outcome.HELD
    gone = other_claim.replace("GET /metrics, ", "")
    assert (await apply(world, gone, mesh)).outcome is Outcome.LOCKOUT


async def test_a_token_that_is_asked_for_from_now_on_is_a_lockout(world: World) -> None:
    world.node()
    await apply(world, RULES, MESH + TOKENS)
    world.record("prom", "orders", "/metrics")
    when = "when: {claims: {iss: https://login.test, role: probe}}"
    with_token = RULES.replace("GET /actuator/health/**]}", f"GET /actuator/health/**], {when}}}")
    assert (await apply(world, with_token, MESH + TOKENS)).outcome is Outcome.LOCKOUT


async def test_a_health_path_is_looked_for_once_it_is_one(watched: World) -> None:
    """The record before it was one has it too."""
    watched.record("front", "orders", "/orders/alive", rule="call")
    assert (await apply(watched, RULES.replace("/orders/**", "/orders/x"))).outcome is Outcome.HELD
    assert (await apply(watched, RULES)).outcome is Outcome.HELD
    spelt = RULES.replace("GET /orders/**", "GET /orders/alive")
    assert (await apply(watched, spelt, MESH.replace("/alive", "/orders/alive"))).outcome is Outcome.HELD
    applied = await apply(watched, RULES.replace("GET /orders/**", "GET /x"), MESH.replace("/alive", "/orders/alive"))
    assert [one.operation for one in applied.lockouts] == ["GET /orders/alive"]


async def test_what_comes_to_the_record_later_counts_too(watched: World) -> None:
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.HELD
    assert (await apply(watched, RULES)).outcome is Outcome.HELD
    watched.record("prom", "orders", "/metrics")
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.LOCKOUT
    watched.now += 25 * HOUR
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.HELD


async def test_going_back_is_guarded_too(watched: World) -> None:
    await apply(watched, RULES + "  - {name: more, from: prom, to: orders, http: [GET /readyz]}\n")
    watched.record("prom", "orders", "/readyz")
    said = await watched.ask("rollback", author="ada")
    assert (said["outcome"], said["lockouts"][0]["operation"]) == ("lockout", "GET /readyz")
    assert (await watched.ask("rollback", author="ada", allow_lockout=True))["outcome"] == "held"


async def test_quarantine_is_not_held_up(watched: World) -> None:
    watched.record("prom", "orders", "/metrics")
    said = await watched.ask("quarantine", workload="prom", author="ada")
    assert said["applied"]["outcome"] == "held"
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.HELD, "it can ask for nothing as it is"


async def test_a_record_that_cannot_be_read_keeps_nobody_from_changing_the_policy(
    watched: World, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.record("prom", "orders", "/metrics")
    with closing(sqlite3.connect(watched.records)) as other:
        other.execute("PRAGMA user_version = 99")
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.HELD
    assert "the lock-out guard knows nothing new" in capsys.readouterr().out


async def test_a_record_file_in_the_place_of_another_is_read_from_its_start(watched: World) -> None:
    watched.record("prom", "orders", "/x", number=3)
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.HELD
    await apply(watched, RULES)
    for file in watched.records.parent.iterdir():
        file.unlink()
    watched.record("prom", "orders", "/metrics")
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.LOCKOUT


async def test_only_the_newest_records_are_looked_at(watched: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST", 5)
    watched.record("prom", "orders", "/metrics")
    watched.record("front", "orders", "/orders/1", number=5)
    assert (await apply(watched, WITHOUT_METRICS)).outcome is Outcome.HELD
