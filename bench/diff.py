"""The exact difference of two large policies: of a few rules, of as good as none, and of every one."""

from __future__ import annotations

import time
from statistics import median

from bench import meshes
from bench.network import written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report, Row, at_most, spread
from septum.model.policy import Policy
from septum.policy.load import Loader
from septum.verify.diff import diff

_NOW = 1_764_000_000.0
# Differences with more rows than anybody reads are measured, and have no goal.
_READABLE = 6_000


def measure(effort: Effort) -> Report:
    """The time of each difference, with nothing remembered from one to the next."""
    workloads, runs = effort.of(1_000, 20), effort.of(3, 1)
    files = meshes.many_targets(workloads, workloads, 10, max(1, workloads // 10), 0, written(meshes.NOBODY))
    one_target = meshes.one_target(meshes.allowances(workloads * 10, workloads // 10), workloads // 10, written(0))
    cases = {
        "one rule more": (files, meshes.changed(files, 0), 1),
        "the same in other objects": (files, files, 0),
        "one rule in ten has another path": (files, _other_paths(files, b"/summary'"), None),
        "every rule has another path": (files, _other_paths(files, b"'"), None),
        "every rule loses its paths below": (_wider(files), files, None),
        "every rule to one target has another path": (one_target, _other_paths(one_target, b"'"), None),
    }
    rows = []
    for what, (old, new, expected) in cases.items():
        say(f"diff: {what}")
        rows.append(_row(what, old, new, expected, runs))
    how = (
        f"In one process, {runs} runs with both policies loaded anew before each, out of the time. Loaded by one "
        "loader, which keeps the rules of files that did not change; but for *other objects*, which has two. Each row "
        "has its witness, and each witness was asked of both policies.",
    )
    title = f"Exact difference of two policies of {workloads * 10:,} rules"
    return Report(title, ("rows", "min", "median"), tuple(rows), how)


def _row(what: str, old: meshes.Files, new: meshes.Files, expected: int | None, runs: int) -> Row:
    milliseconds, count = [], 0
    for _ in range(runs):
        before, after = _loaded(old, new, apart="other objects" in what)
        began = time.perf_counter()
        found = diff(before, after, _NOW)
        milliseconds.append((time.perf_counter() - began) * 1e3)
        count = len(found.allowed) + len(found.denied)
        if expected is not None and count != expected:
            raise BenchError(f"{what}: {count} rows, and there should be {expected}")
    goal = at_most(median(milliseconds), 1_000, "median < 1 s") if count <= _READABLE else None
    return Row(what, (f"{count:,}", *spread(milliseconds, " ms")), goal)


def _loaded(old: meshes.Files, new: meshes.Files, *, apart: bool) -> tuple[Policy, Policy]:
    loader = Loader()
    before, after = loader.load(old).policy, (Loader() if apart else loader).load(new).policy
    if before is None or after is None:
        raise BenchError("a policy of the benchmark is not valid")
    return before, after


def _other_paths(files: meshes.Files, ending: bytes) -> meshes.Files:
    """The files with another first segment in the paths that end so."""
    return {name: _replaced(content, ending) for name, content in files.items()}


def _replaced(content: bytes, ending: bytes) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join(line.replace(b" /v1/", b" /v2/") if line.endswith(ending + b"}") else line for line in lines)


def _wider(files: meshes.Files) -> meshes.Files:
    """The files with everything below each path open too."""
    return {
        name: content if name == "septum.yaml" else content.replace(b"/**'}", b"'}").replace(b"'}", b"/**'}")
        for name, content in files.items()
    }
