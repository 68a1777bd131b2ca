"""`septum quarantine`: all allows of a workload taken away, at once."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Any

import click

from septum.cli.ask import ask
from septum.cli.moment import span_of, until
from septum.cli.output import print_json, spinner, style
from septum.cli.place import mesh_dir


@click.command(
    epilog="\b\nExamples:\n  septum quarantine orders\n  septum quarantine orders --for 2h\n"
    "  septum quarantine orders --release\n  septum quarantine"
)
@click.argument("workload", required=False)
@click.option("--for", "lasts", metavar="TIME", help="End it by itself after TIME, such as 30m or 2h.")
@click.option("--release", is_flag=True, help="End it now.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(above: Path | None, workload: str | None, lasts: str | None, release: bool, as_json: bool) -> int:
    """Take away everything that WORKLOAD may do and everything that may be done to it, whatever the policy says.

    New calls are denied at once and live ones end within seconds, also where its segment is only observed. Without
    WORKLOAD: who is in quarantine. Exit status 1 when some node does not hold it yet.
    """
    mesh = mesh_dir(above)
    if workload is None and (release or lasts):
        raise click.UsageError("name the workload: septum quarantine WORKLOAD")
    if workload is None:
        return _list(ask(mesh, "quarantined")["quarantined"], as_json)
    if release and lasts:
        raise click.UsageError("--for and --release do not go together")
    with spinner("waiting for every node"):
        done = ask(
            mesh, "quarantine", timeout=60, workload=workload, release=release,
            lasts=None if lasts is None else span_of(lasts), author=getpass.getuser(),
        )  # fmt: skip
    if as_json:
        print_json(done)
    else:
        _report(workload, release, lasts, done["applied"])
    return 0 if done["applied"]["outcome"] in ("held", "unchanged") else 1


def _report(workload: str, release: bool, lasts: str | None, applied: dict[str, Any]) -> None:
    what = "released" if release else f"in quarantine{f' for {lasts}' if lasts else ''}"
    nodes = applied["nodes"]
    held = [node for node in nodes if node["arrived"] == "held"]
    slowest = max((node["milliseconds"] for node in held), default=0.0)
    click.echo(f"{workload} is {what}: held by {len(held)} of {len(nodes)} nodes after {slowest:.1f} ms")
    for node in nodes:
        if node["arrived"] != "held":
            click.echo(style(f"  {node['node']}: {node['arrived']}: {node['why']}", fg="red"))


def _list(entries: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        print_json(entries)
    elif not entries:
        click.echo("nobody is in quarantine")
    for entry in entries if not as_json else ():
        end = "until it is released" if entry["until"] is None else f"for {until(entry['until'], time.time())} more"
        click.echo(f"{style(entry['workload'], fg='red')}  {end}  by {entry['author']}")
    return 0
