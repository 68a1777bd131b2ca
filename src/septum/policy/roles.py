"""What each file of a mesh directory is, by its path."""

from __future__ import annotations

from enum import Enum, auto

MESH_FILE = "septum.yaml"
MISSPELT_MESH_FILE = "septum.yml"
POLICY_DIR = "policy"
FILES_DIR = "files"

# What editors and merges leave beside a file. They come and go, and are no one's policy.
_BACKUPS = ("~", ".bak", ".orig", ".rej", ".swp", ".tmp")


class Role(Enum):
    """What a file is.

    A TEST holds policy tests, and a PAGE (Markdown) may; neither is part of the policy. FILE is what settings name by
    its path. MISNAMED files look like policy and would have no effect; OTHER files are none of Septum's business.
    """

    MESH = auto()
    POLICY = auto()
    TEST = auto()
    PAGE = auto()
    FILE = auto()
    MISNAMED = auto()
    OTHER = auto()


def role(path: str) -> Role:
    """The role of a file, by its path relative to the mesh directory (with `/`)."""
    if path == MESH_FILE:
        return Role.MESH
    if path == MISSPELT_MESH_FILE:
        return Role.MISNAMED
    directory, *parts = path.split("/")
    if directory == FILES_DIR and not parts:
        return Role.FILE  # the directory itself, where it cannot be read
    if not parts or any(part.startswith(".") for part in parts) or _left_over(parts[-1]):
        return Role.OTHER
    if directory == POLICY_DIR:
        return _below_policy(parts[-1])
    return Role.FILE if directory == FILES_DIR else Role.OTHER


def _left_over(name: str) -> bool:
    return name.endswith(_BACKUPS) or (name.startswith("#") and name.endswith("#"))


def _below_policy(name: str) -> Role:
    if name.endswith("_test.yaml"):
        return Role.TEST
    if name.endswith(".yaml"):
        return Role.POLICY
    if name.endswith(".md"):
        return Role.PAGE
    looks = name.lower()
    return Role.MISNAMED if ".yaml" in looks or ".yml" in looks else Role.OTHER
