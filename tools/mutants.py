"""`make mutants`: puts each fault of tools/faults.py in, one at a time, and notes which test finds it first.

It works on copies of the tree. The tests that may find a fault go from the quick to the slow. For the compiler that is
a real Envoy too, and last the comparison with a snapshot that is kept: it finds any change and says nothing about it.
All faults together write docs/mutants.md; named ones (`make mutants ARGS=name`) are only printed. The answer is 1 when
a fault survives.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from faults import FAULTS, Fault

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = _ROOT / "docs" / "mutants.md"
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.pyc", "dist", "build"
)
_FOUND = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", re.MULTILINE)
# The two files of the tree that change with every new version of everything.
_KEPT_SNAPSHOT = "tests/unit/envoy/test_golden.py"


@dataclass(frozen=True, slots=True)
class Stage:
    """Tests that run together, and for how many seconds at most."""

    name: str
    paths: tuple[str, ...]
    limit: float


def _unit(*packages: str) -> Stage:
    return Stage("unit", tuple(f"tests/unit/{package}" for package in packages), 300)


def _laws(*names: str) -> Stage:
    return Stage("laws", tuple(f"tests/property/test_{name}.py" for name in names), 900)


def _envoy(*names: str) -> Stage:
    return Stage("Envoy", tuple(f"tests/envoy/test_{name}.py" for name in names), 900)


_CASES, _KEPT = Stage("policy", ("tests/policy",), 120), Stage("golden", (_KEPT_SNAPSHOT,), 120)
_OF_LANGUAGE = (_CASES, _unit("model", "policy"), _laws("laws", "oracle"), _laws("revoked_laws"), _unit("verify"))
# What may find a fault, by its package; from the quick to the slow.
_STAGES = {
    "model": _OF_LANGUAGE,
    "policy": _OF_LANGUAGE,
    "verify": (_CASES, _unit("verify"), _laws("region_laws", "oracle"), _laws("diff_laws", "guarantee_laws")),
    "envoy": (
        _unit("envoy"),
        _envoy("square", "corpus", "forms"),
        _envoy("token_square", "tokens", "grants", "health", "tunnels"),
        _laws("compiler_laws"),
        _envoy("between_nodes", "inbound", "revocation", "outside"),
        _KEPT,
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a fault: the test that found it (empty: none did), and after how many seconds."""

    fault: Fault
    stage: str
    test: str
    seconds: float


def main() -> int:
    """Run them. The answer is 1 when a fault survives."""
    arguments = argparse.ArgumentParser(description="Put known faults in and see which test finds each.")
    arguments.add_argument("names", nargs="*", help="faults of tools/faults.py (all of them)")
    arguments.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    given = arguments.parse_args()
    chosen = [fault for fault in FAULTS if not given.names or fault.name in given.names]
    unknown = set(given.names) - {fault.name for fault in chosen}
    if unknown:
        print(f"no fault is called {', '.join(sorted(unknown))}; tools/faults.py has them", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="septum-mutants-") as directory:
        trees = [_copied(Path(directory) / f"tree{number}") for number in range(given.jobs)]
        left_out = _failing(trees[0], {fault.package for fault in chosen})
        outcomes = _all(chosen, trees, left_out)
    survivors = [outcome for outcome in outcomes if not outcome.test]
    print(f"{len(outcomes) - len(survivors)} of {len(outcomes)} faults are found")
    if not given.names:
        _PAGE.write_text(page(outcomes, left_out), encoding="utf-8")
    return 1 if survivors else 0


def _copied(to: Path) -> Path:
    shutil.copytree(_ROOT, to, ignore=_NOT_COPIED, symlinks=True)
    (to / ".venv").symlink_to(_ROOT / ".venv")
    return to


def _failing(tree: Path, packages: Collection[str]) -> tuple[str, ...]:
    """The tests that fail without a fault, and so say nothing about one."""
    found: list[str] = []
    for stage in dict.fromkeys(stage for package in sorted(packages) for stage in _STAGES[package]):
        began = time.monotonic()
        while (test := _first_failure(tree, stage, found)) and "::" in test:
            print(f"left out, since it fails without a fault: {test}", flush=True)
            found.append(test)
        print(f"without a fault: {stage.name} {test or 'passes'} ({time.monotonic() - began:.0f} s)", flush=True)
        if test:
            raise SystemExit(f"the tests of {stage.name} do not run without a fault")
    return tuple(found)


