"""What a decision costs: CPU of the proxy a request, beside the same Envoy without policy and beside linear rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

from bench import filesystem, linear, meshes, processes
from bench.backend import backend
from bench.filesystem import Resources
from bench.load import ClosedLoop, Wire, request
from bench.network import address, written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Goal, Report, Row, spread
from septum.envoy.compile import Compiler, Front
from septum.model.mesh import Address
from septum.model.policy import Policy
from septum.policy.load import load

CALLERS = 100
CONNECTIONS = 10
BACKEND = 250
GOAL, GROWTH = 1.1, 1.1

Make = Callable[[Policy, int], Resources]


def ours(policy: Policy, group: int) -> Resources:
    """What our compiler makes of a policy, with outbound listeners in an address group."""
    outbound = {name: Address(*address(group, nth)) for nth, name in enumerate(policy.mesh.workloads)}
    return filesystem.resources(
        Compiler().compile(policy, Front("bench", tuple(policy.mesh.workloads), outbound, "decisions.jsonl")), "api"
    )


def no_policy(policy: Policy, group: int) -> Resources:
    return filesystem.without_policy(ours(policy, group))


def _linear(policy: Policy, group: int) -> Resources:
    return filesystem.with_rbac(ours(policy, group), linear.per_route(policy, "api"))


def _bare(policy: Policy, group: int) -> Resources:
    return filesystem.bare(ours(policy, group), "api")


def _ours_unrecorded(policy: Policy, group: int) -> Resources:
    return filesystem.without_records(ours(policy, group))


def _no_policy_unrecorded(policy: Policy, group: int) -> Resources:
    return filesystem.without_records(no_policy(policy, group))


@dataclass
class Variant:
    """One Envoy: what it runs, and what was measured of it (CPU microseconds a request, in each round)."""

    label: str
    group: int
    rules: int
    make: Make
    enforce: bool = True
    denied: bool = False
    share: int = 1  # it gets 1/share of the requests: each takes long
    base: int | None = 0  # the group of the variant that it is compared with
    policy: Policy | None = None  # instead of one with so many rules
    asks: Sequence[Wire] = ()  # instead of a request for each rule
    pid: int = 0
    load: ClosedLoop | None = None
    micros: list[float] = field(default_factory=list)


def variants(quick: bool) -> list[Variant]:
    none = Variant("no policy", 0, 10, no_policy)
    if quick:
        return [none, Variant("10 rules", 1, 10, ours), Variant("linear `rules`, 10", 2, 10, _linear)]
    return [
        none,
        Variant("0 rules, observed", 1, 0, ours, enforce=False),
        Variant("10 rules", 2, 10, ours),
        Variant("1,000 rules", 3, 1_000, ours),
        Variant("10,000 rules", 4, 10_000, ours),
        Variant("linear `rules`, 10", 5, 10, _linear),
        Variant("linear `rules`, 100", 6, 100, _linear),
        Variant("linear `rules`, 1,000", 7, 1_000, _linear),
        Variant("linear `rules`, 10,000", 8, 10_000, _linear, share=5),
        Variant("no policy, without records", 9, 10, _no_policy_unrecorded, base=9),
        Variant("10 rules, without records", 10, 10, _ours_unrecorded, base=9),
        Variant("10,000 rules, without records", 11, 10_000, _ours_unrecorded, base=9),
        Variant("plain reverse proxy", 12, 10, _bare),
        Variant("a denial, 0 rules", 13, 0, ours, denied=True, base=None),
        Variant("a denial, 10,000 rules", 14, 10_000, ours, denied=True, base=None),
    ]


def measure(effort: Effort) -> Report:
    """Start all variants, then go round them again and again."""
    chosen, rounds, count = variants(effort.quick), effort.of(60, 2), effort.of(400, 100)
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        stack.enter_context(backend(Path(place), address(BACKEND)))
        for variant in chosen:
            say(f"decision: starting {variant.label}")
            stack.enter_context(started(variant, Path(place)))
        for number in range(rounds):
            if number % 10 == 0:
                say(f"decision: round {number + 1} of {rounds}")
            for variant in chosen:
                variant.micros.append(measure_once(variant, count // variant.share))
    return _report(chosen, rounds, count)


@contextmanager
def started(variant: Variant, place: Path) -> Iterator[None]:
    """The variant's Envoy and the connections to it, warmed up."""
    directory = place / f"envoy-{variant.group}"
    directory.mkdir()
    policy = variant.policy or _policy(variant.rules, variant.enforce)
    filesystem.write(variant.make(policy, variant.group), directory)
    with processes.envoy(directory, address(variant.group, 1)) as pid:
        variant.pid, variant.load = pid, ClosedLoop(variant.asks or wires(variant))
        measure_once(variant, CONNECTIONS * 10)
        yield
        variant.load.close()


