"""`septum grant`: a rule that ends by itself, written into the policy and applied."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from septum.cli import diagnostics
from septum.cli.apply import DONE, WAIT, report, send
from septum.cli.ask import ask
from septum.cli.commit import commit_of
from septum.cli.moment import span_of, spoken
from septum.cli.output import print_json, spinner, style, wants_colour
from septum.cli.place import mesh_dir, seen_from_here
from septum.cli.replacement import Replacement
from septum.cli.valid_policy import valid_policy
from septum.control.files import read_mesh_dir
from septum.model.policy import Policy, Rule
from septum.model.window import Window, time_text
from septum.policy.grants import described
from septum.policy.named_files import Files
from septum.policy.quarantine import quarantined
from septum.policy.roles import Role, role
from septum.policy.upkeep.granting import GRANTS_FILE, Grant, Granted, NotGranted, granted
from septum.policy.upkeep.patch import patch
from septum.verify import guarantee, region

# Seconds that a grant may last without --long: what stays for longer is a rule.
_LONG = 30 * 86400


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be done, to which mesh, and how the result is told."""

    mesh: Path
    file: str
    files: Files
    before: Policy
    made: Granted
    now: float

    @property
    def rule(self) -> Rule:
        return self.made.rule


@click.command(
    epilog="\b\nExamples:\n  septum grant support-tool orders 'GET /orders/**' --for 2h --because 'INC-1042'\n"
    "  septum grant orders ledger connect --until 2027-01-31T18:00:00Z --because 'move of the ledger'\n"
    "  septum grant desk orders 'POST /orders/{id}/refund' --for 8h --because 'late shift' \\\n"
    "    --claim 'iss: https://login.shop.test' --claim 'groups: {contains: support}'\n"
    "  septum grant support-tool orders 'GET /orders/**' --for 2h --because test --dry-run"
)
@click.argument("caller", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("operations", metavar="OPERATION...", nargs=-1, required=True)
@click.option("--for", "lasts", metavar="TIME", help="How long it holds: 30m, 2h, 7d.")
@click.option("--until", "end", metavar="WHEN", help="When it ends, instead of --for: 2027-01-31T18:00:00Z.")
@click.option("--from", "begin", metavar="WHEN", help="When it begins; at once if it is not given.")
@click.option("--because", required=True, metavar="TEXT", help="Why; decisions show it.")
@click.option("--claim", "claims", multiple=True, metavar="ENTRY", help="A claim that it asks for, as in `when`.")
@click.option("--name", default="", help="The name of the rule; one is made otherwise.")
@click.option("--file", default=GRANTS_FILE, show_default=True, help="The policy file that it is written into.")
@click.option("--long", "is_long", is_flag=True, help="Let it hold for more than 30 days.")
@click.option("--no-apply", is_flag=True, help="Only write the file.")
@click.option("--dry-run", is_flag=True, help="Only print the patch.")
@click.option("--yes", is_flag=True, help="Do not ask, on a terminal, before it is applied.")
@WAIT
@click.option("--json", "as_json", is_flag=True, help="Print the grant and what came of it as JSON.")
@click.pass_obj
def command(
    above: Path | None,
    caller: str,
    target: str,
    operations: tuple[str, ...],
    lasts: str | None,
    end: str | None,
    begin: str | None,
    because: str,
    claims: tuple[str, ...],
    name: str,
    file: str,
    is_long: bool,
    no_apply: bool,
    dry_run: bool,
    yes: bool,
    patience: float,
    as_json: bool,
) -> int:
    """Let FROM do OPERATION to TO for a while: one rule with an end, written into the policy and applied.

    FROM and TO are a workload or `segment:NAME`; OPERATION is written as in the policy, and `connect` for TCP. The
    proxies deny by themselves from the end on, also without a control plane. What is in the files has to be what is
    enforced, so that nothing else is applied with it.

    Exit status 0 when it is held, 1 when it was refused or is not held everywhere.
    """
    now = time.time()
    window = _window(lasts, end, begin, now, is_long=is_long)
    if role(file) is not Role.POLICY:
        raise click.UsageError(f"`{file}` is no policy file: name one below policy/ that ends in .yaml")
    if not because.strip() or any(not text.isprintable() for text in (because, name, *claims)):
        raise click.UsageError("--because, --name and --claim are a line of text")
    mesh = mesh_dir(above)
    grant = Grant((caller,), (target,), operations, window, because, name, claims)
    job = _job(mesh, file, grant, now)
    if job is None:
        return 1
    if dry_run:
        click.echo(patch(job.files, {file: job.made.content}), nl=False)
        return 0
    return _carried_out(job, patience, apply=not no_apply, asks=not yes and not as_json, as_json=as_json)


def _window(lasts: str | None, end: str | None, begin: str | None, now: float, *, is_long: bool) -> Window:
    """The window, in whole seconds. Raises click.UsageError for one that makes no sense."""
    if (lasts is None) == (end is None):
        raise click.UsageError("a grant ends: say when, with either --for 2h or --until 2027-01-31T18:00:00Z")
    starts = None if begin is None else _moment(begin)
    first = now if starts is None else starts
    until = math.ceil(first + span_of(lasts)) if lasts is not None else _moment(end or "")
    if until <= now:
        raise click.UsageError(f"it would be over already: it ends at {time_text(until)}")
    if until <= first:
        raise click.UsageError("it would end before it begins")
    if until - first > _LONG and not is_long:
        asked = f"this is {spoken(until - first)}"
        raise click.UsageError(f"a grant is for a while, and {asked}: write a rule, or say --long if it is meant")
    return Window(starts, until)


def _moment(text: str) -> int:
    try:
        return math.ceil(datetime.fromisoformat(text.strip()).timestamp())
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(f"`{text}` is no moment: write 2027-01-31T18:00:00Z") from None


def _job(mesh: Path, file: str, grant: Grant, now: float) -> _Job | None:
    """What is to be done; None when it cannot be, and that has been said."""
    before = valid_policy(mesh, "nothing can be granted by it")
    files = read_mesh_dir(mesh)
    try:
        made = granted(files, before, grant, file)
    except NotGranted as error:
        _print_findings(error.diagnostics, error.files, mesh)
        click.echo(style(f"nothing granted: {error}", fg="red"), err=True)
        return None
    broken = guarantee.findings(made.policy, now)
    if known := [one for one in broken if one not in guarantee.findings(before, now)]:
        _print_findings(known, {**files, file: made.content}, mesh)
        click.echo(style("nothing granted: a guarantee would not hold any more", fg="red"), err=True)
        return None
    if allowing := _allowed_already(before, made.rule, now):
        click.echo(style(f"nothing granted: {', '.join(allowing)} allows all of it already", fg="red"), err=True)
        return None
    return _Job(mesh, file, files, before, made, now)


def _print_findings(found: Any, files: Files, mesh: Path) -> None:
    if found:
        text = diagnostics.as_text(found, files, colour=wants_colour(), before=seen_from_here(mesh))
        click.echo(text + "\n", err=True)


def _allowed_already(policy: Policy, rule: Rule, now: float) -> list[str]:
    """The rules that together allow all that a grant would open from now on; none when it opens something."""
    found: dict[str, None] = {}
    for name in rule.targets:
        target = policy.mesh.targets[name]
        asked = region.of_rule(rule, target) & region.since(now)
        for caller in rule.callers:
            others = [other for other in policy.rules_to[name] if caller in other.callers]
            if asked - region.of_rules(others, target):
                return []
            found |= dict.fromkeys(other.id for other in others if asked & region.of_rule(other, target))
    return list(found)


def _carried_out(job: _Job, patience: float, *, apply: bool, asks: bool, as_json: bool) -> int:
    base = _enforced(job) if apply else None
    if not as_json:
        _tell(job)
    if asks and apply and sys.stdin.isatty() and sys.stdout.isatty() and not click.confirm("grant it?", default=False):
        return 1
    applied: dict[str, Any] | None = None
    with Replacement(job.mesh / job.file, job.files.get(job.file)) as replacement:
        replacement.prepare(job.made.content)
        if apply:
            applied = _apply(job, patience, base)
        if applied is None or applied["outcome"] in (*DONE, "sent"):
            replacement.put()
    if as_json:
        print_json({"grant": described(job.rule), "file": job.file, "applied": applied})
    elif applied is None:
        click.echo(f"written to {job.file}; `septum apply` makes it hold")
    else:
        report(applied, {**job.files, job.file: job.made.content})
    return 0 if applied is None or applied["outcome"] in DONE else 1


def _enforced(job: _Job) -> str:
    """The version that is enforced. Raises ClickException when the files say something else."""
    status = ask(job.mesh, "status")
    if quarantined(job.before, status["quarantined"]).version != status["version"]:
        help = "`septum apply` first, or --no-apply to write the grant only"
        raise click.ClickException(f"the files differ from what is enforced, and a grant applies nothing else: {help}")
    return str(status["version"])


def _apply(job: _Job, patience: float, base: str | None) -> dict[str, Any]:
    wanted = {**job.files, job.file: job.made.content}
    with spinner("granting"):
        return send(
            job.mesh, wanted, patience,
            message=f"grant {job.rule.id}: {job.rule.because}", commit=commit_of(job.mesh), base=base,
        )  # fmt: skip


def _tell(job: _Job) -> None:
    """Who may do what until when, and what ends it."""
    rule, window = job.rule, job.rule.window or Window()
    what = "connect" if rule.operations is None else ", ".join(pattern.text for pattern in rule.operations)
    begins = "now" if window.from_time is None else time_text(window.from_time)
    until = window.until or 0
    lasts = spoken(until - (window.from_time or job.now))
    click.echo(f"{style(rule.callers_text, bold=True)} -> {style(rule.targets_text, bold=True)}  {what}")
    if rule.when is not None:
        click.echo(f"  with a token that has {', '.join(f'`{name}`' for name, _ in rule.when.claims)} as it asks")
    click.echo(f"  from {begins} until {time_text(until)} ({lasts}), by the rule {rule.id}")
    click.echo("  it ends by itself, also without a control plane; before that, when the rule is taken out and applied")
