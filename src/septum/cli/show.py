"""`septum show`: one stored version, with its files."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import click

from septum.cli.diagnostics import visible
from septum.cli.output import print_json, style
from septum.cli.place import mesh_dir
from septum.cli.version_text import as_json, ended, signature, versions_of, when
from septum.control.signing import Standing, Verdict
from septum.control.state import Version
from septum.control.versions import ENFORCED, Entry


@click.command(
    epilog="\b\nExamples:\n  septum show\n  septum show previous --files\n  septum show 17 --file policy/orders.yaml\n"
    "  septum show 3f2a910c --verify"
)
@click.argument("ref", metavar="[VERSION]", required=False, default=ENFORCED)
@click.option("--files", "whole", is_flag=True, help="Print what each file holds.")
@click.option("--file", "name", metavar="NAME", help="Print one file, as it is, and nothing else.")
@click.option("--verify", is_flag=True, help="Exit with 1 also when the version is not signed.")
@click.option("--json", "wants_json", is_flag=True, help="Print everything as JSON, the files' contents with --files.")
@click.pass_obj
def command(above: Path | None, ref: str, whole: bool, name: str | None, verify: bool, wants_json: bool) -> int:
    """Show VERSION: `enforced` (also without one), `previous`, a number of `septum history`, or how a version begins.

    Exit status 1 when it is not what was stored.
    """
    with versions_of(mesh_dir(above)) as (versions, signatures):
        version = versions.find(ref)
        if version is None:
            raise click.ClickException(f"no version is called `{ref}`: `septum history` lists them")
        entry, verdict = versions.entry(version), signatures.verdict(version)
    if name is not None:
        _print_file(version, name)
    elif wants_json:
        contents = {path: content.decode() for path, content in version.files.items()}
        print_json(as_json(entry, verdict) | ({"contents": contents} if whole else {}))
    else:
        _show(entry, verdict, whole)
    good = (Standing.GOOD,) if verify else (Standing.GOOD, Standing.UNSIGNED)
    return 0 if verdict.standing in good else 1


def _print_file(version: Version, name: str) -> None:
    if name not in version.files:
        raise click.UsageError(f"version {version.number} has no file `{name}`; it has {', '.join(version.files)}")
    click.echo(version.files[name].decode(), nl=False)


def _show(entry: Entry, verdict: Verdict, whole: bool) -> None:
    version = entry.version
    key = f" (key {verdict.signer})" if verdict.signer else ""
    lines = {
        "version": style(version.digest, bold=True),
        "number": str(version.number),
        "applied": f"{when(version.applied)} by {visible(version.author)}",
        "state": ended(entry, time.time()),
        "because": visible(version.message),
        "commit": visible(version.commit),
        "before": version.previous,
        "back to": str(version.restores or ""),
        "in quarantine": ", ".join(sorted(version.quarantined)),
        "signature": signature(verdict) + key + (f": {verdict.why}" if verdict.why else ""),
    }
    for title, text in lines.items():
        if text:
            click.echo(f"{title:<14}{text}")
    for path, content in sorted(version.files.items()):
        click.echo(f"{'file':<14}{path}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()[:16]}")
    for path, content in sorted(version.files.items()) if whole else ():
        click.echo(f"\n{style(path, bold=True)}\n{content.decode()}")
