"""Asking the control plane of a mesh, with an error that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from septum.cli.place import state_dir
from septum.control import api


def ask(mesh: Path, op: str, timeout: float = 30.0, **arguments: Any) -> dict[str, Any]:
    """The answer of the mesh's control plane. Raises ClickException when none runs, or when it cannot do it."""
    try:
        answer = api.call(state_dir(mesh), op, timeout, **arguments)
    except api.NotRunningError as error:
        raise click.ClickException(f"{error}; start it with `septum up {mesh}`") from error
    if "error" in answer:
        raise click.ClickException(answer["error"])
    return answer
