"""`septum confirm`: the version that was applied on trial stays."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from septum.cli.ask import ask
from septum.cli.output import print_json, style
from septum.cli.place import mesh_dir


@click.command(
    epilog="\b\nExamples:\n  septum apply --confirm 5m && ./smoke-test && septum confirm\n  septum confirm 3f2a910c"
)
@click.argument("version", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(above: Path | None, version: str, as_json: bool) -> int:
    """Let the enforced version stay, which would go back by itself; with VERSION only if it is that one.

    Exit status 1 when none awaits its confirmation: it may have gone back already, and `septum history` says why.
    """
    confirmed = ask(mesh_dir(above), "confirm", version=version, author=getpass.getuser())
    if as_json:
        print_json(confirmed)
    else:
        click.echo(style(f"version {confirmed['version'][:12]} stays", fg="green"))
    return 0
