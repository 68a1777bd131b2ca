"""Files of a mesh that are rewritten where they are, and the same as a patch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from septum.cli.replacement import Replacement
from septum.policy.named_files import Files
from septum.policy.upkeep.patch import patch


def rewrite(mesh: Path, before: Files, after: Mapping[str, bytes]) -> None:
    """Replace files, none of them before all that is new has been written. Raises ClickException.

    A file that is not what it was in `before` is left as it is.
    """
    with ExitStack() as stack:
        waiting = []
        for path, content in after.items():
            replacement = stack.enter_context(Replacement(mesh / path, before.get(path)))
            replacement.prepare(content)
            waiting.append(replacement)
        for replacement in waiting:
            replacement.put()


def as_patch(mesh: Path, before: Files, after: Mapping[str, bytes]) -> str:
    """The change as a patch, with paths as `git apply` wants them, or `patch -p1` here where there is no git."""
    root = next((place for place in (mesh.resolve(), *mesh.resolve().parents) if (place / ".git").exists()), Path.cwd())
    relative = os.path.relpath(mesh, root)
    return patch(before, after, "" if relative == "." else f"{relative}/")
