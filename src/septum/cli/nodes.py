"""`septum nodes`: the nodes of a mesh: who is there, join tokens, drain, remove."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from septum.cli.ask import ask
from septum.cli.moment import span_of
from septum.cli.node_table import node_table
from septum.cli.output import console, print_json, spinner, style
from septum.cli.place import mesh_dir


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  septum nodes\n  septum nodes token web-1 > web-1.token\n"
    "  septum nodes drain web-1\n  septum nodes remove web-1",
)
@click.option("--json", "as_json", is_flag=True, help="Print the nodes as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> int:
    """List the nodes of the mesh, or change who belongs to it.

    Exit status of the list: 1 when a node does not hold what it should.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    nodes = ask(mesh_dir(ctx.obj), "status")["nodes"]
    if as_json:
        print_json(nodes)
    else:
        console().print(node_table(nodes, time.time()))
    return 0 if all(node["held"] for node in nodes if node["standing"] != "removed") else 1


@command.command("token")
@click.argument("node")
@click.option(
    "--workloads", metavar="NAME,…", help="The workloads the node may front; those the mesh puts on it otherwise."
)
@click.option("--for", "lifetime", default="1h", show_default=True, metavar="TIME", help="How long it can be used.")
@click.option("--json", "as_json", is_flag=True, help="Print the token and what it is for as JSON.")
@click.pass_obj
def token(above: Path | None, node: str, workloads: str | None, lifetime: str, as_json: bool) -> int:
    """Print a token with which NODE may join, once. An unused token of the same node is void from then on.

    The token goes to standard output, what to do with it to standard error.
    """
    chosen = None if workloads is None else [name.strip() for name in workloads.split(",") if name.strip()]
    made = ask(mesh_dir(above), "token", node=node, workloads=chosen, lifetime=span_of(lifetime))
    if as_json:
        print_json(made)
        return 0
    click.echo(made["token"])
    fronts = ", ".join(made["workloads"]) or "no workload yet"
    where = made["listen"] or "HOST:PORT"
    click.echo(f"for {node} ({fronts}), once, within {lifetime}. On that host:", err=True)
    click.echo(f"  septum node --control {where} --join TOKEN", err=True)
    if not made["listen"]:
        click.echo(
            style("the control plane takes no calls from other hosts: start it with --listen", fg="yellow"), err=True
        )
    return 0


@command.command("drain")
@click.argument("node")
@click.option("--wait", "patience", default=30.0, show_default=True, metavar="SECONDS", help="How long to wait for it.")
@click.option("--undo", is_flag=True, help="Take the node back into service.")
@click.pass_obj
def drain(above: Path | None, node: str, patience: float, undo: bool) -> int:
    """Let NODE finish what it is doing and take nothing new; it stays a member."""
    with spinner("draining"):
        done = ask(mesh_dir(above), "drain", timeout=patience + 30, node=node, drain=not undo, patience=patience)
    if undo:
        click.echo(f"{node} is back in service")
        return 0
    if done["drained"]:
        click.echo(style(f"{node} is drained", fg="green") + ": no connection is left")
        return 0
    click.echo(style(f"{node} is draining", fg="yellow") + f": {done['connections']} connections are left")
    return 1


@command.command("remove")
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(above: Path | None, node: str, yes: bool) -> int:
    """Take NODE out of the mesh: its certificates are refused from now on, everywhere, and its live calls end.

    Exit status 1 when some node does not hold the refusal yet.
    """
    if not yes and not click.confirm(f"remove {node}, with the workloads it fronts?", err=True):
        return 1
    with spinner("removing"):
        done = ask(mesh_dir(above), "remove", timeout=60, node=node)
    applied: dict[str, Any] = done["applied"]
    missing = [arrival["node"] for arrival in applied["nodes"] if arrival["arrived"] != "held"]
    click.echo(f"{node} is removed; {done['revoked']} certificates are refused")
    for name in missing:
        click.echo(style(f"  {name} does not know that yet", fg="red"))
    return 1 if missing else 0
