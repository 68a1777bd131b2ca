"""The policy that the files of a mesh hold, for verbs that answer by it."""

from __future__ import annotations

from pathlib import Path

import click

from septum.cli import diagnostics
from septum.cli.output import wants_colour
from septum.cli.place import seen_from_here
from septum.control.files import read_mesh_dir
from septum.model.policy import Policy
from septum.policy.load import load


class NoAnswerError(click.ClickException):
    """There is nothing to answer by; 1 would be an answer."""

    exit_code = 2


def valid_policy(mesh: Path, otherwise: str) -> Policy:
    """The policy as its files are. Where they have errors, those are shown, and NoAnswerError says `otherwise`."""
    files = read_mesh_dir(mesh)
    loaded = load(files)
    if loaded.policy is None:
        text = diagnostics.as_text(loaded.errors, files, colour=wants_colour(), before=seen_from_here(mesh))
        click.echo(text + "\n", err=True)
        raise NoAnswerError(f"the policy has errors, so {otherwise}")
    return loaded.policy
