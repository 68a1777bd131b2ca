"""`septum check`: every finding at once, before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from septum.cli import diagnostics
from septum.cli.output import style, wants_colour
from septum.cli.place import mesh_dir
from septum.control.files import read_mesh_dir
from septum.policy.codes import CODES
from septum.policy.load import load


@click.command(
    epilog="\b\nExamples:\n  septum check\n  septum check examples/shop --format sarif > septum.sarif\n  septum check --explain SEP203"
)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to print findings."
)
@click.option("--explain", "code", metavar="CODE", help="Say what a code means, and stop.")
@click.pass_obj
def command(above: Path | None, directory: Path | None, form: str, code: str | None) -> int:
    """Check septum.yaml and policy/*.yaml of a mesh; exit status 1 when something is wrong."""
    if code is not None:
        return _explain(code.upper())
    mesh = directory or above
    mesh = mesh if mesh is not None and mesh.is_dir() else mesh_dir(mesh)
    files = read_mesh_dir(mesh)
    loaded = load(files)
    if form == "json":
        click.echo(diagnostics.as_json(loaded.diagnostics))
    elif form == "sarif":
        click.echo(diagnostics.as_sarif(loaded.diagnostics))
    else:
        if loaded.diagnostics:
            click.echo(diagnostics.as_text(loaded.diagnostics, files, colour=wants_colour()) + "\n")
        found = diagnostics.count(loaded.diagnostics)
        policy = loaded.policy
        what = (
            f"{len(policy.mesh.workloads)} workloads, {len(policy.rules)} rules, version {policy.version[:12]}: "
            if policy
            else ""
        )
        click.echo(style(what + found, fg="red" if loaded.errors else "green"))
    return 1 if loaded.errors else 0


def _explain(code: str) -> int:
    if code not in CODES:
        raise click.UsageError(f"there is no code {code}; they run from {min(CODES)} to {max(CODES)}")
    title, text = CODES[code]
    click.echo(f"{code}: {title}\n\n{click.wrap_text(text, width=80)}")
    return 0
