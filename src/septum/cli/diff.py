"""`septum diff`: what changes from one version, revision or directory to another."""

from __future__ import annotations

import time
from pathlib import Path

import click

from septum.cli.moment import span_of
from septum.cli.place import mesh_dir
from septum.cli.planning import (
    ALL,
    AS_JSON,
    EXIT_CODE,
    FAIL_ON,
    FORM,
    RECORDS,
    Asked,
    Shown,
    planned,
    record_file,
    show,
    show_errors,
)
from septum.cli.trees import HERE, tree_of


@click.command(
    epilog="\b\nExamples:\n  septum diff HEAD\n  septum diff v1.4 v1.5\n  septum diff previous enforced\n"
    "  septum diff 12 . --format markdown\n\n"
    "A and B are `enforced`, `previous`, a number or digest of `septum history`, a directory, a git revision, or `.` "
    "for the files as they are. `version:`, `dir:` and `git:` before one say which it is.\n\n"
    "Exit status 0, whatever changes; 1 when B has errors, breaks a guarantee, or by --fail-on; 2 when there is "
    "nothing to compare with."
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False, default=HERE)
@click.option("--since", metavar="TIME", help="Replay requests on record from then on too, such as 7d.")
@RECORDS
@FORM
@AS_JSON
@ALL
@FAIL_ON
@EXIT_CODE
@click.pass_obj
def command(
    above: Path | None,
    a: str,
    b: str,
    since: str | None,
    records: Path | None,
    form: str | None,
    everything: bool,
    fatal: tuple[str, ...],
    exit_code: bool,
) -> int:
    """Show what changes from A to B (the files as they are, if it is not given), as `septum plan` does."""
    mesh, form = mesh_dir(above), form or "text"
    wanted = tree_of(b, mesh)
    replaying = since is not None or records is not None or "replay-deny" in fatal
    back = time.time() - span_of(since or "7d") if replaying else None
    plan, loaded = planned(Asked(tree_of(a, mesh), wanted, back, records or record_file(mesh)))
    if plan is None:
        return show_errors(loaded, wanted, form)
    return show(plan, wanted, Shown(form, everything, (*fatal, *(("change",) if exit_code else ()))))
