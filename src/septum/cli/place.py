"""Which mesh a command is about, where its state is, and how its files are named to who asked."""

from __future__ import annotations

import os
from pathlib import Path

import click

from septum.policy.roles import MESH_FILE


def is_mesh(directory: Path) -> bool:
    """A file that cannot be read makes a mesh too, or its error would never be said."""
    return os.path.lexists(directory / MESH_FILE)


def nearest_mesh(here: Path) -> Path | None:
    """The directory that holds a `septum.yaml`, from here up, or None."""
    return next((directory for directory in (here, *here.parents) if is_mesh(directory)), None)


def mesh_dir(given: Path | None) -> Path:
    """The given directory, or the nearest one from here up that holds a `septum.yaml`. Raises click.UsageError."""
    if given is not None:
        if not is_mesh(given):
            raise click.UsageError(f"there is no {MESH_FILE} in {given}; `septum init {given}` writes one")
        return given.resolve()
    here = Path.cwd()
    found = nearest_mesh(here)
    if found is None:
        help = "`septum init` writes one, -C DIR names another place"
        raise click.UsageError(f"there is no {MESH_FILE} in {here} or above; {help}")
    return found


def state_dir(mesh: Path) -> Path:
    """Where the mesh's state is kept; it need not exist yet."""
    return mesh / ".septum"


def seen_from_here(mesh: Path) -> str:
    """What stands before a mesh's file names so that a terminal opens them: nothing, or a path that ends in `/`."""
    relative = os.path.relpath(mesh)
    return "" if relative == "." else f"{relative}/"
