"""From an edited rule to the first request decided by it, through a real `septum up`."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import memory, mesh_up, meshes
from bench.backend import backend
from bench.load import request
from bench.network import address, written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report, Row, at_most, percentile
from bench.watcher import PAUSE, Watcher, watching
from septum.control import api

BACKEND = 250
GOAL_MS, GOAL_COMMAND_MS = 20, 300


@dataclass
class Flips:
    """Milliseconds of each flip: to the first request decided by the new rule, and to the answer that it is held."""

    decided: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)

    def add(self, sent: int, decided: int, answered: int, steps: dict[str, float]) -> None:
        self.decided.append((decided - sent) / 1e6)
        self.answered.append((answered - sent) / 1e6)
        for step, milliseconds in steps.items():
            self.steps.setdefault(step, []).append(milliseconds)


def measure(effort: Effort) -> Report:
    """Flip one rule of a mesh with many, by the control socket and by the command."""
    workloads, targets, each = effort.of(200, 10), effort.of(50, 5), 20
    files = meshes.many_targets(workloads, targets, each, targets, 0, written(BACKEND))
    denied, allowed = files, meshes.changed(files, 0)
    with TemporaryDirectory(prefix="septum-bench-") as place, backend(Path(place), address(BACKEND)):
        mesh = Path(place) / "mesh"
        mesh_up.write(denied, mesh)
        ask = request(meshes.CHANGED.method, meshes.caller(0), meshes.CHANGED.path)
        say("apply: starting `septum up`")
        with mesh_up.up(mesh) as pid, watching(address(0, 1), ask) as watcher:
            before = memory.of_tree(pid)
            many = flips(mesh, watcher, denied, allowed, effort.of(200, 4))
            whole = (meshes.one_file(denied), meshes.one_file(allowed))
            _apply(mesh, whole[0])
            single = flips(mesh, watcher, *whole, effort.of(30, 2))
            _apply(mesh, denied)
            commands = _commands(mesh, denied, allowed, effort.of(20, 2))
            after = memory.of_tree(pid)
    return _report(targets * each, targets, workloads, many, single, commands, (before, after))


def flips(mesh: Path, watcher: Watcher, denied: meshes.Files, allowed: meshes.Files, count: int) -> Flips:
    """Allow and deny in turn."""
    done = Flips()
    for number in range(count):
        if number % 50 == 0:
            say(f"apply: flip {number + 1} of {count}, {len(denied) - 1} policy files")
        files, status = (denied, 403) if number % 2 else (allowed, 200)
        watcher.expect(status)
        sent = time.perf_counter_ns()
        steps = _apply(mesh, files)
        answered = time.perf_counter_ns()
        done.add(sent, watcher.seen(), answered, steps)
        time.sleep(0.02)
    return done


def _apply(mesh: Path, files: meshes.Files) -> dict[str, float]:
    texts = {name: content.decode() for name, content in files.items()}
    applied = api.call(mesh / ".septum", "apply", files=texts, author="bench", patience=5)
    if applied.get("outcome") not in ("held", "unchanged"):
        raise BenchError(f"a change was not held: {applied}")
    steps: dict[str, float] = applied["milliseconds"]
    return steps


def _commands(mesh: Path, denied: meshes.Files, allowed: meshes.Files, count: int) -> list[float]:
    """Milliseconds of whole `septum apply` processes, from their start to their end."""
    spent = []
    for number in range(count):
        mesh_up.write(denied if number % 2 else allowed, mesh)
        began = time.perf_counter()
        ended = subprocess.run([mesh_up.SEPTUM, "-C", str(mesh), "apply"], capture_output=True, text=True, check=False)
        spent.append((time.perf_counter() - began) * 1e3)
        if ended.returncode != 0 or " is held" not in ended.stdout:
            raise BenchError(f"`septum apply` answered {ended.returncode}: {ended.stdout}{ended.stderr}")
    say(f"apply: {count} whole commands done")
    return spent


def _report(
    rules: int, files: int, workloads: int, many: Flips, single: Flips, commands: list[float],
    memories: tuple[tuple[str, ...], tuple[str, ...]],
) -> Report:  # fmt: skip
    goal = at_most(percentile(many.decided, 0.99), GOAL_MS, f"p99 < {GOAL_MS} ms")
    rows = [
        Row(f"{files} files: first request decided by the new rule", _cells(many.decided), goal),
        Row(f"{files} files: answered that it is held", _cells(many.answered)),
        *(Row(f"{files} files: of it, {step}", _cells(values)) for step, values in many.steps.items()),
        Row("one file: first request decided by the new rule", _cells(single.decided)),
        *(Row(f"one file: of it, {step}", _cells(values)) for step, values in single.steps.items()),
        Row("the whole of `septum apply`", _cells(commands), at_most(max(commands), GOAL_COMMAND_MS, "max < 300 ms")),
    ]
    how = (
        f"A real `septum up` with {workloads} workloads and {rules:,} rules, one rule changed in each of "
        f"{len(many.decided)} flips ({len(single.decided)} where one file holds all rules). Counted from the moment "
        "the files are written to the control socket to the moment a client has read the first response decided by "
        f"the new rule. The client asks all the while, {PAUSE * 1e3:.1f} ms after each response, on a connection that "
        "is kept until Envoy ends it: a change that takes something away does.",
        f"`septum apply`: {len(commands)} runs with a changed rule, from starting the process to its end.",
        f"Memory of the tree ({', '.join(memory.COLUMNS)}): before {_listed(memories[0])}, "
        f"after all changes {_listed(memories[1])}.",
    )
    return Report("From `apply` to the first request decided by the new rule", ("p50", "p99", "max"), tuple(rows), how)


def _cells(milliseconds: list[float]) -> tuple[str, ...]:
    worst = max(milliseconds)
    return tuple(f"{v:.1f} ms" for v in (median(milliseconds), percentile(milliseconds, 0.99), worst))


def _listed(cells: tuple[str, ...]) -> str:
    return ", ".join(cells)
