"""`septum apply`: the files, or a plan, become what is enforced, and the answer says what the nodes hold."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

import click

from septum.cli import diagnostics
from septum.cli.ask import ask
from septum.cli.commit import commit_of
from septum.cli.moment import ago, span_of, spoken
from septum.cli.output import print_json, refusals, spinner, style, wants_colour
from septum.cli.place import mesh_dir
from septum.control.files import read_mesh_dir
from septum.control.versions import ENFORCED

Files = dict[str, bytes | OSError]
# So many of each list are shown before somebody is asked; `septum plan` shows more.
_SHOWN = 8
# The exit status says what came of it: only these are as they were asked for.
DONE = ("held", "unchanged")

WAIT = click.option(
    "--wait", "patience", default=5.0, show_default=True, metavar="SECONDS", help="How long to wait until it is held."
)
MESSAGE = click.option("-m", "--message", default="", help="Why; kept with the version.")
ALLOW_LOCKOUT = click.option(
    "--allow-lockout", is_flag=True, help="Also if what probes health or reads metrics is denied by it."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be enforced: files, the commit they are of, and against which version they were planned, if any."""

    files: Files
    commit: str = ""
    base: str | None = None
    message: str = ""


@click.command(
    epilog="\b\nExamples:\n  septum apply -m 'refunds for support'\n  septum apply --confirm 5m && septum confirm\n"
    "  septum apply plan.json\n  septum -C examples/shop apply --json\n\n"
    "With --confirm the version goes back by itself when the time is over; or before, when a caller and a target that "
    "had 5 allowed requests in the 15 minutes before have 5 denied since, and the share of what is denied has grown by "
    "more than 20 %; or when the health check of a workload fails that passed before. `septum history` says why.\n\n"
    "Refused unless --allow-lockout: what would deny a request for health or metrics that was allowed in the last 24 "
    "hours."
)
@click.argument("plan", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@MESSAGE
@click.option("--confirm", metavar="TIME", help="Go back by itself after TIME (5m), unless `septum confirm` follows.")
@click.option("--supersede", is_flag=True, help="Take the place of a version that awaits its confirmation.")
@ALLOW_LOCKOUT
@click.option("--yes", is_flag=True, help="Do not ask, on a terminal, before it is applied.")
@WAIT
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    above: Path | None,
    plan: Path | None,
    message: str,
    confirm: str | None,
    supersede: bool,
    allow_lockout: bool,
    yes: bool,
    patience: float,
    as_json: bool,
) -> int:
    """Send the mesh's files, or those of PLAN, to its control plane and wait until every node holds them.

    A plan is applied only if what it was made against is still enforced.

    Exit status 0 when they are held, 1 when they were invalid, refused, or only sent.
    """
    mesh = mesh_dir(above)
    trial = None if confirm is None else span_of(confirm)
    wanted = planned(plan) if plan else Wanted(read_mesh_dir(mesh), commit_of(mesh))
    # A plan was looked at: that is what it is for.
    agreed = _agreed(mesh, wanted) if not (plan or yes or as_json) and _interactive() else wanted
    if agreed is None:
        return 1
    with spinner("applying"):
        applied = send(
            mesh, agreed.files, patience, message=message or agreed.message, commit=agreed.commit, base=agreed.base,
            confirm=trial, supersede=supersede, allow_lockout=allow_lockout,
        )  # fmt: skip
    if as_json:
        print_json(applied)
    else:
        report(applied, wanted.files)
    return 0 if applied["outcome"] in DONE else 1


def planned(path: Path) -> Wanted:
    """What a plan says should be enforced, stage by stage. Raises ClickException for one that cannot be applied."""
    from septum.plan.sealed import PlanError, from_json
    from septum.plan.stages import Enforce, Expect, Hold, Keep, stages

    try:
        plan = from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, PlanError) as error:
        raise click.ClickException(f"{path}: {error}") from error
    wanted = Wanted(_contents(plan.files), plan.commit, plan.base.version, plan.message)
    for stage in stages(plan):
        match stage:
            case Expect(version):
                wanted = replace(wanted, base=version)
            case Keep(_, broken):
                if broken:
                    raise click.ClickException(f"{path}: the policy would break {', '.join(broken)}; nothing changed")
            case Enforce(_, files, _, message, commit):
                wanted = replace(wanted, files=_contents(files), message=message, commit=commit)
            case Hold():
                pass  # the answer says on which nodes it is held
            case _:
                assert_never(stage)
    return wanted


