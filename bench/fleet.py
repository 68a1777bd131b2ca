"""From a change to every node holding it, with many nodes: most of them simulated, three real."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench import hosts, memory, mesh_up, meshes, processes, simulated
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Goal, Report, Row, percentile

GOAL_MS, GOAL_MIB = 500, 300
_PATIENCE = 30.0


@dataclass
class Changes:
    """Milliseconds of each change: until the last node held it, and to the answer; CPU of the control plane beside."""

    held: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    touched: list[int] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Fleet:
    """A size of fleet, and what was measured of it."""

    nodes: int
    two: Changes = field(default_factory=Changes)
    every: Changes = field(default_factory=Changes)
    idle: float = 0.0
    resident: tuple[float, float] = (0.0, 0.0)
    came: float = 0.0


def measure(effort: Effort) -> Report:
    """Each size in turn, with a mesh and a control plane of its own."""
    fleets = [Fleet(nodes) for nodes in ((8,) if effort.quick else (200, 1_000))]
    for fleet in fleets:
        _measured(fleet, effort)
    return _report(fleets, effort)


def _measured(fleet: Fleet, effort: Effort) -> None:
    real = (0, fleet.nodes // 2, fleet.nodes - 1)
    files = meshes.of_nodes(fleet.nodes, effort.of(10, 2), max(1, fleet.nodes // 10), hosts.INBOUND)
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        mesh = Path(place)
        mesh_up.write(files, mesh)
        say(f"fleet: starting a control plane for {fleet.nodes} nodes")
        control = stack.enter_context(hosts.control(mesh))
        for number in real:
            stack.enter_context(hosts.node(mesh, meshes.node(number)))
        others = [meshes.node(number) for number in range(fleet.nodes) if number not in real]
        say(f"fleet: {len(others)} simulated nodes join")
        stack.enter_context(simulated.nodes(mesh, others))
        began = time.perf_counter()
        _all_hold(hosts.ask(mesh, "ready", patience=_PATIENCE)["nodes"])
        fleet.came = time.perf_counter() - began
        fleet.idle = _idle(control, effort.of(10, 1))
        before = memory.mebibytes(control, "Rss")
        _flip_rule(fleet, mesh, control, files, effort.of(60, 4))
        _flip_quarantine(fleet, mesh, control, effort.of(60, 4))
        fleet.resident = (before, memory.mebibytes(control, "Rss"))


def _flip_rule(fleet: Fleet, mesh: Path, control: int, files: meshes.Files, count: int) -> None:
    """A rule for one caller at the first node's target, from a caller of another node, given and taken away."""
    with_rule = meshes.changed(files, 0, meshes.caller(fleet.nodes // 2))
    for number in range(count):
        if number % 20 == 0:
            say(f"fleet: rule {number + 1} of {count}")
        texts = {name: content.decode() for name, content in (files if number % 2 else with_rule).items()}
        _change(fleet.two, mesh, control, "apply", files=texts, author="bench", patience=_PATIENCE)


def _flip_quarantine(fleet: Fleet, mesh: Path, control: int, count: int) -> None:
    """The workload that all may call, put into quarantine and released."""
    for number in range(count):
        if number % 20 == 0:
            say(f"fleet: quarantine {number + 1} of {count}")
        _change(fleet.every, mesh, control, "quarantine", workload=meshes.SHARED, release=number % 2 == 1)


def _change(changes: Changes, mesh: Path, control: int, operation: str, **arguments: Any) -> None:
    cpu, began = processes.cpu_seconds(control), time.perf_counter()
    answer = hosts.ask(mesh, operation, **arguments)
    changes.answered.append((time.perf_counter() - began) * 1e3)
    changes.cpu.append((processes.cpu_seconds(control) - cpu) * 1e3)
    applied = answer.get("applied", answer)
    _all_hold(applied["nodes"])
    steps = applied["milliseconds"]
    changes.held.append(sum(steps.values()))
    for step, value in steps.items():
        changes.steps.setdefault(step, []).append(value)
    changes.touched.append(len({node for node, _, _ in applied["resources_changed"]}))
    time.sleep(0.05)


def _all_hold(nodes: Any) -> None:
    missing = [f"{node['node']}: {node['why']}" for node in nodes if node["arrived"] != "held"]
    if missing:
        raise BenchError(f"{len(missing)} nodes do not hold it, such as {missing[0]}")


def _idle(pid: int, seconds: float) -> float:
    """The share of one core that a process takes when nothing is changed."""
    before = processes.cpu_seconds(pid)
    time.sleep(seconds)
    return (processes.cpu_seconds(pid) - before) / seconds


def _report(fleets: list[Fleet], effort: Effort) -> Report:
    rows = []
    for fleet in fleets:
        for what, changes in (("one rule", fleet.two), ("quarantine", fleet.every)):
            touched = round(median(changes.touched))
            goal = Goal(f"p99 < {GOAL_MS} ms", percentile(changes.held, 0.99) < GOAL_MS)
            rows.append(Row(f"{fleet.nodes:,} nodes, {what}, {touched:,} touched: held", _ms(changes.held), goal))
            rows += [Row(f"of it, {step}", _ms(values)) for step, values in changes.steps.items() if any(values)]
            rows.append(Row("answered", _ms(changes.answered)))
            rows.append(Row("CPU of the control plane", _ms(changes.cpu)))
        size = f"{fleet.resident[0]:.0f} MiB", f"{fleet.resident[1]:.0f} MiB"
        goal = Goal(f"< {GOAL_MIB} MiB", max(fleet.resident) < GOAL_MIB)
        rows.append(Row(f"{fleet.nodes:,} nodes: RSS before, after", (*size, ""), goal))
        rows.append(Row(f"{fleet.nodes:,} nodes: CPU when idle", (f"{fleet.idle:.0%} of a core", "", "")))
    how = (
        "A real `septum control` with a workload on each node, 10 rules to each of them, and one that all may call. "
        "Three nodes are real (agent and Envoy); the others have real joins, certificates, streams and reports over "
        "mTLS, and take each resource at once. They share one process, beside the control plane on one machine.",
        "`one rule`: a rule for a caller on another node, given and taken away in turn; `quarantine`: the workload "
        f"that all may call, put into quarantine and released; {effort.of(60, 4)} of each by the control socket. "
        "`held`: the sum of its steps, from the order being there to the last node's answer that it holds the change.",
        "CPU when idle: what reports cost, one from each node every 2 seconds; it is part of the CPU of a change as "
        "well. RSS: of the control plane's process, once all nodes hold the first version, and after all changes.",
    )
    return Report("From a change to all nodes holding it", ("p50", "p99", "max"), tuple(rows), how)


def _ms(values: list[float]) -> tuple[str, ...]:
    return tuple(f"{value:.1f} ms" for value in (median(values), percentile(values, 0.99), max(values)))
