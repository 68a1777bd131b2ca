"""The files of a mesh directory, as the policy front-end takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from septum.policy.load import MESH_FILE


def read_mesh_dir(directory: Path) -> dict[str, bytes | OSError]:
    """`septum.yaml` and everything YAML below `policy/`: path relative to the directory → content or error.

    Hidden files and editors' back-up copies are left alone; symbolic links are followed.
    """
    found: dict[str, bytes | OSError] = {}
    for path in _candidates(directory):
        try:
            found[path.relative_to(directory).as_posix()] = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            found[path.relative_to(directory).as_posix()] = error
    return found


def _candidates(directory: Path) -> Iterator[Path]:
    yield directory / MESH_FILE
    for path in sorted((directory / "policy").rglob("*.y*ml")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in (".yaml", ".yml") and not hidden and not path.is_dir():
            yield path
