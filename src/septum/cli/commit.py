"""Which git commit the files of a mesh are of, as far as anybody can tell."""

from __future__ import annotations

import subprocess
from pathlib import Path

_PATIENCE = 5.0  # seconds
DIRTY = "-dirty"


def commit_of(mesh: Path) -> str:
    """The commit that is checked out, with `-dirty` when the mesh's files differ from it; nothing outside of git."""
    head = _git(mesh, "rev-parse", "--verify", "HEAD")
    if head is None:
        return ""
    # Also files that git does not know: they are part of the mesh, and no part of the commit.
    changed = _git(mesh, "status", "--porcelain", "--untracked-files=normal", "--", "septum.yaml", "policy", "files")
    return head.strip() + (DIRTY if changed is None or changed.strip() else "")


def _git(mesh: Path, *arguments: str) -> str | None:
    """What git prints, or None without git, without a repository, or when it takes too long."""
    # No hook of the repository is run, and nothing is written to it.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        ran = subprocess.run(command, cwd=mesh, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return ran.stdout if ran.returncode == 0 else None
