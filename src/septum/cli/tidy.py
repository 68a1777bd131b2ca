"""`septum tidy`: rules, and operations of rules, that recorded traffic did not use."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.audit.unused import Fate, Judged, judged
from septum.audit.usage import Usage, Use, usage
from septum.cli.moment import MOMENT, ago, spoken
from septum.cli.output import print_json, spinner, style
from septum.cli.place import mesh_dir, seen_from_here, state_dir
from septum.cli.rewriting import as_patch, rewrite
from septum.cli.valid_policy import valid_policy
from septum.control.entered import Entered, entered
from septum.control.files import read_mesh_dir
from septum.control.state import StateError
from septum.control.versions import Versions
from septum.model.policy import Policy, Rule
from septum.policy.named_files import Files
from septum.policy.upkeep.cuts import Cuts, cut
from septum.policy.upkeep.edit import CannotEdit
from septum.verify.spared import merged, spared

_NO_RECORD = Usage(0, None, 0, 0, {})


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found. `notes` say how far it is to be trusted, `silent` why nothing is proposed if so."""

    usage: Usage
    now: float
    judged: tuple[Judged, ...]
    notes: tuple[str, ...]
    silent: str = ""


@click.command(
    epilog="\b\nExamples:\n  septum tidy\n  septum tidy --since 90d | git apply\n  septum tidy --write\n"
    "  septum tidy --json | jq '.operations[] | select(.fate == \"unused\")'"
)
@click.option("--since", type=MOMENT, default="30d", show_default=True, help="What nothing used from then on.")
@click.option("--write", is_flag=True, help="Take it out of the files; otherwise a patch is printed.")
@click.option("--anyway", is_flag=True, help="Propose something also where the record does not go back that far.")
@click.option("--all", "everything", is_flag=True, help="Say of what was used, too, how often and when.")
@click.option("--json", "as_json", is_flag=True, help="Print every operation with its use, and the patch, as JSON.")
@click.pass_obj
def command(above: Path | None, since: float, write: bool, anyway: bool, everything: bool, as_json: bool) -> int:
    """Take out rules, and single operations of rules, that nothing used, and grants that are over.

    What is used is read from the record of decisions. Kept are rules that are newer than --since, by the versions that
    were enforced, and what a guarantee `always` needs. The patch is on stdout, what is kept and why on stderr.

    Exit status 1 when something could go and was not taken out, or the record does not go back far enough.
    """
    mesh, now = mesh_dir(above), time.time()
    files, policy = read_mesh_dir(mesh), valid_policy(mesh, "nothing can be said of its rules")
    with spinner("reading the record"):
        found = _found(mesh, policy, since, now, anyway=anyway)
    after = _without(files, policy, _cuts(found.judged))
    patch = as_patch(mesh, files, after)
    if write:
        rewrite(mesh, files, after)
    if as_json:
        print_json(_value(found, patch))
    else:
        _report(found, seen_from_here(mesh), written=write, everything=everything)
        click.echo("" if write else patch, nl=False)
    return 1 if (after and not write) or found.silent else 0


def _found(mesh: Path, policy: Policy, since: float, now: float, *, anyway: bool) -> _Found:
    used = _usage(mesh, policy, since)
    known = _entered(mesh, policy, since)
    moments, quarantined = (known.moments, known.quarantined) if known else (None, frozenset())
    all_of_it = judged(policy, used, moments, quarantined, now)
    silent = "" if used.covers or anyway else _too_short(used, now)
    if silent:
        all_of_it = tuple(one for one in all_of_it if one.fate is not Fate.UNUSED)
    return _Found(used, now, _spared(policy, all_of_it, now), tuple(_notes(used, known, now)), silent)


def _usage(mesh: Path, policy: Policy, since: float) -> Usage:
    path = state_dir(mesh) / "records" / FILE
    if not path.exists():
        return replace(_NO_RECORD, since=since)
    try:
        return usage(path, policy, since)
    except (StoreUnavailable, WrongVersion) as error:
        raise click.ClickException(str(error)) from error


def _entered(mesh: Path, policy: Policy, since: float) -> Entered | None:
    """When what is there was enforced first; None where no versions are kept here."""
    if not (state_dir(mesh) / "state.db").exists():
        return None
    try:
        with Versions.open(state_dir(mesh)) as versions:
            return entered(versions, policy, since)
    except StateError as error:
        raise click.ClickException(str(error)) from error


def _spared(policy: Policy, found: tuple[Judged, ...], now: float) -> tuple[Judged, ...]:
    """What would go, but for what guarantees need."""
    needed = spared(policy, [_cut(one) for one in found if one.fate is Fate.UNUSED], now)
    return tuple(
        replace(one, fate=Fate.NEEDED, why=needed[_cut(one)])
        if one.fate is Fate.UNUSED and _cut(one) in needed
        else one
        for one in found
    )


def _cut(one: Judged) -> tuple[str, int | None]:
    return one.rule.id, one.index


