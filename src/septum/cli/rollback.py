"""`septum rollback`: an earlier version becomes the enforced one again."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from septum.cli.apply import ALLOW_LOCKOUT, DONE, MESSAGE, WAIT, report
from septum.cli.ask import ask
from septum.cli.output import print_json, spinner
from septum.cli.place import mesh_dir


@click.command(
    epilog="\b\nExamples:\n  septum rollback\n  septum rollback 17 -m 'refunds do not work'\n  septum rollback 3f2a910c"
)
@click.argument("version", required=False, default="")
@MESSAGE
@ALLOW_LOCKOUT
@WAIT
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(above: Path | None, version: str, message: str, allow_lockout: bool, patience: float, as_json: bool) -> int:
    """Enforce the files of VERSION again: a number of `septum history`, or the beginning of a version.

    Without VERSION, of the one before the enforced one that says something else and was not rolled back itself. The
    files of the mesh's directory stay as they are, and so does who is in quarantine.

    Exit status 0 when it is held, 1 when it was refused, or only sent.
    """
    mesh = mesh_dir(above)
    with spinner("rolling back"):
        applied = ask(
            mesh, "rollback", timeout=2 * patience + 60,
            version=version, author=getpass.getuser(), message=message, allow_lockout=allow_lockout, patience=patience,
        )  # fmt: skip
    if as_json:
        print_json(applied)
    else:
        click.echo(f"back to version {applied['restored']}")
        report(applied, {})
    return 0 if applied["outcome"] in DONE else 1
