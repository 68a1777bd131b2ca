"""`septum shadow`: a candidate is asked beside what is enforced, and what it would decide otherwise is told."""

from __future__ import annotations

import getpass
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from septum.audit.apart import Comparison, compare
from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.cli import diagnostics
from septum.cli.apply import ALLOW_LOCKOUT, DONE, MESSAGE, WAIT, report
from septum.cli.ask import ask
from septum.cli.candidate_text import candidate_line
from septum.cli.comparison_lines import comparison_lines
from septum.cli.moment import MOMENT, span_of
from septum.cli.output import print_json, refusals, spinner, style, wants_colour
from septum.cli.place import is_mesh, mesh_dir, state_dir
from septum.cli.revision import files_at
from septum.control import api
from septum.control.files import read_mesh_dir

Files = dict[str, bytes | OSError]


@click.group(
    epilog="\b\nExamples:\n  septum shadow apply                       the files as they are, beside what is enforced\n"
    "  septum shadow apply --target orders main  one target, by the files of a git revision\n"
    "  septum shadow report --since 1d\n  septum shadow promote -m 'support may refund'",
)
def command() -> None:
    """Ask a second version of the policy about every call, beside the enforced one, and put its answer on record.

    Nothing that it says is carried out.
    """


@command.command("apply")
@click.argument("source", required=False, metavar="[DIR|REV]")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Only calls to NAME. May be repeated.")
@WAIT
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def apply(above: Path | None, source: str | None, targets: tuple[str, ...], patience: float, as_json: bool) -> int:
    """Ask a candidate, in place of the one before.

    It is the files of the mesh as they are, or those of another directory or of a git revision.

    Exit status 0 when every node asks it, 1 when it was invalid, refused, or only sent.
    """
    mesh = mesh_dir(above)
    files = _files(mesh, source)
    with spinner("waiting for every node"):
        applied = _send(mesh, "shadow.apply", patience, targets=list(targets) or None, **_sent(files))
    if as_json:
        print_json(applied)
    else:
        _applied(applied, files, targets)
    return 0 if applied["outcome"] in DONE else 1


