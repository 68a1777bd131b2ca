"""The files of a mesh directory as they stand in a git revision, as `read_mesh_dir` reads them from the disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from septum.policy.roles import FILES_DIR, MESH_FILE, MISSPELT_MESH_FILE, POLICY_DIR, Role, role
from septum.policy.text import MAX_BYTES

Files = dict[str, bytes | OSError]
# No part of the policy.
_LEFT = (Role.OTHER, Role.TEST, Role.PAGE)
_LINK, _SUBMODULE = "120000", "160000"


def files_at(mesh: Path, revision: str) -> Files:
    """The mesh's files in a revision of its repository: a commit, a branch, a tag. Raises click.UsageError.

    What cannot be read is an entry too, as it is from a directory. Links are not followed in a revision.
    """
    commit = _git(mesh, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    if not commit:
        raise click.UsageError(f"`{revision}` is neither a directory with a {MESH_FILE} nor a git revision of {mesh}")
    within = (MESH_FILE, MISSPELT_MESH_FILE, POLICY_DIR, FILES_DIR)
    listed = _git(mesh, "ls-tree", "-r", "-z", "--long", commit.decode(), "--", *within)
    entries = [_entry(line) for line in listed.decode("utf-8", "surrogateescape").split("\0") if line]
    return {path: _content(mesh, kind, id, size) for kind, id, size, path in entries if role(path) not in _LEFT}


def _entry(line: str) -> tuple[str, str, str, str]:
    """Mode, object, size and path of a line of `git ls-tree --long`."""
    head, _, path = line.partition("\t")
    mode, _, id, size = head.split()
    return mode, id, size, path


def _content(mesh: Path, mode: str, id: str, size: str) -> bytes | OSError:
    if mode in (_LINK, _SUBMODULE):
        return OSError(0, "it is a link, which is not followed in a revision")
    # One byte more than the front-end takes says that it is too large.
    return _git(mesh, "cat-file", "blob", id)[: MAX_BYTES + 1] if int(size) else b""


def _git(mesh: Path, *arguments: str) -> bytes:
    """What git prints; nothing where it fails."""
    try:
        ran = subprocess.run(["git", "-C", str(mesh), *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise click.UsageError("git is needed to read a revision, and there is none") from error
    return ran.stdout if ran.returncode == 0 else b""