def _cuts(found: Sequence[Judged]) -> Cuts:
    """Everything that goes, with operations that stand twice at each of their places."""
    going = [one for one in found if one.fate.goes]
    places = [(one, _places(one)) for one in going]
    return merged((one.rule.id, index) for one, indexes in places for index in indexes)


def _places(one: Judged) -> Sequence[int | None]:
    if one.index is None:
        return (None,)
    return [index for index, pattern in enumerate(one.rule.operations or ()) if pattern.text == one.text]


def _without(files: Files, policy: Policy, cuts: Cuts) -> dict[str, bytes]:
    try:
        return cut(files, policy, cuts) if cuts else {}
    except CannotEdit as error:
        raise click.ClickException(str(error)) from error


# --- words


def _too_short(used: Usage, now: float) -> str:
    asked = spoken(now - used.since)
    if used.begins is None:
        return f"nothing is on record, so nobody can say what was not used in {asked}"
    begins = spoken(now - used.begins)
    return f"the record goes back {begins}, so nobody can say what was not used in {asked}; --since {_days(used, now)}"


def _days(used: Usage, now: float) -> str:
    hours = int((now - (used.begins or now)) // 3600)
    return f"{hours // 24}d would do" if hours >= 48 else f"{hours}h would do" if hours else "will do some day"


def _notes(used: Usage, known: Entered | None, now: float) -> Iterator[str]:
    if used.begins is not None:
        records = f"{used.records:,} record{'' if used.records == 1 else 's'}"
        yield f"{records} of the last {spoken(now - used.since)}; the oldest of all began {ago(used.begins, now)}"
    if used.lost:
        yield f"{used.lost:,} decisions are known to be lost; one of them may have been a use"
    if known is None:
        yield "no versions are kept here, so a rule that is newer than that cannot be told from an old one"


def _report(found: _Found, before: str, *, written: bool, everything: bool) -> None:
    for note in found.notes:
        click.echo(note, err=True)
    if found.silent:
        click.echo(style(f"nothing is proposed: {found.silent}", fg="yellow"), err=True)
    for one in found.judged:
        if everything or one.fate is not Fate.USED:
            click.echo(_line(one, found, before, written=written), err=True)
    gone = sum(one.fate.goes for one in found.judged)
    kept = len(found.judged) - gone
    verb = "taken out" if written else "could go"
    click.echo(f"{gone} {verb}, {kept} kept, of {len(found.judged)} operations", err=True)


def _line(one: Judged, found: _Found, before: str, *, written: bool) -> str:
    place = f"{before}{one.rule.span.place}" if one.rule.span else ""
    what = f"{one.rule.id}: {one.text}" if one.index is not None and len(one.rule.operations or ()) > 1 else one.rule.id
    verb = ("removed" if written else "remove") if one.fate.goes else "keep"
    return f"{style(verb, fg='red' if one.fate.goes else 'green')}  {place}  {what}  ({_why(one, found)})"


def _why(one: Judged, found: _Found) -> str:
    asked = spoken(found.now - found.usage.since)
    since = f"; enforced since {ago(one.entered, found.now)} at least" if one.entered is not None else ""
    match one.fate:
        case Fate.USED if one.use is not None:
            first, last = ago(one.use.first, found.now), ago(one.use.last, found.now)
            return f"used {one.use.hits:,} times, first {first}, last {last}"
        case Fate.ENDED:
            return f"ended {ago(one.rule.window.until if one.rule.window else None, found.now)}"
        case Fate.NEWER:
            return f"newer than {asked}: " + (
                f"since {ago(one.entered, found.now)}" if one.entered else "not enforced yet"
            )
        case Fate.WAITING:
            return f"began less than {asked} ago, or has not begun"
        case Fate.QUARANTINED:
            return f"`{one.why}` is quarantined, and could use nothing"
        case Fate.NEEDED:
            return f"not used, and the guarantee `{one.why}` needs it"
        case _:
            return f"not used in {asked}{since}"


def _value(found: _Found, patch: str) -> dict[str, Any]:
    return {
        "since": found.usage.since,
        "record": {"begins": found.usage.begins, "records": found.usage.records, "lost": found.usage.lost},
        "notes": list(found.notes),
        "nothing_proposed": found.silent,
        "rules": [_of_rule(rule, found.usage) for rule in {one.rule.id: one.rule for one in found.judged}.values()],
        "operations": [_entry(one) for one in found.judged],
        "patch": patch,
    }


def _of_rule(rule: Rule, used: Usage) -> dict[str, Any]:
    return {"rule": rule.id, "place": rule.span.place if rule.span else "", **_of_use(used.of_rule(rule))}


def _of_use(use: Use | None) -> dict[str, Any]:
    return {"hits": 0, "first": None, "last": None} if use is None else asdict(use)


def _entry(one: Judged) -> dict[str, Any]:
    return {
        "rule": one.rule.id,
        "operation": one.text,
        **_of_use(one.use),
        "entered": one.entered,
        "fate": one.fate,
        "why": one.why,
    }
