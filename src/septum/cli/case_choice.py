"""Which tests a command line means: by file, by line, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from septum.model.case import Case


def chosen(cases: Sequence[Case], patterns: Iterable[str], mesh: Path, containing: str = "") -> list[Case]:
    """The cases that some pattern means (all of them without one), and of those the ones whose title has the text.

    A pattern is a file or directory of the mesh, as seen from here or from the mesh, FILE:LINE, or a glob over files or
    titles. Raises LookupError for a pattern that means nothing.
    """
    wanted: set[int] = set()
    for pattern in patterns:
        meant = _meant(cases, pattern, mesh)
        if not meant:
            raise LookupError(f"no test is called `{pattern}`, and no file with tests")
        wanted |= {id(case) for case in meant}
    among = [case for case in cases if id(case) in wanted] if wanted else list(cases)
    return [case for case in among if containing.casefold() in f"{_file(case)} {case.title}".casefold()]


def _meant(cases: Sequence[Case], pattern: str, mesh: Path) -> list[Case]:
    path, colon, line = pattern.rpartition(":")
    if colon and line.isdigit():
        of_file = [case for case in _of_file(cases, path, mesh) if _line(case) <= int(line)]
        return of_file[-1:]
    found = _of_file(cases, pattern, mesh)
    return found or [c for c in cases if fnmatchcase(_file(c), pattern) or fnmatchcase(c.title, pattern)]


def _of_file(cases: Sequence[Case], path: str, mesh: Path) -> list[Case]:
    """The cases of a file, or of the files below a directory."""
    names = {PurePosixPath(path)}
    here = Path(path).absolute()
    if here.is_relative_to(mesh):
        names.add(PurePosixPath(here.relative_to(mesh).as_posix()))
    return [case for case in cases if any(PurePosixPath(_file(case)).is_relative_to(name) for name in names)]


def _file(case: Case) -> str:
    return case.span.file if case.span else ""


def _line(case: Case) -> int:
    return case.span.line if case.span else 0
