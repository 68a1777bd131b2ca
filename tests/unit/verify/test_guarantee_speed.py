"""What guarantees cost: a figure that is printed, and a bound that is far from it."""

from __future__ import annotations

import random
import time

from septum.model.guarantee import Guarantee, Kind
from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.verify.guarantee import findings, verdicts

WORKLOADS, RULES, SEGMENTS, GUARANTEES = 1_000, 10_000, 20, 20
NOW = 1_800_000_000.0


def test_a_thousand_workloads_ten_thousand_rules_and_twenty_guarantees_take_less_than_a_second() -> None:
    policy = large()
    assert policy.rules_to
    began = time.process_time()
    found = verdicts(policy, NOW)
    took = time.process_time() - began
    findings(policy, NOW)
    broken = sum(not verdict.holds for verdict in found)
    print(f"\n{WORKLOADS} workloads, {RULES} rules, {GUARANTEES} guarantees ({broken} broken): {took * 1e3:.0f} ms")
    assert 0 < broken < GUARANTEES
    assert took < 1


def large() -> Policy:
    """Rules lead from each segment to itself and the next ones only, so that what leads back is never allowed."""
    draw = random.Random(7)
    segments = {f"s{index:02}": Segment(f"s{index:02}") for index in range(SEGMENTS)}
    names = [f"w{index:04}" for index in range(WORKLOADS)]
    placed = {name: index * SEGMENTS // WORKLOADS for index, name in enumerate(names)}
    workloads = {
        name: Workload(
            name, f"s{placed[name]:02}", Address("127.0.0.1", 1024 + index), Protocol.HTTP, health="/healthz"
        )
        for index, name in enumerate(names)
    }
    mesh = Mesh("large", "large.test", segments, workloads, frozenset(segments))
    rules = []
    for index in range(RULES):
        target = draw.choice(names)
        callers = [name for name in draw.sample(names, 60) if placed[name] <= placed[target]][:3] or [target]
        operations = tuple(_pattern(draw) for _ in range(3))
        rules.append(Rule(f"r{index:05}", tuple(callers), (target,), operations))
    return Policy(mesh, tuple(rules), "0" * 64, guarantees=tuple(_guarantees(mesh)))


def _pattern(draw: random.Random) -> HttpPattern:
    word, version, method = draw.choice("abcdefgh"), draw.randrange(4), draw.choice(("GET", "POST", "*"))
    return HttpPattern.parse(f"{method} /{word}/v{version}/{{id}}{draw.choice(('', '/**', '/x'))}")


def _guarantees(mesh: Mesh) -> list[Guarantee]:
    admin = (HttpPattern.parse("* /a/**"),)
    probe = (HttpPattern.parse("GET /a/v1/1"),)
    made = []
    for index in range(GUARANTEES):
        low, high = mesh.members(f"s{index // 2:02}"), mesh.members(f"s{index // 2 + 10:02}")
        kind = (Kind.NEVER, Kind.NEVER, Kind.ONLY, Kind.ALWAYS)[index % 4]
        callers, targets = (high, low) if index % 4 < 2 else (low, high)
        operations = probe if kind is Kind.ALWAYS else admin if index % 3 == 0 else None
        made.append(Guarantee(f"g{index}", kind, callers, targets, operations, through=index % 5 != 0))
    return made
