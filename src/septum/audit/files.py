"""The log's files: the one that Envoy appends to, and those set aside by rotation until they are read to the end.

Every file has a generation. The active file is `decisions.jsonl`; set aside, generation 7 is `decisions.7.jsonl`.
Renaming gives a file its number, so a generation is read from one of two names and never from both.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

_ASIDE = re.compile(r"decisions\.(\d+)\.jsonl")


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The directory `<state>/records`."""

    directory: Path

    @property
    def active(self) -> Path:
        """The file Envoy appends to."""
        return self.directory / "decisions.jsonl"

    def aside(self, generation: int) -> Path:
        """The name of a generation that was set aside."""
        return self.directory / f"decisions.{generation}.jsonl"

    def all_aside(self) -> list[int]:
        """The generations that are set aside, oldest first."""
        found = (_ASIDE.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def set_aside(self, generation: int) -> None:
        """Give the active file its number. The writer goes on in it until it opens the log again."""
        self.active.rename(self.aside(generation))

    def is_left(self, generation: int) -> bool:
        """Whether the writer has left a generation that was set aside.

        Envoy's flush thread closes the old file before it creates the new one (`AccessLogFileImpl::flushThreadFunc`),
        so a file under the active name means that nothing more comes into the old one.
        """
        return self.aside(generation).exists() and (self.active.exists() or self.aside(generation + 1).exists())

    def open(self, generation: int) -> FileIO | None:
        """A generation under either of its names, or None while there is none."""
        for path in (self.aside(generation), self.active):
            try:
                return FileIO(path)
            except FileNotFoundError:
                continue
        return None

    def size(self, generation: int) -> int:
        """Bytes in the log from the start of a generation on."""
        paths = [*(self.aside(n) for n in self.all_aside() if n >= generation), self.active]
        return sum(_size(path) for path in paths)

    def active_size(self) -> int:
        """Bytes in the active file; 0 while there is none."""
        return _size(self.active)

    def state(self, generation: int) -> tuple[object, ...]:
        """What changes when there is more to read: cheap to ask again and again."""
        return (_identity(self.aside(generation)), _identity(self.active))

    def is_active(self, file: FileIO) -> bool:
        """Whether an open file stands under the active name."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.active.stat())
        except FileNotFoundError:
            return False


def whole_lines(file: FileIO, offset: int, size: int, most: int, *, last: bool) -> bytes:
    """The bytes from `offset` to the end of the last whole line within about `size`.

    With `last`, an unfinished line at the end of the file is taken too. A line longer than `size` is read in full, and
    one longer than `most` in pieces: nothing that stands in the log may keep what comes behind it from being read.
    """
    while True:
        file.seek(offset)
        data = file.read(size)
        end = data.rfind(b"\n") + 1
        if end or len(data) < size:
            return data if last and len(data) < size else data[:end]
        if size >= most:
            return data
        size = min(2 * size, most)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # renamed or removed since it was listed
        return 0


def size_of(file: FileIO) -> int:
    """The size of an open file."""
    return os.fstat(file.fileno()).st_size