def _all(faults: Sequence[Fault], trees: Iterable[Path], left_out: Sequence[str]) -> list[Outcome]:
    free: SimpleQueue[Path] = SimpleQueue()
    workers = 0
    for tree in trees:
        free.put(tree)
        workers += 1

    def one(fault: Fault) -> Outcome:
        tree = free.get()
        try:
            outcome = _tried(fault, tree, left_out)
        finally:
            free.put(tree)
        print(f"{fault.name}: {outcome.test or 'SURVIVES'} ({outcome.stage}, {outcome.seconds:.0f} s)", flush=True)
        return outcome

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, faults))


def _tried(fault: Fault, tree: Path, left_out: Sequence[str]) -> Outcome:
    file, began = tree / fault.file, time.monotonic()
    whole = file.read_text(encoding="utf-8")
    assert whole.count(fault.old) == 1, f"{fault.name}: what it changes is not in {fault.file} exactly once"
    _write(file, whole.replace(fault.old, fault.new))
    try:
        for stage in _STAGES[fault.package]:
            found = _found_again(tree, stage, left_out)
            if found:
                return Outcome(fault, stage.name, found, time.monotonic() - began)
        return Outcome(fault, "", "", time.monotonic() - began)
    finally:
        _write(file, whole)


def _found_again(tree: Path, stage: Stage, left_out: Sequence[str]) -> str:
    """The test that fails first; what real time plays a part in has to fail once more, or it is left out too."""
    found = _first_failure(tree, stage, left_out)
    while found and stage.name == "Envoy" and not _first_failure(tree, replace(stage, paths=(found,)), left_out):
        print(f"failed once and passed then: {found}", flush=True)
        left_out = (*left_out, found)
        found = _first_failure(tree, stage, left_out)
    return found


_moment = count(2_000_000_000)


def _write(file: Path, text: str) -> None:
    """Under a time of its own, since Python takes a file of the same length and time for the one that it compiled."""
    file.write_text(text, encoding="utf-8")
    moment = next(_moment)
    os.utime(file, (moment, moment))


def _first_failure(tree: Path, stage: Stage, left_out: Sequence[str]) -> str:
    """The test that fails first, or nothing. Tests that do not end are as good as one that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "--hypothesis-seed=0", *stage.paths]
    command += [f"--deselect={test}" for test in left_out]
    command += [] if _KEPT_SNAPSHOT in stage.paths else [f"--ignore={_KEPT_SNAPSHOT}"]
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    ran = subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, _ = ran.communicate(timeout=stage.limit)
    except subprocess.TimeoutExpired:
        os.killpg(ran.pid, signal.SIGKILL)
        ran.communicate()
        return f"{stage.name}: no end within {stage.limit:g} s"
    if ran.returncode == 0:
        return ""
    found = _FOUND.search(output)
    return found[1] if found else f"{stage.name}: {output.strip().splitlines()[-1]}"


def page(outcomes: Sequence[Outcome], left_out: Sequence[str]) -> str:
    """docs/mutants.md."""
    survivors = [outcome for outcome in outcomes if not outcome.test]
    caught = [outcome for outcome in outcomes if outcome.test]
    lines = ["# Which test finds which fault", "", *_ABOUT, "", f"{len(caught)} of {len(outcomes)} faults are found."]
    if left_out:
        lines += ["", "Left out, since they fail without a fault:", "", *(f"- `{test}`" for test in left_out)]
    if survivors:
        lines += ["", "## Not found by any test", "", "| fault | where | what is so then |", "|---|---|---|"]
        lines += [f"| {o.fault.name} | `{_where(o.fault)}` | {o.fault.would} |" for o in survivors]
    lines += ["", "## Found", "", "| fault | where | what is so then | found by | s |", "|---|---|---|---|---|"]
    lines += [_row(outcome) for outcome in caught]
    return "\n".join(lines) + "\n"


_ABOUT = (
    "`make mutants` writes this page. It puts each fault of `tools/faults.py` into a copy of the tree and runs the",
    "tests that may find it, from the quick to the slow: cases, unit tests, laws and, for the compiler, a real Envoy",
    "and last the snapshot that is kept. The test that fails first is named; seconds are those until then.",
)


def _row(outcome: Outcome) -> str:
    fault, (file, _, test) = outcome.fault, outcome.test.partition("::")
    name = f"{file.removeprefix('tests/')}: {test}" if test else outcome.test
    return f"| {fault.name} | `{_where(fault)}` | {fault.would} | {name} | {outcome.seconds:.0f} |"


def _where(fault: Fault) -> str:
    return fault.file.removeprefix("src/septum/")


if __name__ == "__main__":
    sys.exit(main())
