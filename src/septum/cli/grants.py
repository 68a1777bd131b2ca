"""`septum grants`: the rules that end: how long they hold, which end soon, which are over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from septum.cli.moment import spoken
from septum.cli.output import console, print_json, style
from septum.cli.place import mesh_dir, state_dir
from septum.cli.valid_policy import valid_policy
from septum.control import api
from septum.model.window import time_text
from septum.policy.grants import described, grants

# Seconds before its end in which a grant is one that is about to end.
SOON = 86400


@click.command(
    epilog="\b\nExamples:\n  septum grants\n  septum grants --json | jq '.grants[] | select(.remaining < 3600)'"
)
@click.option("--json", "as_json", is_flag=True, help="Print the grants as JSON; times are seconds since 1970.")
@click.pass_obj
def command(above: Path | None, as_json: bool) -> int:
    """List the rules that end, as they are enforced; without a control plane, as the files have them.

    `septum grant` makes one, `septum tidy` takes out those that are over.
    """
    mesh, now = mesh_dir(above), time.time()
    enforced = enforced_grants(mesh)
    found = [described(rule) for rule in grants(valid_policy(mesh, "there is nothing to list"))]
    shown = [with_remaining(grant, now) for grant in (found if enforced is None else enforced)]
    if as_json:
        print_json({"of": "files" if enforced is None else "enforced", "grants": shown})
        return 0
    if enforced is None:
        click.echo(style("no control plane answers: these are the grants in the files", fg="yellow"), err=True)
    _print(shown, now)
    return 0


def enforced_grants(mesh: Path) -> list[dict[str, Any]] | None:
    """The grants of the enforced policy; None when no control plane answers that could tell."""
    try:
        answer = api.call(state_dir(mesh), "grants")
    except api.NotRunningError:
        return None
    found: list[dict[str, Any]] | None = answer.get("grants")
    return found


def with_remaining(grant: dict[str, Any], now: float) -> dict[str, Any]:
    """The grant with the seconds that it still has (0: it is over), and how it stands."""
    remaining, begins = max(0.0, grant["until"] - now), grant["from_time"]
    stands = "holds" if remaining else "ended"
    if begins is not None and begins > now:
        stands = "to begin"
    elif 0 < remaining <= SOON:
        stands = "ends soon"
    return {**grant, "remaining": remaining, "stands": stands}


def _print(shown: list[dict[str, Any]], now: float) -> None:
    if not shown:
        click.echo("no rule ends")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("rule", "from", "to", "operations", "until", "", "because"):
        table.add_column(title, no_wrap=title != "because")
    for one in shown:
        style = {"ended": "dim", "ends soon": "yellow"}.get(one["stands"], "")
        until, how = time_text(one["until"]), _how(one, now)
        what = ", ".join(one["operations"])
        table.add_row(one["rule"], one["from"], one["to"], what, until, how, one["because"], style=style)
    console().print(table)


def _how(grant: dict[str, Any], now: float) -> str:
    match grant["stands"]:
        case "ended":
            return f"ended {spoken(now - grant['until'])} ago"
        case "to begin":
            return f"begins in {spoken(grant['from_time'] - now)}"
        case _:
            return f"{spoken(grant['remaining'])} left"
