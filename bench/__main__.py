"""Run the benchmarks, print their tables, and keep those of a whole run in RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import table
from bench.machine import busy, machine
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report

# Each is a module of this package with `measure(effort) -> Report`; another one is added by its name.
NAMES = (
    "decision", "tokens", "latency", "nodes", "apply", "fleet", "svids", "rotation", "compile", "memory",
    "diff", "replay",
)  # fmt: skip
RESULTS = Path(__file__).with_name("RESULTS.md")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when everything was measured, whether goals were kept or not; 1 when something could not be."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes are ended as after Ctrl-C
    effort, names = Effort(options.quick), options.names or list(NAMES)
    facts = machine()
    print("\n".join(facts) + "\n", flush=True)
    reports = []
    try:
        for name in names:
            report: Report = importlib.import_module(f"bench.{name}").measure(effort)
            print(table.text(report) + "\n", flush=True)
            reports.append(report)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BenchError as error:
        say(f"not measured: {error}")
        return 1
    missed = sum(report.missed for report in reports)
    print(f"goals missed: {missed}" + (" (a smoke run: its figures mean little)" if effort.quick else ""))
    if not effort.quick and list(names) == list(NAMES):
        RESULTS.write_text(_results([*facts, _ended()], reports))
        say(f"written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS.name}")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds, to see that everything works")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


def _ended() -> str:
    return f"Ended: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average {busy()}"


def _results(facts: list[str], reports: list[Report]) -> str:
    head = [
        "# Benchmark results",
        "",
        "Written by `make bench`. `pass` and `MISS` say whether the goal beside a figure was kept in this run.",
        "",
        *(f"- {fact}" for fact in facts),
        "",
    ]
    return "\n".join(head) + "\n" + "\n\n".join(table.markdown(report) for report in reports) + "\n"


if __name__ == "__main__":
    sys.exit(main())