@command.command("report", epilog="\b\nExamples:\n  septum shadow report\n  septum shadow report --since 1h --json")
@click.option("--since", type=MOMENT, default=0.0, help="Calls from then on: 10m, 2h, 7d or an ISO date and time.")
@click.option("--version", default="", metavar="DIGEST", help="Another candidate, by how its version begins.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def tell(above: Path | None, since: float, version: str, as_json: bool) -> int:
    """Say what the candidate would decide otherwise.

    Of the calls on record, by who called whom for what: newly denied and newly allowed, each with both rules. Works
    while Septum runs and after; then it is about the candidate that was asked last.

    Exit status 1 when there are differences.
    """
    mesh = mesh_dir(above)
    try:
        compared = compare(state_dir(mesh) / "records" / FILE, since, version or _asked_now(mesh))
    except (StoreUnavailable, WrongVersion) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(asdict(compared) | {"apart": compared.apart, "looks_back": _looks_back(compared)})
    else:
        click.echo("\n".join(comparison_lines(compared, time.time())))
    return 1 if compared.apart else 0


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(above: Path | None, as_json: bool) -> int:
    """Show which candidate is asked.

    About what, since when, and what of its mesh is not asked. Exit status 1 when none is asked.
    """
    candidate = ask(mesh_dir(above), "shadow.show")["candidate"]
    if as_json:
        print_json(candidate)
    elif candidate is None:
        click.echo("no candidate is asked: septum shadow apply")
    else:
        click.echo(candidate_line(candidate, time.time()))
        click.echo(f"{candidate['rules']} rules in {', '.join(candidate['files'])}")
        _left_out(candidate["left_out"])
    return 0 if candidate else 1


@command.command("stop")
@WAIT
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def stop(above: Path | None, patience: float, as_json: bool) -> int:
    """Ask the candidate no more. What it said stays on record."""
    stopped = _send(mesh_dir(above), "shadow.stop", patience)
    if as_json:
        print_json(stopped)
    else:
        click.echo(f"the candidate {stopped['version'][:12]} is not asked any more")
        _others(stopped)
    return 0 if stopped["outcome"] in DONE else 1


@command.command("promote")
@MESSAGE
@click.option("--confirm", metavar="TIME", help="Go back by itself after TIME (5m), unless `septum confirm` follows.")
@click.option("--supersede", is_flag=True, help="Take the place of a version that awaits its confirmation.")
@ALLOW_LOCKOUT
@click.option("--force", is_flag=True, help="Also if something else is enforced by now than when it was proposed.")
@WAIT
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def promote(
    above: Path | None,
    message: str,
    confirm: str | None,
    supersede: bool,
    allow_lockout: bool,
    force: bool,
    patience: float,
    as_json: bool,
) -> int:
    """Make the candidate what is enforced.

    That is all of its files, for every target, also if it was asked about some, applied as `septum apply` would. Then
    it is asked no more. Exit status as that of `septum apply`.
    """
    trial = None if confirm is None else span_of(confirm)
    with spinner("applying"):
        applied = _send(
            mesh_dir(above), "shadow.promote", patience,
            message=message, confirm=trial, supersede=supersede, allow_lockout=allow_lockout, force=force,
        )  # fmt: skip
    if as_json:
        print_json(applied)
    else:
        report(applied, {})
    return 0 if applied["outcome"] in DONE else 1


def _files(mesh: Path, source: str | None) -> Files:
    if source is None:
        return read_mesh_dir(mesh)
    directory = Path(source)
    return read_mesh_dir(directory) if is_mesh(directory) else files_at(mesh, source)


def _sent(files: Files) -> dict[str, Any]:
    """Files as a request carries them."""
    texts = {path: text.decode("utf-8", "surrogateescape") for path, text in files.items() if isinstance(text, bytes)}
    unreadable = {path: str(e.strerror or e) for path, e in files.items() if isinstance(e, OSError)}
    return {"files": texts, "unreadable": unreadable}


def _send(mesh: Path, op: str, patience: float, **arguments: Any) -> dict[str, Any]:
    return ask(mesh, op, timeout=2 * patience + 60, author=getpass.getuser(), patience=patience, **arguments)


def _applied(applied: dict[str, Any], files: Files, targets: tuple[str, ...]) -> None:
    found = [diagnostics.from_json(value) for value in applied["diagnostics"]]
    if found:
        click.echo(diagnostics.as_text(found, files, colour=wants_colour()) + "\n")
    name, about = f"candidate {applied['version'][:12]}", ", ".join(targets) or "all targets"
    match applied["outcome"]:
        case "invalid":
            click.echo(style(f"nothing changed: {diagnostics.count(found)}", fg="red"))
        case "rejected":
            click.echo(style(f"{name} was refused; what was asked before still is", fg="red"))
        case "sent":
            click.echo(style(f"{name} was sent", fg="yellow") + f"; some node does not ask it yet about {about}")
        case _:
            click.echo(style(f"{name} is asked", fg="green") + f" about {about}, by every node")
    _others(applied)
    _left_out(applied["left_out"])


def _others(applied: dict[str, Any]) -> None:
    """The nodes that do not hold it, and why."""
    for node in applied["nodes"]:
        if node["arrived"] != "held":
            why = "; ".join(refusals(node["refusals"])) if node["arrived"] == "refused" else node["why"]
            click.echo(f"  {node['node']}: {node['arrived']}: {why}")


def _left_out(sentences: list[str]) -> None:
    if sentences:
        click.echo(style("of its mesh:", fg="yellow"))
    for sentence in sentences:
        click.echo(f"  {sentence}")


def _asked_now(mesh: Path) -> str:
    """The version of the candidate that is asked now; nothing without one, or without a control plane to say so."""
    try:
        candidate = api.call(state_dir(mesh), "shadow.show").get("candidate")
    except api.NotRunningError:
        return ""
    return str(candidate["version"]) if candidate else ""


def _looks_back(compared: Comparison) -> float | None:
    """Seconds from the first call about which it was asked to now."""
    return None if compared.first is None else time.time() - compared.first
