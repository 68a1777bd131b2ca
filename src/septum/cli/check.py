"""`septum check`: every finding at once, before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from septum.cli import diagnostics
from septum.cli.output import style, wants_colour
from septum.cli.place import nearest_mesh, seen_from_here
from septum.control.files import read_mesh_dir
from septum.policy.codes import CODES, page
from septum.policy.load import Loaded, load


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
    """Check septum.yaml and policy/*.yaml of a mesh; exit status 1 when something is wrong.

    Warnings alone leave the exit status at 0.
    """
    if code is not None:
        click.echo(_meaning(code))
        return 0
    # Where no mesh is, the finding says so, in the form that was asked for.
    mesh = directory or above or nearest_mesh(Path.cwd()) or Path.cwd()
    files = read_mesh_dir(mesh)
    loaded = load(files)
    if form == "json":
        click.echo(diagnostics.as_json(loaded.diagnostics))
    elif form == "sarif":
        click.echo(diagnostics.as_sarif(loaded.diagnostics, before=seen_from_here(mesh)))
    else:
        _print(loaded, files, mesh)
    return 1 if loaded.errors else 0


def _print(loaded: Loaded, files: diagnostics.Sources, mesh: Path) -> None:
    if loaded.diagnostics:
        before = seen_from_here(mesh)
        click.echo(diagnostics.as_text(loaded.diagnostics, files, colour=wants_colour(), before=before) + "\n")
    click.echo(style(_summary(loaded), fg="red" if loaded.errors else "green"))


def _summary(loaded: Loaded) -> str:
    """`4 workloads, 3 rules, version 1a9a47fc729d: no findings`, or only the findings when they refuse the policy."""
    found, policy = diagnostics.count(loaded.diagnostics), loaded.policy
    if policy is None:
        return found
    workloads, rules = len(policy.mesh.workloads), len(policy.rules)
    return f"{_number(workloads, 'workload')}, {_number(rules, 'rule')}, version {policy.version[:12]}: {found}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _meaning(code: str) -> str:
    if code == "all":
        return page().rstrip("\n")
    meaning = CODES.get(code.upper())
    if meaning is None:
        raise click.UsageError(f"there is no code {code}; they run from {min(CODES)} to {max(CODES)}")
    return f"{code.upper()}: {meaning.title}\n\n{click.wrap_text(meaning.text, width=80)}"
