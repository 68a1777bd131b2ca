"""Reading and compiling a large policy, cold and after the change of one rule."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

from bench import meshes
from bench.network import address, written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report, Row, at_most, spread
from septum.envoy.compile import Compiler, Front
from septum.model.mesh import Address
from septum.model.policy import Policy
from septum.policy.load import Loader

T = TypeVar("T")


def measure(effort: Effort) -> Report:
    """The time of each step, several times over."""
    workloads, runs, changes = effort.of(1_000, 20), effort.of(3, 1), effort.of(20, 2)
    files = meshes.many_targets(workloads, workloads, 10, max(1, workloads // 10), 0, written(meshes.NOBODY))
    times: dict[str, list[float]] = {step: [] for step in ("load", "compile", "change: load", "change: compile")}
    for run in range(runs):
        say(f"compile: run {run + 1} of {runs}")
        _run(files, changes, times)
    return _report(workloads, runs, changes, len(files) - 1, times)


def _run(files: meshes.Files, changes: int, times: dict[str, list[float]]) -> None:
    loader, compiler = Loader(), Compiler()

    def step(name: str, files: meshes.Files) -> None:
        policy, seconds = _timed(lambda: _load(loader, files))
        times[f"{name}load"].append(seconds)
        outbound = {workload: Address(*address(0, n)) for n, workload in enumerate(policy.mesh.workloads)}
        times[f"{name}compile"].append(
            _timed(lambda: compiler.compile(policy, Front("bench", tuple(policy.mesh.workloads), outbound, "file")))[1]
        )

    step("", files)
    for number in range(changes):
        step("change: ", meshes.changed(files, number))


def _load(loader: Loader, files: meshes.Files) -> Policy:
    loaded = loader.load(files)
    if loaded.policy is None:
        raise BenchError(f"the policy of the benchmark is not valid: {loaded.errors[0]}")
    return loaded.policy


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def _report(workloads: int, runs: int, changes: int, files: int, times: dict[str, list[float]]) -> Report:
    milliseconds = {step: [seconds * 1e3 for seconds in values] for step, values in times.items()}
    both = [a + b for a, b in zip(milliseconds["change: load"], milliseconds["change: compile"], strict=True)]
    rows = (
        Row("load: read and check the files", _cells(milliseconds["load"])),
        Row(
            "compile", _cells(milliseconds["compile"]), at_most(median(milliseconds["compile"]), 2_000, "median < 2 s")
        ),
        Row("one rule changed: load", _cells(milliseconds["change: load"])),
        Row("one rule changed: compile", _cells(milliseconds["change: compile"])),
        Row("one rule changed: both", _cells(both), at_most(median(both), 50, "median < 50 ms")),
    )
    how = (
        f"In one process, {runs} runs with a new loader and compiler each, and {changes} changes after each. The YAML "
        f"is in memory, in {files} files of {workloads * 10 // files} rules. Compiled for one node that fronts all "
        "workloads.",
    )
    return Report(f"Compile of {workloads:,} workloads with 10 rules each", ("min", "median", "max"), rows, how)


def _cells(milliseconds: list[float]) -> tuple[str, ...]:
    return (*spread(milliseconds, " ms"), f"{max(milliseconds):.1f} ms")
