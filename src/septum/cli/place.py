"""Which mesh a command is about, and where its state is."""

from __future__ import annotations

from pathlib import Path

import click

from septum.policy.load import MESH_FILE


def mesh_dir(given: Path | None) -> Path:
    """The given directory, or the nearest one from here up that holds a `septum.yaml`."""
    if given is not None:
        if not (given / MESH_FILE).exists():
            raise click.UsageError(f"there is no {MESH_FILE} in {given}; `septum init {given}` writes one")
        return given.resolve()
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / MESH_FILE).exists():
            return directory
    raise click.UsageError(
        f"there is no {MESH_FILE} in {here} or above; `septum init` writes one, -C DIR names another place"
    )


def state_dir(mesh: Path) -> Path:
    """Where the mesh's state is kept; it need not exist yet."""
    return mesh / ".septum"
