"""A file that is replaced as a whole or not at all, and only if nobody wrote it meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import click


class Replacement:
    """`known` is the content that is to be replaced; None when there was no file."""

    def __init__(self, path: Path, known: bytes | OSError | None) -> None:
        self._path, self._known = path, known
        # Hidden, so that it is no policy file while it is there.
        self._made = path.with_name(f".{path.name}.{os.getpid()}")

    def __enter__(self) -> Self:
        return self

    def prepare(self, content: bytes) -> None:
        """Write the new content beside the file. Raises ClickException when that cannot be done."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._made.write_bytes(content)
            if self._known is not None:
                self._made.chmod(self._path.stat().st_mode & 0o7777)
        except OSError as error:
            raise click.ClickException(f"{self._path} cannot be written: {error.strerror}") from error

    def put(self) -> None:
        """Put it in the file's place. Raises ClickException when the file is not what it was, or cannot be replaced."""
        try:
            if self._present() != self._known:
                raise click.ClickException(f"{self._path} was changed meanwhile, and is left as it is")
            self._made.replace(self._path.resolve())
        except OSError as error:
            raise click.ClickException(f"{self._path} cannot be replaced: {error.strerror}") from error

    def _present(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._made.unlink(missing_ok=True)
