"""What a hop adds to a request's latency, at a rate that leaves the proxy idle most of the time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import decision
from bench.backend import backend
from bench.decision import Variant
from bench.load import Connection, Wire, at_rate, request
from bench.network import address
from bench.progress import say
from bench.report import Effort, Goal, Report, Row, percentile

RATE = 500
P50_MS, P99_MS = 0.2, 1.0


def measure(effort: Effort) -> Report:
    """The same requests straight to the backend, through Envoy without policy, and through ours."""
    rules, rounds, count = effort.of(1_000, 10), effort.of(10, 1), effort.of(1_000, 100)
    none = Variant("through Envoy without policy", 0, 10, decision.no_policy)
    ours = Variant(f"through ours, {rules:,} rules", 1, rules, decision.ours)
    ways: dict[str, Wire] = {"straight to the backend": Wire(address(decision.BACKEND), [request("GET", "api", "/")])}
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        stack.enter_context(backend(Path(place), address(decision.BACKEND)))
        for variant in (none, ours):
            stack.enter_context(decision.started(variant, Path(place)))
            ways[variant.label] = decision.wires(variant)[0]
        opened = {label: Connection(wire.address) for label, wire in ways.items()}
        taken: dict[str, list[float]] = {label: [] for label in ways}
        for number in range(rounds):
            say(f"latency: round {number + 1} of {rounds}")
            for label, wire in ways.items():
                nanoseconds = at_rate(opened[label], wire.requests, RATE, count)
                taken[label] += [value / 1e6 for value in nanoseconds]
    return _report(taken, rounds, count)


def _report(taken: dict[str, list[float]], rounds: int, count: int) -> Report:
    figures = {label: (median(values), percentile(values, 0.99)) for label, values in taken.items()}
    direct, none, ours = figures.values()
    p50, p99 = (own - base for own, base in zip(ours, direct, strict=True))
    goal = Goal(f"added p50 < {P50_MS} ms, p99 < {P99_MS:.0f} ms", p50 < P50_MS and p99 < P99_MS)
    first, *others = figures
    rows = [
        Row(first, (*_cells(direct), "", "")),
        *(Row(label, (*_cells(figures[label]), *_cells(figures[label], direct))) for label in others),
        Row("of it, what the policy adds", ("", "", *_cells(ours, none))),
    ]
    rows[2] = replace(rows[2], goal=goal)
    how = (
        f"{rounds} rounds of {count} requests each way at {RATE} a second on one kept-alive connection, from the "
        "moment a request is sent (or should have been, where the one before was late) to the end of its response. "
        "Added: to the way straight to the backend. `without policy` is as in the table of decisions. At this rate "
        "processors sleep between requests, and a hop is two more wake-ups.",
    )
    columns = ("p50", "p99", "added p50", "added p99")
    return Report(f"Latency of a hop at {RATE} requests a second", columns, tuple(rows), how)


def _cells(own: Sequence[float], base: Sequence[float] = ()) -> tuple[str, ...]:
    if not base:
        return tuple(f"{value:.3f} ms" for value in own)
    return tuple(f"{value - other:+.3f} ms" for value, other in zip(own, base, strict=True))
