"""`septum lint`: rules that are not needed, too wide, or most likely a slip; and what can be mended by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.audit.usage import Usage, most_used, usage
from septum.cli import diagnostics
from septum.cli.moment import spoken
from septum.cli.output import style, wants_colour
from septum.cli.place import nearest_mesh, seen_from_here, state_dir
from septum.cli.rewriting import as_patch, rewrite
from septum.control.files import read_mesh_dir
from septum.model.diagnostic import Diagnostic
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.load import load
from septum.policy.named_files import Files
from septum.policy.upkeep.cuts import cut
from septum.policy.upkeep.edit import CannotEdit
from septum.verify.diff import diff
from septum.verify.lint import LINT_CODES, Finding, Used, is_everything, lint, together

# How far back it is looked which operations of a rule that is too wide were used.
_BACK = 30 * 86400
_MOST = 5


@dataclass(frozen=True, slots=True)
class _Found:
    """What is found in a mesh: the findings that stay, those that are mended, and the files as they become by it."""

    files: Files
    stays: tuple[Finding, ...]
    mended: tuple[Finding, ...] = ()
    after: dict[str, bytes] | None = None


@click.command(
    epilog="\b\nExamples:\n  septum lint\n  septum lint --fix\n  septum lint --diff --select SEP601,SEP603\n"
    "  septum lint examples/shop --format sarif > septum-lint.sarif\n"
    "  septum check --explain SEP601"
)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--fix", is_flag=True, help="Mend what can be mended without a change of what is decided.")
@click.option("--diff", "as_diff", is_flag=True, help="Print what --fix would do as a patch, and nothing else.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to print findings."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--select", multiple=True, metavar="CODE,...", help="Only these codes.")
@click.option("--ignore", multiple=True, metavar="CODE,...", help="All but these codes.")
@click.pass_obj
def command(
    above: Path | None, directory: Path | None, fix: bool, as_diff: bool, form: str, as_json: bool,
    select: tuple[str, ...], ignore: tuple[str, ...],
) -> int:  # fmt: skip
    """Say which rules of a policy are not needed, too wide, or most likely a slip.

    Which requests rules allow is computed exactly. What --fix does changes nothing of what is decided, which is proven
    each time, and keeps comments. `# septum: ignore SEP604` on a rule's first line, or above it, says that it is meant.

    Exit status 1 when something is found that stays.
    """
    mesh = directory or above or nearest_mesh(Path.cwd()) or Path.cwd()
    codes = [code for code in _codes(select) or LINT_CODES if code not in _codes(ignore)]
    files, now = read_mesh_dir(mesh), time.time()
    loaded = load(files)
    if loaded.policy is None:
        _print(loaded.errors, files, mesh, "json" if as_json else form)
        return 1
    found = _found(mesh, files, loaded.policy, codes, now, fix=fix or as_diff)
    if as_diff:
        click.echo(as_patch(mesh, files, found.after or {}), nl=False)
        return 1 if found.stays else 0
    if found.after:
        rewrite(mesh, files, found.after)
        _say_mended(found, mesh)
    _show(found, mesh, "json" if as_json else form)
    return 1 if found.stays else 0


def _codes(given: Sequence[str]) -> list[str]:
    """The codes of an option that may stand several times. Raises click.UsageError for one that lint does not have."""
    codes = [code.strip().upper() for text in given for code in text.split(",")]
    for code in codes:
        if code not in LINT_CODES:
            raise click.UsageError(f"lint has no code {code}; its codes run from {LINT_CODES[0]} to {LINT_CODES[-1]}")
    return codes


def _found(mesh: Path, files: Files, policy: Policy, codes: Sequence[str], now: float, *, fix: bool) -> _Found:
    found = lint(files, policy, now, codes, _used(mesh, policy, now))
    if not fix:
        return _Found(files, found)
    after, mended = _mended(files, policy, [finding for finding in found if finding.cuts])
    if not mended:
        return _Found(files, found)
    changed = {**files, **after}
    again = load(changed).policy
    assert again is not None  # cutting proves that
    _prove(policy, again, now)
    return _Found(changed, lint(changed, again, now, codes, _used(mesh, again, now)), mended, after)


def _mended(files: Files, policy: Policy, wanted: Sequence[Finding]) -> tuple[dict[str, bytes], tuple[Finding, ...]]:
    """The files that change, and what was mended: all of it, or what is left without those that cannot be edited."""
    try:
        return (cut(files, policy, together(wanted)) if wanted else {}), tuple(wanted)
    except CannotEdit as error:
        if len(wanted) == 1:
            click.echo(style(f"not mended: {error}", fg="yellow"), err=True)
            return {}, ()
    possible = tuple(finding for finding in wanted if _mended(files, policy, [finding])[1])
    return (cut(files, policy, together(possible)) if possible else {}), possible


def _prove(before: Policy, after: Policy, now: float) -> None:
    """Raise ClickException unless the two decide the same from now on."""
    found = diff(before, after, now)
    if found.allowed or found.denied or found.shifts:
        raise click.ClickException(
            "mended, the policy would not decide the same; nothing was changed. Please report this"
        )


def _used(mesh: Path, policy: Policy, now: float) -> Used | None:
    """What is on record of the operations that are too wide; None without a record of them."""
    path = state_dir(mesh) / "records" / FILE
    wide = any(is_everything(pattern) for rule in policy.rules for pattern in rule.operations or ())
    if not wide or not path.exists():
        return None
    try:
        found = usage(path, policy, now - _BACK, is_everything)
    except (StoreUnavailable, WrongVersion):
        return None  # what is on record only adds to a message
    return lambda rule, pattern: _said(found, rule, pattern, now)


def _said(found: Usage, rule: Rule, pattern: HttpPattern, now: float) -> str:
    if found.begins is None:
        return ""
    back = f"in the {spoken(now - max(found.begins, found.since))} on record"
    seen = found.seen.get((rule.id, pattern.text))
    if not seen:
        return f"{back}, nothing of it was used"
    shown = ", ".join(f"{kind} ({hits:,})" for kind, hits in most_used(seen, _MOST))
    more = f" and {len(seen) - _MOST} more" if len(seen) > _MOST else ""
    return f"{back}, this was used: {shown}{more}"


def _say_mended(found: _Found, mesh: Path) -> None:
    for finding in found.mended:
        span = finding.diagnostic.span
        click.echo(
            f"mended: {seen_from_here(mesh)}{span.place}: {finding.code}: {finding.diagnostic.message}", err=True
        )


def _show(found: _Found, mesh: Path, form: str) -> None:
    if form == "json":
        values = [
            asdict(finding.diagnostic) | {"rule": finding.rule, "fix": bool(finding.cuts)} for finding in found.stays
        ]
        click.echo(json.dumps(values, indent=2))
        return
    _print([finding.diagnostic for finding in found.stays], found.files, mesh, form)
    if form == "text" and (fixable := sum(bool(finding.cuts) for finding in found.stays)):
        click.echo(f"`septum lint --fix` mends {fixable} of them", err=True)


def _print(found: Sequence[Diagnostic], files: Files, mesh: Path, form: str) -> None:
    before = seen_from_here(mesh)
    if form == "json":
        click.echo(diagnostics.as_json(found))
    elif form == "sarif":
        click.echo(diagnostics.as_sarif(found, before=before))
    else:
        if found:
            click.echo(diagnostics.as_text(found, files, colour=wants_colour(), before=before) + "\n")
        click.echo(style(diagnostics.count(found), fg="yellow" if found else "green"))
