"""The files of a mesh directory, as the policy front-end takes them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from septum.policy.roles import FILES_DIR, MESH_FILE, MISSPELT_MESH_FILE, POLICY_DIR, Role, role
from septum.policy.text import MAX_BYTES

Found = tuple[str, bytes | OSError]


_OF_TESTS = frozenset({Role.TEST, Role.PAGE})


def read_mesh_dir(directory: Path, *, tests: bool = False) -> dict[str, bytes | OSError]:
    """`septum.yaml`, what is or looks like policy, and `files/`: path below the directory → content, or the error.

    With `tests`, the files that hold policy tests too, which are no part of the policy. What cannot be read is an entry
    too: a policy with a part missing would mean something else. A link to a file is followed; a link to a directory is
    an error, since it may lead back here. No more is read than the front-end takes.
    """
    left = frozenset({Role.OTHER}) if tests else _OF_TESTS | {Role.OTHER}
    found = [*_file(directory, MESH_FILE), *_file(directory, MISSPELT_MESH_FILE)]
    found += [*_below(directory, POLICY_DIR, left), *_below(directory, FILES_DIR, left)]
    return {_shown(path): _named(path, content) for path, content in found}


def _below(directory: Path, path: str, left: frozenset[Role]) -> Iterator[Found]:
    """The files below a directory, but for those whose role is to be left."""
    try:
        for entry in sorted((directory / path).iterdir()):
            yield from _entry(directory, f"{path}/{entry.name}", left)
    except FileNotFoundError:
        return
    except OSError as error:
        yield path, error


def _entry(directory: Path, path: str, left: frozenset[Role]) -> Iterator[Found]:
    place = directory / path
    if place.name.startswith("."):
        return
    if not place.is_dir():
        if role(path) not in left:
            yield from _file(directory, path)
    elif place.is_symlink():
        yield path, OSError(errno.ELOOP, "a link to a directory is not followed")
    else:
        yield from _below(directory, path, left)


def _file(directory: Path, path: str) -> Iterator[Found]:
    place = directory / path
    try:
        yield path, _content(place)
    except FileNotFoundError as error:
        # A file that went away between listing and reading is not there; a link into nowhere is.
        if place.is_symlink():
            yield path, error
    except OSError as error:
        yield path, error


def _content(place: Path) -> bytes:
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "this is not a file")  # a pipe would keep us waiting
    with place.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _named(path: str, content: bytes | OSError) -> bytes | OSError:
    """The content, unless the file's name is one that no message and no database could hold."""
    return content if _shown(path) == path else OSError(errno.EILSEQ, "the file's name is not UTF-8")
