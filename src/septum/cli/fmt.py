"""`septum fmt`: one layout for the files of a mesh."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from septum.cli.output import print_json, style
from septum.cli.place import mesh_dir, nearest_mesh, seen_from_here
from septum.cli.rewriting import as_patch, rewrite
from septum.control.files import read_mesh_dir
from septum.policy.load import load
from septum.policy.named_files import Files
from septum.policy.roles import MESH_FILE, Role, role
from septum.policy.shape import CASES, MESH, POLICY, Keys, Many
from septum.policy.upkeep.format import NotFormatted, formatted

_SHAPES: dict[Role, Keys | Many] = {Role.MESH: MESH, Role.POLICY: POLICY, Role.TEST: CASES}


@dataclass(frozen=True, slots=True)
class _Laid:
    """What came of the files of one mesh: how they were, those that change, and why others are left alone."""

    mesh: Path
    before: Files
    paths: tuple[str, ...]
    after: dict[str, bytes] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


@click.command(
    epilog="\b\nExamples:\n  septum fmt\n  septum fmt --check\n  septum fmt --diff policy/orders.yaml\n"
    "  septum fmt --diff | git apply"
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 when a file is not laid out so.")
@click.option("--diff", is_flag=True, help="Write nothing; print a patch.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of each file as JSON.")
@click.pass_obj
def command(above: Path | None, files: tuple[Path, ...], check: bool, diff: bool, as_json: bool) -> int:
    """Lay out septum.yaml, policy/*.yaml and *_test.yaml: indentation, the order of a rule's keys, quotes, blank lines.

    Comments stay where they belong, and so does what is in [...] and {...} as long as it fits on a line of 100 columns.
    What the files say stays the same, which is checked each time; a file of which that is not certain is left alone.

    Exit status 1 when a file was left alone, and with --check when one is not laid out so.
    """
    laid = [_laid(mesh, paths) for mesh, paths in _chosen(above, files)]
    for one in laid:
        if diff:
            click.echo(as_patch(one.mesh, one.before, one.after), nl=False)
        elif not check:
            rewrite(one.mesh, one.before, one.after)
    if as_json:
        print_json([entry for one in laid for entry in _entries(one)])
    else:
        _report(laid, "would be laid out anew" if check or diff else "laid out anew")
    return 1 if any(one.left or (check and one.after) for one in laid) else 0


def _chosen(above: Path | None, files: Sequence[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Each mesh with those of its files that are meant. Raises click.UsageError for a file that is none."""
    if not files:
        mesh = mesh_dir(above)
        yield mesh, tuple(path for path in read_mesh_dir(mesh, tests=True) if role(path) in _SHAPES)
        return
    meshes: dict[Path, list[str]] = {}
    for file in files:
        mesh = _absolute(above) if above is not None else _mesh_of(file)
        place = _absolute(file)
        path = place.relative_to(mesh).as_posix() if place.is_relative_to(mesh) else ""
        if role(path) not in _SHAPES:
            raise click.UsageError(f"{file} is no file of a mesh: {MESH_FILE}, or .yaml below its policy/")
        meshes.setdefault(mesh, []).append(path)
    yield from ((mesh, tuple(dict.fromkeys(paths))) for mesh, paths in meshes.items())


def _absolute(path: Path) -> Path:
    """The path from the root, without `..`; a link keeps its own name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def _mesh_of(file: Path) -> Path:
    mesh = nearest_mesh(_absolute(file).parent)
    if mesh is None:
        raise click.UsageError(f"{file} is no file of a mesh: there is no {MESH_FILE} beside or above it")
    return mesh


def _laid(mesh: Path, paths: tuple[str, ...]) -> _Laid:
    """Lay out files of a mesh, in memory."""
    laid = _Laid(mesh, read_mesh_dir(mesh, tests=True), paths)
    for path in paths:
        content = laid.before.get(path, b"")
        if isinstance(content, OSError):
            laid.left[path] = f"{path}: it cannot be read: {content.strerror}"
            continue
        try:
            after = formatted(path, content, _SHAPES[role(path)])
        except NotFormatted as error:
            laid.left[path] = str(error)
            continue
        if after != content:
            laid.after[path] = after
    _same_version(laid.before, {**laid.before, **laid.after})
    return laid


def _same_version(before: Files, after: Files) -> None:
    """Raise ClickException when the files do not say what they said: nothing is written then."""
    was, now = load(before).policy, load(after).policy
    if was is not None and (now is None or now.version != was.version):
        raise click.ClickException(
            "laid out, the policy would not be the same; nothing was changed. Please report this"
        )


def _entries(laid: _Laid) -> Iterator[dict[str, object]]:
    for path in laid.paths:
        state = "left" if path in laid.left else "changed" if path in laid.after else "unchanged"
        yield {"file": seen_from_here(laid.mesh) + path, "state": state, "why": laid.left.get(path, "")}


def _report(laid: Sequence[_Laid], changed: str) -> None:
    """Which files changed and which were left alone; on stderr, since a patch may be on stdout."""
    for one in laid:
        before = seen_from_here(one.mesh)
        for path in one.after:
            click.echo(style(f"{before}{path}: {changed}", fg="yellow"), err=True)
        for why in one.left.values():
            click.echo(style(f"left alone: {before}{why}", fg="red"), err=True)
    changes, left = sum(len(one.after) for one in laid), sum(len(one.left) for one in laid)
    others = sum(len(one.paths) for one in laid) - changes - left
    parts = [f"{changes} {changed}" if changes else "", f"{left} left alone" if left else "", f"{others} as they are"]
    click.echo(", ".join(part for part in parts if part), err=True)
