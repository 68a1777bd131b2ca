"""From the log to parcels, one at a time: every line is shipped until the store has it, and then never again.

Not asynchronous; `ship.py` drives it in a thread. It is never ahead of the store: the position moves only when the
store says where it is, and a file is removed only when the store is past it.
"""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import structlog

from septum.audit.files import LogFiles, size_of, whole_lines
from septum.audit.parcel import MOST, Parcel, Position

_log = structlog.get_logger("septum.audit")


class Reading:
    """Reads generation after generation. One owner, one call at a time. `position` is None until the store said it."""

    def __init__(self, files: LogFiles, chunk: int = MOST) -> None:
        self.files, self._chunk = files, chunk
        self.position: Position | None = None
        self._made: Parcel | None = None
        self._file: FileIO | None = None

    def close(self) -> None:
        """Let go of the log."""
        if self._file:
            self._file.close()
            self._file = None

    def resume(self, position: Position) -> None:
        """Go on where the store is: behind the parcel that was made last, or anywhere."""
        made, self._made, self.position = self._made, None, position
        if made and made.end == position and made.start.generation == position.generation and not made.gap:
            return
        self.close()
        self._discard_read(position)

    def next(self) -> Parcel | None:
        """What there is to ship now, about one chunk at most; None when there is nothing."""
        assert self.position is not None, "the store is asked first"
        self._made = self._parcel(self.position)
        return self._made

    def state(self) -> tuple[object, ...]:
        """The same as before means: nothing has come. By name, so that any thread may ask."""
        return self.files.state(self.position.generation if self.position else 0)

    def rotate(self, limit: int) -> None:
        """Set the active file aside when it has reached `limit` bytes. The writer has to be told.

        Not before its number is known: from a file that was set aside before it, or from the store.
        """
        if self.files.active_size() < limit:
            return
        generations = [n + 1 for n in self.files.all_aside()[-1:]]
        if self.position:
            generations.append(self.position.generation)
        if generations:
            self.files.set_aside(max(generations))

    @property
    def awaits_writer(self) -> bool:
        """Whether a file is set aside and the writer is still in it."""
        aside = self.files.all_aside()
        return bool(aside) and not self.files.is_left(aside[-1])

    def behind(self) -> int:
        """Bytes of the log that the store is not known to have. By name, so that any thread may ask."""
        position = self.position or Position()
        return max(0, self.files.size(position.generation) - position.offset)

    def _parcel(self, position: Position) -> Parcel | None:
        file = self._file or self._open(position)
        if isinstance(file, Parcel) or file is None:
            return file
        # Asked before reading: what was written until then is seen by the read.
        left = self.files.is_left(position.generation)
        replaced = not left and self._replaced(file, position)
        data = whole_lines(file, position.offset, self._chunk, MOST, last=left or replaced)
        at_end = position.offset + len(data) >= size_of(file)
        if left and at_end:
            return Parcel(position, data, Position(position.generation + 1), durable=True)
        if data:
            return Parcel(position, data, position.after(data))
        if replaced and at_end:
            return _gap(position, position.generation, "the decision log was replaced by something other than Septum")
        return None

    def _open(self, position: Position) -> FileIO | Parcel | None:
        """The file of the position, or a parcel that says that it is gone."""
        aside = [generation for generation in self.files.all_aside() if generation >= position.generation]
        if aside and aside[0] > position.generation:
            return _gap(position, aside[0], "a part of the decision log was removed")
        file = self.files.open(position.generation)
        if file and not _knows(file, position):
            file.close()
            return _gap(position, position.generation, "the decision log is not the one that was read before")
        self._file = file
        return file

    def _replaced(self, file: FileIO, position: Position) -> bool:
        """Whether the active name is another file now, or the file was cut."""
        if size_of(file) < position.offset:
            return True
        if self.files.aside(position.generation).exists() or not self.files.active.exists():
            return False
        return not self.files.is_active(file)

    def _discard_read(self, position: Position) -> None:
        """Remove what the store is past: it is on its disk. Repeated at the next start when it fails."""
        for generation in self.files.all_aside():
            if generation < position.generation:
                self._remove(self.files.aside(generation))

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("a part of the decision log that is on record cannot be removed", reason=str(error))


def _knows(file: FileIO, position: Position) -> bool:
    file.seek(position.offset - len(position.before))
    return file.read(len(position.before)) == position.before


def _gap(position: Position, generation: int, what: str) -> Parcel:
    """Read from the start of what is there now, and say so: what was only in the old file is lost."""
    return Parcel(position, b"", Position(generation), gap=what)
