"""Whom a name on a command line means."""

from __future__ import annotations

import click

from septum.model.mesh import Mesh
from septum.policy.fit import suggestion

_SEGMENT = "segment:"


def callers_named(text: str, mesh: Mesh) -> tuple[str, ...]:
    """The workloads that `NAME` or `segment:NAME` means. Raises click.UsageError for nobody."""
    if text in mesh.targets and text not in mesh.workloads:
        raise click.UsageError(f"`{text}` is a place outside, and nobody there calls anyone here")
    return _named(text, mesh, "workload", [*mesh.workloads])


def targets_named(text: str, mesh: Mesh) -> tuple[str, ...]:
    """The workloads, or the place outside, that `NAME` or `segment:NAME` means. Raises click.UsageError for nobody."""
    return _named(text, mesh, "workload or place outside" if mesh.external else "workload", [*mesh.targets])


def _named(text: str, mesh: Mesh, what: str, known: list[str]) -> tuple[str, ...]:
    if text in known:
        return (text,)
    if not text.startswith(_SEGMENT):
        hint = f"did you mean `{_SEGMENT}{text}`?" if text in mesh.segments else suggestion(text, known)
        raise _unknown(what, text, hint)
    name = text.removeprefix(_SEGMENT)
    if name not in mesh.segments:
        raise _unknown("segment", name, suggestion(name, mesh.segments))
    members = mesh.members(name)
    if not members:
        raise click.UsageError(f"no workload is in the segment `{name}`")
    return members


def _unknown(what: str, name: str, hint: str) -> click.UsageError:
    return click.UsageError(f"no {what} is called `{name}`{f'; {hint}' if hint else ''}")
