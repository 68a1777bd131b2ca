"""The tests of a mesh as pytest's: each case is an item."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import pytest

from septum.cli.diagnostics import as_text
from septum.control.files import read_mesh_dir
from septum.model.case import Case
from septum.model.policy import Policy
from septum.policy.cases_file import Cases, read_cases
from septum.policy.load import Loaded, load
from septum.policy.named_files import Files
from septum.policy.pages import WORD
from septum.verify.cases import Result, run, why

_Read = tuple[Files, Loaded, Cases, float]
_READ = pytest.StashKey[dict[Path, _Read]]()


def holds_tests(file: Path) -> bool:
    """Whether a file has tests. One that cannot be read has, so that its error is said."""
    try:
        return file.suffix != ".md" or WORD in file.read_bytes()
    except OSError:
        return True


class CaseFailed(Exception):
    """A case is not decided as it expects."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.case.title)
        self.result = result


class CasesFile(pytest.File):
    """A file with policy tests."""

    mesh: Path

    @classmethod
    def of(cls, parent: pytest.Collector, file: Path, mesh: Path) -> CasesFile:
        """The file at a path, of the mesh in a directory."""
        made: CasesFile = cls.from_parent(parent, path=file)
        made.mesh = mesh
        return made

    def collect(self) -> Iterator[pytest.Item]:
        """Its cases. Raises CollectError when the policy, or this file, has errors."""
        files, loaded, read, now = _read(self.config, self.mesh)
        path = self.path.relative_to(self.mesh).as_posix()
        errors = [*loaded.errors, *(error for error in read.errors if error.span.file == path)]
        if errors or loaded.policy is None:
            raise self.CollectError(as_text(errors, files, colour=False, before=f"{self.mesh}/"))
        cases = [case for case in read.cases if case.span is not None and case.span.file == path]
        titles = Counter(case.title for case in cases)
        for case in cases:
            line = case.span.line if case.span else 0
            name = case.title if titles[case.title] == 1 else f"{case.title} (line {line})"
            yield CaseItem.of(self, name, case, loaded.policy, now)


class CaseItem(pytest.Item):
    """One case."""

    case: Case
    policy: Policy
    now: float

    @classmethod
    def of(cls, parent: CasesFile, name: str, case: Case, policy: Policy, now: float) -> CaseItem:
        """A case under a name that no other of its file has."""
        made: CaseItem = cls.from_parent(parent, name=name)
        made.case, made.policy, made.now = case, policy, now
        return made

    def runtest(self) -> None:
        """Decide it. Raises CaseFailed."""
        result = run(self.policy, self.case, self.now)
        if not result.passed:
            raise CaseFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **more: Any) -> Any:
        """Why, in place of a traceback through this plugin."""
        failed = excinfo.value
        if not isinstance(failed, CaseFailed):
            return super().repr_failure(excinfo, *args, **more)
        return "\n".join(line for answer in failed.result.wrong for line in why(failed.result.case, answer))

    def reportinfo(self) -> tuple[PathLike[str] | str, int | None, str]:
        """Where it stands."""
        line = self.case.span.line - 1 if self.case.span else None
        return self.path, line, self.case.title


def _read(config: pytest.Config, mesh: Path) -> _Read:
    """The files, the policy and the tests of a mesh, read once, and the moment at which all of them are asked."""
    known = config.stash.setdefault(_READ, {})
    if mesh not in known:
        files = read_mesh_dir(mesh, tests=True)
        loaded = load(files)
        known[mesh] = files, loaded, read_cases(files, loaded.partial), time.time()
    return known[mesh]
