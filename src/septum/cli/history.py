"""`septum history`: the versions that were applied, by whom and why, and what became of them."""

from __future__ import annotations

import time
from pathlib import Path

import click

from septum.cli.diagnostics import visible
from septum.cli.output import console, print_json
from septum.cli.place import mesh_dir
from septum.cli.version_text import as_json, ended, signature, versions_of, when
from septum.control.signing import Signatures, Standing, Verdict
from septum.control.versions import Entry


@click.command(epilog="\b\nExamples:\n  septum history\n  septum history -n 5 --json\n  septum history --keys")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(1), help="How many, newest first.")
@click.option("--keys", is_flag=True, help="Show the keys that versions are and were signed with, and stop.")
@click.option("--json", "wants_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def command(above: Path | None, count: int, keys: bool, wants_json: bool) -> int:
    """List the stored versions, newest first. It reads the state itself, whether a control plane runs or not.

    Exit status 1 when one of them is not what was stored: its signature is BAD, and it is never enforced again.
    """
    with versions_of(mesh_dir(above)) as (versions, signatures):
        if keys:
            return _keys(signatures, wants_json)
        entries = [(entry, signatures.verdict(entry.version)) for entry in versions.history(count)]
    if wants_json:
        print_json([as_json(entry, verdict) for entry, verdict in entries])
    else:
        _show(entries)
    return 1 if any(verdict.standing is Standing.BAD for _, verdict in entries) else 0


def _show(entries: list[tuple[Entry, Verdict]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table, now = Table(box=None, pad_edge=False, header_style="dim"), time.time()
    table.add_column("", justify="right", no_wrap=True)
    for title in ("version", "applied", "by", "signed"):
        table.add_column(title, no_wrap=True)
    table.add_column("what became of it")
    for entry, verdict in entries:
        version = entry.version
        row = (
            str(version.number),
            version.digest[:12],
            when(version.applied),
            visible(version.author),
            signature(verdict),
        )
        table.add_row(*(Text.from_ansi(cell) for cell in (*row, ended(entry, now))))
        if about := _about(entry, verdict):
            table.add_row("", "", "", "", "", Text(about, style="dim"))
    console().print(table)


def _about(entry: Entry, verdict: Verdict) -> str:
    """Why a version was made, and from what; with why its signature is bad, if it is."""
    version = entry.version
    back = "" if version.restores is None else f"back to version {version.restores}"
    commit = f"commit {version.commit[:12]}{'-dirty' if version.commit.endswith('-dirty') else ''}"
    return visible("; ".join(filter(None, (verdict.why, back, version.message, commit if version.commit else ""))))


def _keys(signatures: Signatures, wants_json: bool) -> int:
    known = signatures.keys()
    if wants_json:
        print_json([{"key": key.fingerprint, "path": str(key.path), "current": key.current} for key in known])
    for key in known if not wants_json else ():
        click.echo(f"{key.fingerprint}  {'signs now' if key.current else 'signed before'}  {key.path}")
    return 0