def _contents(files: Mapping[str, str]) -> Files:
    return {path: text.encode("utf-8") for path, text in files.items()}


def _interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _agreed(mesh: Path, wanted: Wanted) -> Wanted | None:
    """Show what would change, and ask. What was shown is what is applied, and only to what it was shown against.

    Files with errors, and those that change nothing, need no question: the control plane says so.
    """
    from septum.cli import planning
    from septum.cli.plan_text import plan_lines
    from septum.cli.trees import NothingToCompareError, Tree, tree_of

    try:
        enforced = tree_of(ENFORCED, mesh)
        plan, _ = planning.planned(planning.Asked(enforced, Tree("the files", wanted.files, commit=wanted.commit)))
    except NothingToCompareError as error:
        click.echo(f"what changes cannot be told: {error.message}")
        return wanted if click.confirm("apply it?") else None
    if plan is None or plan.changes_nothing:
        return wanted
    for line in plan_lines(plan, time.time(), _SHOWN):
        click.echo(line)
    return replace(wanted, base=plan.base.version) if click.confirm("\napply it?") else None


def send(mesh: Path, files: Files, patience: float = 5.0, **terms: Any) -> dict[str, Any]:
    """Ask the mesh's control plane to apply files. `terms` are those of its `apply`.

    Raises ClickException when none runs or it cannot.
    """
    texts = {path: text.decode("utf-8", "surrogateescape") for path, text in files.items() if isinstance(text, bytes)}
    unreadable = {path: str(e.strerror or e) for path, e in files.items() if isinstance(e, OSError)}
    return ask(
        mesh, "apply", timeout=2 * patience + 60,
        files=texts, unreadable=unreadable, author=getpass.getuser(), patience=patience, **terms,
    )  # fmt: skip


def report(applied: dict[str, Any], files: diagnostics.Sources) -> None:
    """Say what came of an apply."""
    found = [diagnostics.from_json(value) for value in applied["diagnostics"]]
    if found:
        click.echo(diagnostics.as_text(found, files, colour=wants_colour()) + "\n")
    version, stays = applied["version"][:12], applied["previous"][:12] or "nothing"
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
            click.echo(style(f"version {version} was refused; {stays} stays enforced", fg="red"))
            _others(applied["nodes"])
        case "moved" if not applied["previous"]:
            click.echo(style("nothing changed: nothing is enforced now, and `septum status` says why", fg="red"))
            click.echo("  `septum apply --yes` applies the files whatever was enforced before")
        case "moved":
            click.echo(style(f"nothing changed: version {stays} is enforced by now", fg="red"))
            click.echo("  the plan was made against another one: plan again, and look at it again")
        case "awaits":
            click.echo(style(f"nothing changed: version {stays} awaits its confirmation", fg="red"))
            click.echo("  `septum confirm` lets it stay, `septum rollback` takes it back, --supersede replaces it")
        case "lockout":
            click.echo(style("nothing changed: what asks for health or metrics would be denied", fg="red"))
            _locked_out(applied["lockouts"])
    _on_trial(applied)


def _on_trial(applied: dict[str, Any]) -> None:
    """When the new version goes back by itself."""
    if applied["outcome"] in ("held", "sent") and applied["confirm_by"] is not None:
        left = spoken(max(0.0, applied["confirm_by"] - time.time()))
        click.echo(style(f"  it goes back by itself in {left}: `septum confirm` lets it stay", fg="yellow"))


def _locked_out(lockouts: list[dict[str, Any]]) -> None:
    for one in lockouts:
        rule = f" by {one['rule']}" if one["rule"] else ""
        click.echo(f"  {one['caller']} -> {one['target']}  {one['operation']}")
        click.echo(f"    allowed{rule}, last {ago(one['last_seen'], time.time())}; now {one['why']}")
    click.echo("  --allow-lockout applies it all the same")


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
