"""`septum status`: what each node was sent, holds and refused; the workloads; the records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from septum.cli.ask import ask
from septum.cli.output import console, print_json, refusals, style
from septum.cli.place import mesh_dir
from septum.control.files import read_mesh_dir
from septum.policy.load import load


@click.command(epilog="\b\nExamples:\n  septum status\n  septum status --json | jq .nodes")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def command(above: Path | None, as_json: bool) -> int:
    """Show the enforced version, what each node holds, where each workload calls from, and the state of the records.

    Exit status 1 when a node holds something else than what is enforced, or records were lost.
    """
    mesh = mesh_dir(above)
    status = ask(mesh, "status")
    policy = load(read_mesh_dir(mesh)).policy
    status["files"] = (
        "invalid" if policy is None else "enforced" if policy.version == status["version"] else "not applied"
    )
    if as_json:
        print_json(status)
    else:
        _show(status)
    records = status["records"]
    well = all(_holds(node) for node in status["nodes"]) and not records.get("lost") and not records.get("stalled")
    return 0 if well else 1


def _holds(node: dict[str, Any]) -> bool:
    return node["held_version"] is not None and node["held_version"] == node["desired_version"]


def _show(status: dict[str, Any]) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["applied"])) if status["applied"] else "never"
    mesh, version = style(status["mesh"], bold=True), status["version"][:12]
    click.echo(f"mesh {mesh}  version {version}  applied {when} by {status['author']}")
    notes = {"invalid": "have errors: septum check", "not applied": "differ from what is enforced: septum apply"}
    if status["files"] in notes:
        click.echo(style(f"the files {notes[status['files']]}", fg="yellow"))
    click.echo()
    for node in status["nodes"]:
        _node(node)
    click.echo()
    _workloads(status["workloads"])
    _records(status["records"])


def _node(node: dict[str, Any]) -> None:
    if node["rejected"]:
        click.echo(f"node {node['node']}  " + style("refused", fg="red"))
        click.echo("\n".join(refusals(node["rejected"])))
    elif _holds(node):
        click.echo(f"node {node['node']}  " + style("held", fg="green") + f"  {node['resources']} resources")
    else:
        why = f"{node['resources'] - node['held']} resources not acknowledged" if node["connected"] else "not connected"
        click.echo(f"node {node['node']}  " + style("not held", fg="yellow") + f"  {why}")


def _workloads(workloads: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("workload", "segment", "mode", "speaks", "at", "calls from"):
        table.add_column(title, no_wrap=True)
    for w in workloads:
        table.add_row(w["name"], w["segment"], w["mode"], w["protocol"], w["at"], w["outbound"])
        for target, address in w["dials"].items():
            table.add_row("", "", "", "", f"{target} at", address)
    console().print(table)


def _records(records: dict[str, Any]) -> None:
    if not records:
        return
    click.echo(f"\nrecords  {records.get('ingested', 0)} kept")
    if records.get("lost"):
        click.echo(style(f"  {records['lost']} decisions were made and could not be written", fg="red"))
    if records.get("stalled"):
        click.echo(style(f"  not written since: {records['stalled']}", fg="red"))
    if records.get("unreadable"):
        click.echo(style(f"  {records['unreadable']} lines could not be read; they are kept as they were", fg="yellow"))
    if records.get("disagreements"):
        click.echo(style(f"  {records['disagreements']} times the proxy and the policy disagreed", fg="red"))
