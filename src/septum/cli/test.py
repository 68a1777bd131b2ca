"""`septum test`: the policy's own tests, by the model and through the proxy."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from septum.app.trial.verdict import Fate, Ran, joined
from septum.cli import case_lines, diagnostics
from septum.cli.case_choice import chosen
from septum.cli.case_json import as_values
from septum.cli.junit import as_junit
from septum.cli.moment import span_of
from septum.cli.output import print_json, spinner, wants_colour
from septum.cli.place import mesh_dir, seen_from_here
from septum.control.files import read_mesh_dir
from septum.model.case import Case
from septum.model.diagnostic import Severity
from septum.model.policy import Policy
from septum.policy.cases_file import read_cases
from septum.policy.load import load
from septum.verify.cases import Result, run_all
from septum.verify.coverage import Coverage, coverage

_NO_TESTS = (
    "there are no tests below policy/; they are files that end in `_test.yaml`, and blocks `yaml septum-test` in *.md"
)


class NothingRunError(click.ClickException):
    """No test was run; 1 would mean that one failed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class _Asked:
    """How results are wanted."""

    envoy: bool
    junit: Path | None
    as_json: bool
    coverage: bool
    fail_under: float | None
    verbose: bool
    since: float


@click.command(
    epilog="\b\nExamples:\n  septum test\n  septum test policy/orders_test.yaml:7 --envoy\n"
    "  septum test -k refund --json\n  septum test --coverage --fail-under 90 --junit septum-tests.xml"
)
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--envoy", is_flag=True, help="Ask a real Envoy too: its verdicts and the model's have to be the same.")
@click.option("-k", "containing", metavar="TEXT", default="", help="Only tests whose file or name contains this text.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the results as JUnit XML.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--coverage", is_flag=True, help="Show the operations of rules that no test, or no traffic, has touched.")
@click.option("--fail-under", type=click.FloatRange(0, 100), metavar="N", help="Fail when tests touch less than N %.")
@click.option(
    "--since", default="30d", show_default=True, metavar="SPAN", help="How far back --coverage looks for traffic."
)
@click.option("-v", "--verbose", is_flag=True, help="Show each test, and with --coverage each operation.")
@click.pass_obj
def command(above: Path | None, /, patterns: tuple[str, ...], containing: str, since: str, **how: Any) -> int:
    """Decide the requests of policy/*_test.yaml (and of Markdown there) by the files as they are.

    PATTERN is a file, FILE:LINE, or a glob over files and names of tests. Exit status 0 when every test passes, 1 when
    one fails, or the files have errors, and 2 when none was run.
    """
    mesh, asked = mesh_dir(above), _Asked(**how, since=span_of(since))
    began = time.monotonic()
    policy, cases = _read(mesh, as_json=asked.as_json)
    if policy is None:
        return 1
    try:
        wanted = chosen(cases, patterns, mesh, containing)
    except LookupError as error:
        raise NothingRunError(str(error.args[0])) from error
    if not wanted:
        raise NothingRunError(f"no test contains `{containing}`" if cases else _NO_TESTS)
    now = time.time()
    results = run_all(policy, wanted, now)
    ran = _through_envoy(policy, results, now) if asked.envoy else joined(results)
    return _report(mesh, policy, ran, time.monotonic() - began, asked)


def _read(mesh: Path, *, as_json: bool) -> tuple[Policy | None, Sequence[Case]]:
    """The policy and its cases; what is wrong with them is shown, and then there is no policy."""
    files = read_mesh_dir(mesh, tests=True)
    loaded = load(files)
    read = read_cases(files, loaded.partial)
    found = sorted((*loaded.diagnostics, *read.diagnostics), key=lambda d: d.order)
    refused = any(d.severity is Severity.ERROR for d in found)
    if not refused:
        return loaded.policy, read.cases
    if as_json:
        click.echo(diagnostics.as_json(found))
    else:
        before = seen_from_here(mesh)
        click.echo(diagnostics.as_text(found, files, colour=wants_colour(), before=before) + "\n")
        click.echo(f"nothing was tested: {diagnostics.count(found)}", err=True)
    return None, ()


def _through_envoy(policy: Policy, results: Sequence[Result], now: float) -> tuple[Ran, ...]:
    import asyncio

    from septum.app.trial.proxy import TrialError
    from septum.app.trial.run import trial
    from septum.node.binary import MissingEnvoyError

    try:
        with spinner("asking Envoy"):
            return joined(results, asyncio.run(trial(policy, results, now)))
    except (TrialError, MissingEnvoyError) as error:
        raise NothingRunError(str(error)) from error


def _report(mesh: Path, policy: Policy, ran: Sequence[Ran], seconds: float, asked: _Asked) -> int:
    before = seen_from_here(mesh)
    wants_coverage = asked.coverage or asked.fail_under is not None
    found = coverage(policy, [one.result for one in ran]) if wants_coverage else None
    traffic = _traffic(mesh, policy, asked) if found is not None else None
    if asked.junit is not None:
        _write(asked.junit, as_junit(ran, seconds, before))
    if asked.as_json:
        print_json(as_values(ran, seconds, found, traffic))
    else:
        _print(ran, seconds, asked, found, traffic, before)
    failed = any(one.fate is not Fate.PASSED for one in ran)
    return 1 if failed or _under(found, asked) else 0


def _traffic(mesh: Path, policy: Policy, asked: _Asked) -> case_lines.Traffic | None:
    from septum.cli.rule_use import traffic_of

    return traffic_of(mesh, policy, asked.since, time.time())


def _print(
    ran: Sequence[Ran],
    seconds: float,
    asked: _Asked,
    found: Coverage | None,
    traffic: case_lines.Traffic | None,
    before: str,
) -> None:
    lines = [*(case_lines.each(ran, before) if asked.verbose else case_lines.letters(ran, before))]
    lines += case_lines.failures(ran, before)
    if asked.envoy and any(one.result.case.at is not None for one in ran):
        lines += ["", "No request can be sent at another time: tests with `at` were put to a proxy that was given the",
                  "rules of that moment alone, without their from_time and until."]  # fmt: skip
    if found is not None:
        lines += ["", *case_lines.covered(found, traffic, everything=asked.verbose)]
    click.echo("\n".join([*lines, "", case_lines.summary(ran, seconds)]))
    if _under(found, asked) and found is not None:
        click.echo(
            f"coverage is {found.percent:.1f} %, less than the {asked.fail_under:g} % asked for", file=sys.stderr
        )


def _under(found: Coverage | None, asked: _Asked) -> bool:
    return found is not None and asked.fail_under is not None and found.percent < asked.fail_under


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
