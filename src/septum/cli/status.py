"""`septum status`: what each node was sent, holds and refused; the workloads; the records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from septum.cli.ask import ask
from septum.cli.candidate_text import candidate_line
from septum.cli.grants import enforced_grants, with_remaining
from septum.cli.moment import ago, spoken
from septum.cli.node_table import node_table
from septum.cli.output import console, print_json, style
from septum.cli.place import mesh_dir
from septum.control.files import read_mesh_dir
from septum.model.policy import Policy
from septum.policy.load import load
from septum.policy.quarantine import quarantined


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
    status["files"] = _files(policy, status)
    status["grants"] = [with_remaining(grant, time.time()) for grant in enforced_grants(mesh) or ()]
    if as_json:
        print_json(status)
    else:
        _show(status)
    records = status["records"]
    well = (
        not status.get("unused")
        and all(map(_well, status["nodes"]))
        and not records.get("lost")
        and not records.get("stalled")
    )
    return 0 if well else 1


def _files(policy: Policy | None, status: dict[str, Any]) -> str:
    """Whether the files in the directory are what is enforced, quarantine aside."""
    if policy is None:
        return "invalid"
    same = quarantined(policy, status["quarantined"]).version == status["version"]
    return "enforced" if same else "not applied"


def _well(node: dict[str, Any]) -> bool:
    """Whether a node is as it should be; what was removed or is drained may hold what it likes."""
    return bool(node["held"]) or node["standing"] in ("removed", "draining")


def _show(status: dict[str, Any]) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["applied"])) if status["applied"] else "never"
    mesh, version = style(status["mesh"], bold=True), status["version"][:12]
    if status.get("unused"):
        click.echo(style(f"the nodes keep what they hold: {status['unused']}: septum history, septum apply", fg="red"))
    else:
        click.echo(f"mesh {mesh}  version {version}  applied {when} by {status['author']}")
    notes = {"invalid": "have errors: septum check", "not applied": "differ from what is enforced: septum apply"}
    if status["files"] in notes:
        click.echo(style(f"the files {notes[status['files']]}", fg="yellow"))
    _on_trial(status)
    if candidate := status.get("candidate"):
        click.echo(candidate_line(candidate, time.time()))
    if status["quarantined"]:
        click.echo(style(f"in quarantine: {', '.join(status['quarantined'])}", fg="red"))
    _grants(status["grants"])
    click.echo()
    console().print(node_table(status["nodes"], time.time()))
    click.echo()
    _workloads(status["workloads"])
    _records(status["records"])


def _on_trial(status: dict[str, Any]) -> None:
    """The version that goes back by itself unless it is confirmed, or the one that did."""
    if trial := status.get("provisional"):
        left = f"goes back to version {trial['falls_back']} in {trial['seconds_left']:.0f} s"
        click.echo(style(f"version {trial['number']} {left}: `septum confirm` lets it stay", fg="yellow"))
        if trial["trouble"]:
            click.echo(style(f"  {trial['trouble']}", fg="red"))
    if back := status.get("rolled_back"):
        when = ago(back["at"], time.time())
        click.echo(style(f"version {back['from'][:12]} was rolled back by itself {when}: {back['why']}", fg="red"))


def _grants(grants: list[dict[str, Any]]) -> None:
    """Those that end within a day, and those that are over and still stand there."""
    for grant in (grant for grant in grants if grant["stands"] == "ends soon"):
        left = f"{spoken(grant['remaining'])} left"
        click.echo(style(f"grant {grant['rule']} ends soon: {grant['from']} -> {grant['to']}, {left}", fg="yellow"))
    over = [grant["rule"] for grant in grants if grant["stands"] == "ended"]
    if over:
        what = f"the grant {over[0]} has" if len(over) == 1 else f"{len(over)} grants have"
        click.echo(f"{what} ended: `septum tidy` takes out what is over")


def _workloads(workloads: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    nodes = any(w["node"] for w in workloads)
    for title in ("workload", "segment", "mode", "speaks", *(["node"] if nodes else []), "at", "calls from"):
        table.add_column(title, no_wrap=True)
    for w in workloads:
        on = [w["node"]] if nodes else []
        table.add_row(w["name"], w["segment"], w["mode"], w["protocol"], *on, w["at"], w["outbound"])
        for target, address in w["dials"].items():
            table.add_row("", "", "", "", *([""] if nodes else []), f"{target} at", address)
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
