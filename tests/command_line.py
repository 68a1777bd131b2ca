"""Runs the command line inside the test's process, as a shell would see it."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from septum.cli.main import main


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


def septum(*arguments: str | Path, cwd: Path) -> Ran:
    """Run `septum ARGUMENTS` in a directory, without a terminal."""
    out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(cwd)
    try:
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "argv", ["septum", *map(str, arguments)]),
        ):
            status = main()
    finally:
        os.chdir(before)
    return Ran(status, out.getvalue(), err.getvalue())


def write_mesh(directory: Path, mesh: str, **policies: str) -> Path:
    """A mesh directory with `policy/NAME.yaml` for each policy."""
    (directory / "policy").mkdir(parents=True, exist_ok=True)
    (directory / "septum.yaml").write_text(mesh, encoding="utf-8")
    for name, text in policies.items():
        (directory / "policy" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return directory
