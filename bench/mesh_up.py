"""A real `septum up` on a mesh directory of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from bench.processes import BenchError

SEPTUM = str(Path(sys.executable).with_name("septum"))


def write(files: Mapping[str, bytes], mesh: Path) -> None:
    """Make a directory hold exactly these files."""
    for path in (mesh / "policy").glob("*.yaml"):
        if f"policy/{path.name}" not in files:
            path.unlink()
    for name, content in files.items():
        (mesh / name).parent.mkdir(parents=True, exist_ok=True)
        (mesh / name).write_bytes(content)


@contextmanager
def up(mesh: Path, patience: float = 60) -> Iterator[int]:
    """The pid of the supervisor while the block runs, once its node holds its snapshot."""
    with ready([SEPTUM, "up", str(mesh), "--log-format", "json", "--node", "bench"], mesh, patience) as pid:
        yield pid


@contextmanager
def ready(command: Sequence[str], directory: Path, patience: float = 60) -> Iterator[int]:
    """The pid of a command of ours while the block runs, once it says that it is ready."""
    with processes.running(command, directory) as process:
        deadline = time.monotonic() + patience
        while not _said(directory, "ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"`{' '.join(command[:2])}` does not get ready:\n{processes.output(directory)}")
            time.sleep(0.02)
        yield process.pid


def _said(directory: Path, event: str) -> bool:
    lines = (directory / "output").read_text().splitlines()
    return any(json.loads(line)["event"] == event for line in lines if line.startswith("{") and line.endswith("}"))
