"""What `plan` and `diff` share: two trees in, a plan made, printed in a form, and judged by an exit status."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import click

from septum.audit.replay import replay
from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.cli import diagnostics
from septum.cli.output import spinner, wants_colour
from septum.cli.place import state_dir
from septum.cli.plan_markdown import plan_markdown
from septum.cli.plan_text import MOST, plan_lines
from septum.cli.trees import Tree, read, valid
from septum.model.policy import Policy
from septum.plan.findings import plan_findings
from septum.plan.made import Planned, plan_of
from septum.plan.plan import Plan
from septum.plan.replayed import Now, Replay
from septum.plan.sealed import to_json
from septum.policy.load import Loaded, Loader
from septum.verify.diff import Diff, diff

FORM = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown", "sarif"]),
    default="text",
    help="How to print it.",
)
AS_JSON = click.option("--json", "form", flag_value="json", help="The same as --format json.")
ALL = click.option("--all", "everything", is_flag=True, help="Show all of long lists.")
# What may make it fail: beside these, a broken guarantee always does.
FAIL_ON = click.option(
    "--fail-on",
    "fatal",
    multiple=True,
    type=click.Choice(["widen", "narrow", "replay-deny", "change"]),
    help="Exit with 1 when it does this. What cannot be told counts as widening and narrowing. May be repeated.",
)
EXIT_CODE = click.option("--exit-code", is_flag=True, help="Exit with 1 when anything changes: --fail-on change.")
RECORDS = click.option(
    "--records",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The record file to replay; the one of the mesh's state by default.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be compared and said: `since` None replays nothing."""

    base: Tree
    wanted: Tree
    since: float | None = None
    records: Path | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """How it is printed, what makes it fail, and whether the steps are shown that carry it out."""

    form: str
    everything: bool
    fatal: tuple[str, ...]
    steps: bool = False


def record_file(mesh: Path) -> Path | None:
    """Where a mesh's records are, if it has any."""
    path = state_dir(mesh) / "records" / FILE
    return path if path.exists() else None


def planned(asked: Asked) -> tuple[Plan | None, Loaded]:
    """The plan, or None where the wanted policy has errors. Raises ClickException where there is nothing to compare."""
    loader, now = Loader(), time.time()
    base = valid(asked.base, loader)
    # Whoever is in quarantine stays there, unless the wanted version says otherwise.
    wanted = replace(asked.wanted, shut=asked.base.shut) if asked.wanted.shut is None else asked.wanted
    loaded = read(wanted, loader)
    if loaded.policy is None:
        return None, loaded
    with spinner("comparing"):
        found = diff(base, loaded.policy, now)
        replayed = _replayed(asked, base, loaded.policy, found, now)
        plan = plan_of(
            Planned(asked.base.name, base, asked.base.files),
            Planned(wanted.name, loaded.policy, wanted.files),
            found,
            now,
            message=asked.message,
            commit=wanted.commit,
            replay=replayed,
        )
    return plan, loaded


def _replayed(asked: Asked, old: Policy, new: Policy, found: Diff, now: float) -> Replay | None:
    if asked.since is None or asked.records is None:
        return None
    try:
        return replay(asked.records, old, new, found, asked.since, now)
    except (StoreUnavailable, WrongVersion) as error:
        raise click.ClickException(str(error)) from error


def show(plan: Plan, wanted: Tree, how: Shown) -> int:
    """Print a plan; the exit status says whether anything in it is fatal."""
    match how.form:
        case "json":
            click.echo(to_json(plan), nl=False)
        case "markdown":
            click.echo(plan_markdown(plan, time.time()))
        case "sarif":
            click.echo(diagnostics.as_sarif(plan_findings(plan), before=wanted.before or ""))
        case _:
            most = None if how.everything else MOST
            click.echo("\n".join(plan_lines(plan, time.time(), most, steps=how.steps)))
    failed = failures(plan, how.fatal)
    for why in failed:
        click.echo(f"failed: {why}", err=True)
    return 1 if failed else 0


def failures(plan: Plan, fatal: tuple[str, ...]) -> list[str]:
    """Why a plan fails, by what is fatal."""
    found = [f"the guarantee `{one.name}` is broken" for one in plan.broken]
    unknown = bool(plan.risk.unknown)
    if "widen" in fatal and (plan.risk.widens or unknown):
        found.append("it widens" if plan.risk.widens else "it may widen: it cannot be told")
    if "narrow" in fatal and (plan.risk.narrows or unknown):
        found.append("it narrows" if plan.risk.narrows else "it may narrow: it cannot be told")
    if "replay-deny" in fatal:
        found += _replay_failures(plan.replay)
    if "change" in fatal and not plan.changes_nothing:
        found.append("something changes")
    return found


def _replay_failures(replayed: Replay | None) -> list[str]:
    """What nobody can look at, nobody can say is not denied."""
    if replayed is None:
        return ["there is no record to replay"]
    denied, unknown = replayed.count(Now.DENIED), replayed.count(Now.UNKNOWN)
    found = [f"{denied:,} recorded requests would be denied"] if denied else []
    return found + ([f"{unknown:,} recorded requests may be denied, by their tokens"] if unknown else [])


def show_errors(loaded: Loaded, wanted: Tree, form: str) -> int:
    """Print what is wrong with the wanted policy, in the form that was asked for; the exit status is 1."""
    if form == "json":
        click.echo(diagnostics.as_json(loaded.diagnostics))
    elif form == "sarif":
        click.echo(diagnostics.as_sarif(loaded.diagnostics, before=wanted.before or ""))
    else:
        text = diagnostics.as_text(loaded.errors, wanted.files, colour=wants_colour(), before=wanted.before or "")
        click.echo(f"```\n{text}\n```" if form == "markdown" else text)
    click.echo(f"failed: {wanted.name} has errors ({diagnostics.count(loaded.errors)})", err=True)
    return 1
