"""What a word on the command line names: stored versions, directories, git revisions, and the working tree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from septum.cli import diagnostics
from septum.cli.commit import commit_of
from septum.cli.output import wants_colour
from septum.cli.place import is_mesh, seen_from_here, state_dir
from septum.cli.revision import files_at
from septum.control.files import read_mesh_dir
from septum.control.state import StateError, Version
from septum.control.versions import ENFORCED, PREVIOUS, AmbiguousVersion, Versions
from septum.model.mesh import Mesh
from septum.model.policy import Policy
from septum.policy.load import Loaded, Loader
from septum.policy.quarantine import quarantined
from septum.policy.roles import MESH_FILE

Files = Mapping[str, bytes | OSError]
HERE = "."
# No mesh at all: what there is before the first version.
NOTHING = Policy(Mesh("", "", {}, {}, frozenset()), (), "")
_MAY_BE_VERSION = re.compile("#?[0-9]+|[0-9a-f]{4,64}")
_KINDS = ("version:", "dir:", "git:")


class NothingToCompareError(click.ClickException):
    """One of the two policies cannot be had; 1 would mean that something was found."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a policy and what they are called. `shut` is who was in quarantine, None where nothing says so.

    `before` stands before the names of files that a terminal can open, and is None where they are on no disk.
    """

    name: str
    files: Files
    shut: frozenset[str] | None = None
    commit: str = ""
    before: str | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no mesh: nothing was enforced yet, or the revision is older than it."""
        return MESH_FILE not in self.files


def tree_of(ref: str, mesh: Path) -> Tree:
    """The tree that a word names, for a mesh directory. Raises click.UsageError for a word that names none.

    `.` is the working tree; `enforced`, `previous`, a number or the beginning of a digest are stored versions; the rest
    is a directory with a septum.yaml, or else a revision of the mesh's git repository. `version:`, `dir:` and `git:`
    before a word say which of these it is.
    """
    kind = next((kind for kind in _KINDS if ref.startswith(kind)), "")
    word = ref.removeprefix(kind)
    if not word or word.startswith("-"):
        raise click.UsageError(f"`{ref}` names no policy")
    if ref == HERE:
        return Tree("the working tree", read_mesh_dir(mesh), commit=commit_of(mesh), before=seen_from_here(mesh))
    if kind == "dir:" or (not kind and is_mesh(Path(word))):
        return _directory(Path(word))
    if kind != "git:" and (found := _version(word, mesh, sure=kind == "version:")):
        return found
    return _revision(word, mesh)


def read(tree: Tree, loader: Loader) -> Loaded:
    """The policy of a tree, with whoever was in quarantine."""
    if tree.empty and not any(isinstance(content, bytes) for content in tree.files.values()):
        return Loaded(NOTHING, ())
    loaded = loader.load(tree.files)
    if loaded.policy is None:
        return loaded
    return Loaded(quarantined(loaded.policy, tree.shut or ()), loaded.diagnostics)


def valid(tree: Tree, loader: Loader) -> Policy:
    """The policy of a tree. Raises NothingToCompareError, with the findings, where it has errors."""
    loaded = read(tree, loader)
    if loaded.policy is None:
        text = diagnostics.as_text(loaded.errors, tree.files, colour=wants_colour(), before=tree.before or "")
        click.echo(text + "\n", err=True)
        raise NothingToCompareError(f"{tree.name} has errors, so there is nothing to compare with")
    return loaded.policy


def _directory(directory: Path) -> Tree:
    if not is_mesh(directory):
        raise click.UsageError(f"there is no {MESH_FILE} in {directory}")
    return Tree(str(directory), read_mesh_dir(directory), before=seen_from_here(directory))


def _version(word: str, mesh: Path, *, sure: bool) -> Tree | None:
    """A stored version, or None where the word names none and may be something else."""
    named = word in (ENFORCED, PREVIOUS)
    if not (named or sure or _MAY_BE_VERSION.fullmatch(word)):
        return None
    found = _stored(word, mesh)
    if found is not None:
        called = f"{word} (number {found.number})" if named else f"number {found.number}"
        return Tree(called, found.files, found.quarantined, found.commit)
    if word == ENFORCED:
        return Tree("nothing, since no version is enforced here yet", {}, frozenset())
    if named or sure:
        raise click.UsageError(f"there is no version `{word}` here: `septum history` lists those that there are")
    return None


def _stored(word: str, mesh: Path) -> Version | None:
    if not (state_dir(mesh) / "state.db").exists():
        return None
    try:
        with Versions.open(state_dir(mesh)) as versions:
            return versions.find(word)
    except (StateError, AmbiguousVersion) as error:
        raise NothingToCompareError(str(error)) from error


def _revision(word: str, mesh: Path) -> Tree:
    try:
        files = files_at(mesh, word)
    except click.UsageError as error:
        raise click.UsageError(f"{error.message}{_hint(mesh)}") from error
    commit = _git(mesh, "rev-parse", "--verify", "--end-of-options", f"{word}^{{commit}}")
    name = f"commit {commit[:12]}" if commit.startswith(word) else f"{word}, commit {commit[:12]}"
    if MESH_FILE not in files:
        return Tree(f"{name}, which has no mesh here", files, commit=commit)
    return Tree(name, files, commit=commit)


def _hint(mesh: Path) -> str:
    """What keeps a revision from being there, as far as git tells."""
    if _git(mesh, "rev-parse", "--is-inside-work-tree") != "true":
        return "; it is in no git repository that can be read"
    if _git(mesh, "rev-parse", "--is-shallow-repository") == "true":
        return "; the clone is shallow: `git fetch --unshallow`, or in CI a checkout with its history (fetch-depth: 0)"
    return ""


def _git(mesh: Path, *arguments: str) -> str:
    """What git prints, or nothing where it fails."""
    try:
        ran = subprocess.run(["git", "-C", str(mesh), *arguments], capture_output=True, check=False)
    except OSError:
        return ""
    return ran.stdout.decode("utf-8", "replace").strip() if ran.returncode == 0 else ""
