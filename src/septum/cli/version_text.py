"""Versions as `history` and `show` tell them: opened, as JSON, and in words."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from septum.cli.diagnostics import visible
from septum.cli.output import style
from septum.cli.place import state_dir
from septum.control.signing import Signatures, Standing, Verdict
from septum.control.state import StateError
from septum.control.versions import AmbiguousVersion, Ended, Entry, Versions


@contextmanager
def versions_of(mesh: Path) -> Iterator[tuple[Versions, Signatures]]:
    """The stored versions of a mesh, and what tells whether they are what was stored. Raises ClickException."""
    state = state_dir(mesh)
    if not (state / "state.db").exists():
        raise click.ClickException(f"nothing was ever applied in {mesh}: `septum up` starts with its files")
    try:
        with closing(Versions.open(state)) as versions:
            yield versions, Signatures(state)
    except (StateError, AmbiguousVersion) as error:
        raise click.ClickException(str(error)) from error


def as_json(entry: Entry, verdict: Verdict) -> dict[str, Any]:
    """A version with all that is known about it, but for what its files hold."""
    version = entry.version
    files = {path: hashlib.sha256(content).hexdigest() for path, content in sorted(version.files.items())}
    return {
        "number": version.number,
        "version": version.digest,
        "applied": version.applied,
        "author": version.author,
        "message": version.message,
        "commit": version.commit,
        "previous": version.previous,
        "restores": version.restores,
        "confirm_by": version.confirm_by,
        "quarantined": sorted(version.quarantined),
        "ended": str(entry.ended),
        "ended_at": entry.at,
        "ended_by": entry.by,
        "why": entry.why,
        "confirmed": entry.confirmed,
        "signature": {"standing": str(verdict.standing), "key": verdict.signer, "why": verdict.why},
        "files": files,
    }


def when(moment: float | None) -> str:
    """A moment on this machine's clock."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def ended(entry: Entry, now: float) -> str:
    """How a version ended, in words, or that it has not."""
    match entry.ended:
        case Ended.PROVISIONAL:
            left = max(0.0, (entry.version.confirm_by or now) - now)
            return style(f"enforced, goes back in {left:.0f} s unless confirmed", fg="yellow")
        case Ended.ENFORCED:
            return style("enforced" + _confirmed(entry), fg="green")
        case Ended.ROLLED_BACK:
            why = f": {visible(entry.why)}" if entry.why else ""
            return style(f"rolled back {when(entry.at)} by {visible(entry.by)}{why}", fg="red")
        case Ended.REFUSED:
            return style(f"refused: {visible(entry.why)}", fg="red")
        case Ended.REPLACED:
            return f"replaced {when(entry.at)}" + _confirmed(entry)


def _confirmed(entry: Entry) -> str:
    return ", confirmed" if entry.confirmed is not None else ""


def signature(verdict: Verdict) -> str:
    """What a signature is worth."""
    match verdict.standing:
        case Standing.GOOD:
            return "good"
        case Standing.UNSIGNED:
            return "unsigned"
        case Standing.BAD:
            return style("BAD", fg="red", bold=True)