def wires(variant: Variant) -> list[Wire]:
    """A connection for each of the first callers, with a request for each of its rules."""
    allowed = meshes.allowances(variant.rules or CALLERS, CALLERS)
    made = []
    for number in range(CONNECTIONS):
        own = [rule for rule in allowed if rule.caller == meshes.caller(number)]
        wanted = [(rule.method, "/v2/nothing/here" if variant.denied else rule.path) for rule in own]
        Random(number).shuffle(wanted)  # few requests meet rules from all over a list, too
        listener = address(variant.group, number + 1)  # the target comes first
        made.append(Wire(listener, [request(method, "api", path) for method, path in wanted]))
    return made


def measure_once(variant: Variant, count: int) -> float:
    """CPU microseconds a request, over about so many of them."""
    assert variant.load is not None
    before = processes.cpu_seconds(variant.pid)
    done = variant.load.run(count, patience=10)
    time.sleep(0.06)  # records are written out every 50 ms, and their cost belongs to the requests
    spent = processes.cpu_seconds(variant.pid) - before
    expected = 403 if variant.denied else 200
    if set(done.statuses) != {expected}:
        raise BenchError(f"{variant.label}: answers were {dict(done.statuses)}, not {expected}")
    return spent / done.count * 1e6


@lru_cache(maxsize=2)
def _policy(rules: int, enforce: bool) -> Policy:
    return read(meshes.one_target(meshes.allowances(rules, CALLERS), CALLERS, written(BACKEND), enforce))


def read(files: meshes.Files) -> Policy:
    """The policy of a mesh's files."""
    loaded = load(files)
    if loaded.policy is None:
        raise BenchError(f"the policy of the benchmark is not valid: {loaded.errors[0]}")
    return loaded.policy


def _report(chosen: Sequence[Variant], rounds: int, count: int) -> Report:
    by_group = {variant.group: variant for variant in chosen}
    rows = []
    for variant in chosen:
        base = by_group[variant.base].micros if variant.base is not None else None
        rows.append(_row(variant, base))
    few, most = (next((v for v in chosen if v.make is ours and v.rules == rules), None) for rules in (10, 10_000))
    if few and most:
        rows.append(_growth(few, most))
    how = (
        f"CPU time (user and system, all threads) of the proxy's process, divided by the requests: {count} of them a "
        f"round, {rounds} rounds over all variants in turn (a fifth of the requests for the longest list).",
        "`min x`: ratio of the minima. `median x`: median of the ratios within each round. The goal is kept when both "
        "are within it. Variants without records are compared with `no policy, without records`, the others with "
        "`no policy`.",
        f"Each variant is an Envoy of its own with one worker and {CALLERS} callers. {CONNECTIONS} kept-alive HTTP/1.1 "
        "connections, one a caller, send a request for each of that caller's rules in turn. The backend is another "
        "Envoy.",
        "`no policy`: the same listeners, scopes, routes and records without the RBAC filter. Everything else is what "
        "the compiler made, read from files instead of a stream. `plain reverse proxy`: an Envoy with default options, "
        "one route and no records. Linear: the same rules as RBAC `rules`, the caller known in the same way.",
        "With 0 rules nothing is allowed, so there the target is observed. Denials do not reach the backend, so they "
        "have no ratio.",
    )
    return Report("CPU of a decision (µs a request)", ("min", "median", "min x", "median x"), tuple(rows), how)


def _growth(few: Variant, most: Variant) -> Row:
    of_min, of_rounds = ratios(most.micros, few.micros)
    goal = Goal(f"≤ {GROWTH}x", max(of_min, of_rounds) <= GROWTH)
    return Row("growth from 10 to 10,000 rules", ("", "", f"{of_min:.2f}", f"{of_rounds:.2f}"), goal)


def _row(variant: Variant, base: Sequence[float] | None) -> Row:
    cells = spread(variant.micros)
    if base is None:
        return Row(variant.label, (*cells, "", ""))
    of_min, of_rounds = ratios(variant.micros, base)
    goal = Goal(f"≤ {GOAL}x", max(of_min, of_rounds) <= GOAL) if variant.make in (ours, _ours_unrecorded) else None
    return Row(variant.label, (*cells, f"{of_min:.2f}", f"{of_rounds:.2f}"), goal)


def ratios(own: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    """Of the minima, and the median of those within each round."""
    return min(own) / min(base), median(one / other for one, other in zip(own, base, strict=True))
