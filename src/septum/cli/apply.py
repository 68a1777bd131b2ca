"""`septum apply`: the files become what is enforced, and the answer says what the node holds."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from septum.cli import diagnostics
from septum.cli.ask import ask
from septum.cli.output import print_json, refusals, spinner, style, wants_colour
from septum.cli.place import mesh_dir
from septum.control.files import read_mesh_dir

Files = dict[str, bytes | OSError]


@click.command(epilog="\b\nExamples:\n  septum apply\n  septum -C examples/shop apply --json")
@click.option(
    "--wait", "patience", default=5.0, show_default=True, metavar="SECONDS", help="How long to wait until it is held."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(above: Path | None, patience: float, as_json: bool) -> int:
    """Send the mesh's files to its control plane and wait until every node holds them.

    Exit status 0 when they are held, 1 when they were invalid, refused, or only sent.
    """
    mesh = mesh_dir(above)
    files = read_mesh_dir(mesh)
    with spinner("applying"):
        applied = send(mesh, files, patience)
    if as_json:
        print_json(applied)
    else:
        report(applied, files)
    return 0 if applied["outcome"] in ("held", "unchanged") else 1


def send(mesh: Path, files: Files, patience: float = 5.0) -> dict[str, Any]:
    """Ask the mesh's control plane to apply files. Raises ClickException when none runs or it cannot."""
    texts = {path: text.decode("utf-8", "surrogateescape") for path, text in files.items() if isinstance(text, bytes)}
    unreadable = {path: str(e.strerror or e) for path, e in files.items() if isinstance(e, OSError)}
    return ask(
        mesh, "apply", timeout=2 * patience + 60,
        files=texts, unreadable=unreadable, author=getpass.getuser(), patience=patience,
    )  # fmt: skip


def report(applied: dict[str, Any], files: Files) -> None:
    """Say what came of an apply."""
    found = [diagnostics.from_json(value) for value in applied["diagnostics"]]
    if found:
        click.echo(diagnostics.as_text(found, files, colour=wants_colour()) + "\n")
    version = applied["version"][:12]
    match applied["outcome"]:
        case "invalid":
            click.echo(style(f"nothing changed: {diagnostics.count(found)}", fg="red"))
        case "unchanged":
            click.echo(f"version {version} is what is enforced already")
        case "held":
            click.echo(style(f"version {version} is held", fg="green") + f" by {_held(applied)}")
        case "sent":
            click.echo(style(f"version {version} was sent", fg="yellow") + f"; it is held by {_held(applied)}")
            _others(applied["nodes"])
        case "rejected":
            stays = applied["previous"][:12] or "nothing"
            click.echo(style(f"version {version} was refused; {stays} stays enforced", fg="red"))
            _others(applied["nodes"])


def _held(applied: dict[str, Any]) -> str:
    """On how many nodes of how many, how long it took in all, and which node was the last."""
    nodes = applied["nodes"]
    held = [node for node in nodes if node["arrived"] == "held"]
    milliseconds = sum(applied["milliseconds"].values())
    said = f"{len(held)} of {len(nodes)} nodes ({milliseconds:.1f} ms; {_changed(applied['resources_changed'])}"
    if len(held) > 1:
        last = max(held, key=lambda node: node["milliseconds"])
        said += f"; the last was {last['node']}, {last['milliseconds']:.1f} ms after sending"
    return said + ")"


def _others(nodes: list[dict[str, Any]]) -> None:
    """The nodes that do not hold it, and why: of what a node refused, everything."""
    for node in nodes:
        if node["arrived"] != "held":
            why = "; ".join(refusals(node["refusals"])) if node["arrived"] == "refused" else node["why"]
            click.echo(f"  {node['node']}: {node['arrived']}: {why}")


def _changed(resources: list[list[str]]) -> str:
    kinds = [type_url.rpartition(".")[2] for _, type_url, _ in resources]
    counted = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join(counted) + " sent" if counted else "nothing to send"
