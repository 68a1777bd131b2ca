"""`septum check`: every finding at once, before anything runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from septum.cli import diagnostics
from septum.cli.output import style, wants_colour
from septum.cli.place import nearest_mesh, seen_from_here
from septum.control.files import read_mesh_dir
from septum.model.diagnostic import Diagnostic, Severity
from septum.model.policy import Policy
from septum.policy.cases_file import read_cases
from septum.policy.codes import CODES, page
from septum.policy.load import load
from septum.verify.guarantee import findings


@click.command(
    epilog="\b\nExamples:\n  septum check\n  septum check examples/shop --format sarif > septum.sarif\n"
    "  septum check --explain SEP203"
)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to print findings."
)
@click.option("--explain", "code", metavar="CODE", help="Say what a code means (`all`: each of them), and stop.")
@click.pass_obj
def command(above: Path | None, directory: Path | None, form: str, code: str | None) -> int:
    """Check septum.yaml and policy/*.yaml of a mesh, guarantees and tests too; exit status 1 when something is wrong.

    Warnings alone leave the exit status at 0.
    """
    if code is not None:
        click.echo(_meaning(code))
        return 0
    # Where no mesh is, the finding says so, in the form that was asked for.
    mesh = directory or above or nearest_mesh(Path.cwd()) or Path.cwd()
    files = read_mesh_dir(mesh, tests=True)
    loaded = load(files)
    found = [*loaded.diagnostics, *read_cases(files, loaded.partial).diagnostics]
    if loaded.policy is not None:
        found += findings(loaded.policy, time.time())
    found.sort(key=lambda one: one.order)
    if form == "json":
        click.echo(diagnostics.as_json(found))
    elif form == "sarif":
        click.echo(diagnostics.as_sarif(found, before=seen_from_here(mesh)))
    else:
        _print(loaded.policy, found, files, mesh)
    return 1 if _refuses(found) else 0


def _refuses(found: Sequence[Diagnostic]) -> bool:
    return any(diagnostic.severity is Severity.ERROR for diagnostic in found)


def _print(policy: Policy | None, found: Sequence[Diagnostic], files: diagnostics.Sources, mesh: Path) -> None:
    if found:
        click.echo(diagnostics.as_text(found, files, colour=wants_colour(), before=seen_from_here(mesh)) + "\n")
    click.echo(style(_summary(policy, found), fg="red" if _refuses(found) else "green"))


def _summary(policy: Policy | None, found: Sequence[Diagnostic]) -> str:
    """`4 workloads, 3 rules, version 1a9a47fc729d: no findings`, or only the findings when nothing can be read."""
    counted = diagnostics.count(found)
    if policy is None:
        return counted
    stated = [_number(len(policy.guarantees), "guarantee")] if policy.guarantees else []
    parts = [_number(len(policy.mesh.workloads), "workload"), _number(len(policy.rules), "rule"), *stated]
    return f"{', '.join(parts)}, version {policy.version[:12]}: {counted}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _meaning(code: str) -> str:
    if code == "all":
        return page().rstrip("\n")
    meaning = CODES.get(code.upper())
    if meaning is None:
        raise click.UsageError(f"there is no code {code}; they run from {min(CODES)} to {max(CODES)}")
    return f"{code.upper()}: {meaning.title}\n\n{click.wrap_text(meaning.text, width=80)}"
