"""`septum plan`: what the files would change, before anything is applied."""

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
from septum.control.versions import ENFORCED
from septum.plan.sealed import to_json


@click.command(
    epilog="\b\nExamples:\n  septum plan\n  septum plan --out plan.json && septum apply plan.json\n"
    "  septum plan --against origin/main --fail-on widen --format markdown\n"
    "  septum plan --since 30d --fail-on replay-deny\n\n"
    "REF is `enforced`, `previous`, a number or digest of `septum history`, a directory, or a git revision.\n\n"
    "Exit status 0, whatever changes; 1 when the policy has errors, a guarantee is broken, or by --fail-on; 2 when "
    "there is nothing to compare with."
)
@click.option("--against", default=ENFORCED, metavar="REF", show_default=True, help="What the files are compared with.")
@click.option("--since", default="7d", metavar="TIME", show_default=True, help="How far back requests are replayed.")
@RECORDS
@FORM
@AS_JSON
@ALL
@FAIL_ON
@EXIT_CODE
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan, for `septum apply`.")
@click.option("-m", "--message", default="", help="Why; kept with the plan and the version.")
@click.pass_obj
def command(
    above: Path | None,
    against: str,
    since: str,
    records: Path | None,
    form: str | None,
    everything: bool,
    fatal: tuple[str, ...],
    exit_code: bool,
    out: Path | None,
    message: str,
) -> int:
    """Show what the files change: what is newly allowed and denied, exactly, and which recorded requests would be.

    Each row is one pattern of one rule, with a request that is decided differently. Rows are all there is: where none
    is shown, nothing is decided otherwise.
    """
    mesh, form = mesh_dir(above), form or "text"
    wanted = tree_of(HERE, mesh)
    back = time.time() - span_of(since)
    asked = Asked(tree_of(against, mesh), wanted, back, records or record_file(mesh), message)
    plan, loaded = planned(asked)
    if plan is None:
        return show_errors(loaded, wanted, form)
    if out is not None:
        out.write_text(to_json(plan), encoding="utf-8")
    return show(plan, wanted, Shown(form, everything, (*fatal, *(("change",) if exit_code else ())), steps=True))
