"""A real git repository for tests, deaf to the settings of whoever runs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SETTINGS = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "ada", "GIT_AUTHOR_EMAIL": "ada@shop.test",
    "GIT_COMMITTER_NAME": "ada", "GIT_COMMITTER_EMAIL": "ada@shop.test",
}  # fmt: skip


def environment() -> dict[str, str]:
    """That of a process which runs git."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | _SETTINGS


def git(directory: Path, *arguments: str) -> str:
    """Run git; what it prints."""
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout.strip()


def repository(directory: Path) -> Path:
    """A repository without commits, on the branch `main`."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "--quiet", "--initial-branch=main")
    return directory


def commit(directory: Path, message: str = "more") -> str:
    """Commit all there is; the commit's id."""
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(directory, "rev-parse", "HEAD")
