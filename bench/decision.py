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

from septum.envoy.compile import Compiler, Node
from septum.model.mesh import Address
from septum.model.policy import Policy
from septum.policy.load import load

from bench import filesystem, linear, meshes, processes
from bench.backend import backend
from bench.filesystem import Resources
from bench.load import ClosedLoop, Wire, request
from bench.network import address, written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report, Row, at_most, spread

CALLERS = 100
CONNECTIONS = 10
BACKEND = 250
GOAL = 1.1


@dataclass
class Variant:
    """One Envoy: what it runs, and what was measured of it (CPU microseconds a request, in each round)."""

    label: str
    group: int
    rules: int
    make: Callable[[Policy, int], Resources]
    enforce: bool = True
    expect: int = 200
    share: int = 1  # 1/share of the requests, where each takes long
    denied: bool = False
    pid: int = 0
    load: ClosedLoop | None = None
    micros: list[float] = field(default_factory=list)


def ours(policy: Policy, group: int) -> Resources:
    """What our compiler makes of a policy, with outbound listeners in an address group."""
    outbound = {name: Address(*address(group, nth)) for nth, name in enumerate(policy.mesh.workloads)}
    return filesystem.resources(Compiler().compile(policy, Node("bench", outbound, "decisions.jsonl")), "api")


def _linear(policy: Policy, group: int) -> Resources:
    return filesystem.with_rbac(ours(policy, group), linear.per_route(policy, "api"))


def _no_policy(policy: Policy, group: int) -> Resources:
    return filesystem.without_policy(ours(policy, group))


def _bare(policy: Policy, group: int) -> Resources:
    return filesystem.bare(ours(policy, group), "api")


def variants(quick: bool) -> list[Variant]:
    none = Variant("no policy", 0, 10, _no_policy)
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
        Variant("linear `rules`, 1,000", 7, 1_000, _linear, share=5),
        Variant("linear `rules`, 10,000", 8, 10_000, _linear, share=50),
        Variant("plain reverse proxy: no records, scopes or options", 9, 10, _bare),
        Variant("a denial, 0 rules (answered without the backend)", 10, 0, ours, expect=403, denied=True),
        Variant("a denial, 10,000 rules (the same)", 11, 10_000, ours, expect=403, denied=True),
    ]


def measure(effort: Effort) -> Report:
    """Start all variants, then go round them again and again."""
    chosen, rounds, count = variants(effort.quick), effort.of(40, 2), effort.of(1_000, 200)
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        stack.enter_context(backend(Path(place), address(BACKEND)))
        for variant in chosen:
            say(f"decision: starting {variant.label}")
            stack.enter_context(started(variant, Path(place)))
        for number in range(rounds):
            say(f"decision: round {number + 1} of {rounds}")
            for variant in chosen:
                variant.micros.append(_micros(variant, max(CONNECTIONS * 2, count // variant.share)))
    return _report(chosen, rounds, count)


@contextmanager
def started(variant: Variant, place: Path) -> Iterator[None]:
    """The variant's Envoy and the connections to it, warmed up."""
    directory = place / f"envoy-{variant.group}"
    directory.mkdir()
    allowed = meshes.allowances(variant.rules, CALLERS)
    filesystem.write(variant.make(_policy(variant.rules, variant.enforce), variant.group), directory)
    with processes.envoy(directory, address(variant.group, 1)) as pid:
        variant.pid, variant.load = pid, ClosedLoop(wires(variant, allowed))
        _micros(variant, CONNECTIONS * 10)
        yield
        variant.load.close()


def wires(variant: Variant, allowed: Sequence[meshes.Allowed]) -> list[Wire]:
    """A connection for each of the first callers, with a request for each of its rules (or for none of them)."""
    made = []
    for number in range(CONNECTIONS):
        own = [rule for rule in allowed if rule.caller == meshes.caller(number)] or meshes.allowances(1, 1)
        wanted = [(rule.method, "/v1/nothing/here" if variant.denied else rule.path) for rule in own]
        Random(number).shuffle(wanted)  # few requests meet rules from all over the list, too
        listener = address(variant.group, number + 1)  # the target comes first
        made.append(Wire(listener, [request(method, "api", path) for method, path in wanted]))
    return made


def _micros(variant: Variant, count: int) -> float:
    assert variant.load is not None
    before = processes.cpu_seconds(variant.pid)
    done = variant.load.run(count, patience=10)
    time.sleep(0.06)  # the log is flushed every 50 ms, and belongs to the request
    spent = processes.cpu_seconds(variant.pid) - before
    if set(done.statuses) != {variant.expect}:
        raise BenchError(f"{variant.label}: answers were {dict(done.statuses)}, not {variant.expect}")
    return spent / done.count * 1e6


@lru_cache(maxsize=2)
def _policy(rules: int, enforce: bool) -> Policy:
    loaded = load(meshes.one_target(meshes.allowances(rules, CALLERS), CALLERS, written(BACKEND), enforce))
    if loaded.policy is None:
        raise BenchError(f"the policy of the benchmark is not valid: {loaded.errors[0]}")
    return loaded.policy


def _report(chosen: Sequence[Variant], rounds: int, count: int) -> Report:
    base = chosen[0].micros
    rows = []
    for variant in chosen:
        ratio = min(variant.micros) / min(base)
        by_round = median(own / none for own, none in zip(variant.micros, base, strict=True))
        cells = (*spread(variant.micros), f"{ratio:.2f}", f"{by_round:.2f}")
        goal = at_most(ratio, GOAL, f"≤ {GOAL}×") if variant.make is ours and not variant.denied else None
        rows.append(Row(variant.label, cells if not variant.denied else (*cells[:2], "–", "–"), goal))
    how = (
        f"CPU time (user and system, all threads) of the proxy's process over {count} requests, divided by them; "
        f"{rounds} rounds over all variants in turn. The linear lists of 1,000 and 10,000 rules get a fifth and a "
        "fiftieth of the requests.",
        "× min: ratio of the minima, which the goal is about; × round: median of the ratio within each round.",
        f"Each variant is an Envoy of its own with one worker and {CALLERS} callers; {CONNECTIONS} kept-alive HTTP/1.1 "
        "connections, one a caller, send a request for each of that caller's rules in turn. The backend is another Envoy.",
        "`no policy`: the same listeners, scopes, routes and records without the RBAC filter. Everything else is what the "
        "compiler made, read from files. Linear: the same rules as RBAC `rules`, the caller known in the same way.",
    )
    return Report("CPU of a decision (µs a request)", ("min", "median", "× min", "× round"), tuple(rows), how)
