"""From the log to the store, one step at a time: every line lands once, whatever ends the process in between.

Not asynchronous; `tail.py` drives it in a thread. Nothing here is ahead of the store: the mark in memory moves only
after its transaction.
"""

from __future__ import annotations

from dataclasses import replace
from io import FileIO

import structlog

from septum.audit.explain import DISAGREES
from septum.audit.files import LogFiles, size_of, whole_lines
from septum.audit.latest import Latest
from septum.audit.line import Unreadable, read_lines
from septum.audit.parse import Recorder
from septum.audit.store import Mark, Store
from septum.model.record import Record

_log = structlog.get_logger("septum.audit")
_REMEMBERED = 64
# Calls known to be open; of more than these one may be recorded as open twice.
_OPEN = 65536


# A caller may choose the request id; when its call began it may not.
Call = tuple[float, str]


class _Batch:
    """What one step takes in: entries, and lines by run. An unreadable line is counted to the run before it."""

    def __init__(self, run: str, still_open: Latest[Call, bool]) -> None:
        self.run, self._still_open = run, still_open
        self.entries: list[Record | Unreadable] = []
        self.lines: dict[str, int] = {}
        self.opened: set[Call] = set()

    def keep(self, line: Unreadable) -> None:
        """Take in a line as it is."""
        self.entries.append(line)
        self._count()

    def add(self, record: Record, run: str) -> None:
        """Take in a record, unless it only says again that a call is open, which Envoy does every few seconds."""
        self.run = run
        self._count()
        if record.open:
            call = (record.time, record.request_id)
            if call in self.opened or self._still_open.get(call):
                return
            self.opened.add(call)
        self.entries.append(record)

    def _count(self) -> None:
        self.lines[self.run] = self.lines.get(self.run, 0) + 1


class Ingest:
    """Reads generation after generation. One owner, one call at a time."""

    def __init__(self, files: LogFiles, store: Store, recorder: Recorder, chunk: int = 1 << 20) -> None:
        self.files, self._store, self._recorder, self._chunk = files, store, recorder, chunk
        self.mark, self.written = store.mark(), store.written()
        self._run = next(reversed(self.written), "")
        self._still_open = Latest[Call, bool](_OPEN)
        self._file: FileIO | None = None
        self._discard_read()

    def close(self) -> None:
        """Let go of the log; the store is the caller's."""
        if self._file:
            self._file.close()
            self._file = None

    def advance(self) -> bool:
        """Take in what is there, about one chunk at most; False when there was nothing. Raises StoreUnavailable."""
        file = self._file or self._open()
        if file is None:
            return False
        # Asked before reading: what was written until then is seen by the read.
        left = self.files.is_left(self.mark.generation)
        replaced = not left and self._replaced(file)
        data = whole_lines(file, self.mark.offset, self._chunk, last=left or replaced)
        at_end = self.mark.offset + len(data) >= size_of(file)
        if left and at_end:
            self._take(data, Mark(self.mark.generation + 1), durable=True)
            self._discard_read()
            return True
        if data:
            self._take(data, self._after(data))
        elif replaced and at_end:
            self._restart("the decision log was replaced by something other than Septum")
            return True
        return bool(data)

    def state(self) -> tuple[object, ...]:
        """The same as before means: nothing has come. By name, so that any thread may ask."""
        return self.files.state(self.mark.generation)

    def rotate(self, limit: int) -> None:
        """Set the active file aside when it has reached `limit` bytes. The writer has to be told."""
        if self._file and size_of(self._file) >= limit and self.files.is_active(self._file):
            self.files.set_aside(self.mark.generation)

    @property
    def awaits_writer(self) -> bool:
        """Whether a file is set aside and the writer is still in it."""
        return self.files.aside(self.mark.generation).exists() and not self.files.is_left(self.mark.generation)

    def behind(self) -> int:
        """Bytes of the log that are not in the store. By name, so that any thread may ask while another reads."""
        mark = self.mark
        return max(0, self.files.size(mark.generation) - mark.offset)

    def _open(self) -> FileIO | None:
        aside = self.files.all_aside()
        if aside and aside[0] > self.mark.generation:
            self._restart("a part of the decision log was removed", generation=aside[0])
        file = self.files.open(self.mark.generation)
        if file and not self._known(file):
            file.close()
            self._restart("the decision log is not the one that was read before")
            file = self.files.open(self.mark.generation)
        self._file = file
        return file

    def _known(self, file: FileIO) -> bool:
        start = self.mark.offset - len(self.mark.before)
        file.seek(start)
        return file.read(len(self.mark.before)) == self.mark.before

    def _replaced(self, file: FileIO) -> bool:
        """Whether the active name is another file now, or the file was cut."""
        if size_of(file) < self.mark.offset:
            return True
        if self.files.aside(self.mark.generation).exists() or not self.files.active.exists():
            return False
        return not self.files.is_active(file)

    def _restart(self, what: str, generation: int | None = None) -> None:
        """Read from the start of what is there now, and say so: what was only in the old file is lost."""
        self.close()
        mark = replace(
            self.mark, generation=self.mark.generation if generation is None else generation, offset=0, before=b""
        )
        self._store.write((), mark, {})
        self.mark = mark
        _log.error(f"{what}; what was not read of it is lost", generation=mark.generation)

    def _after(self, data: bytes) -> Mark:
        before = (self.mark.before + data[-_REMEMBERED:])[-_REMEMBERED:]
        return replace(self.mark, offset=self.mark.offset + len(data), before=before)

    def _take(self, data: bytes, mark: Mark, *, durable: bool = False) -> None:
        batch = _Batch(self._run, self._still_open)
        for line in (line for raw in _lines(data) for line in read_lines(raw)):
            if isinstance(line, Unreadable):
                batch.keep(line)
            else:
                batch.add(self._recorder.record(line), line.run or "")
        entries = batch.entries
        written = {run: self.written.get(run, 0) + lines for run, lines in batch.lines.items()}
        mark = replace(mark, disagreements=self.mark.disagreements + sum(map(_disagrees, entries)))
        self._store.write(entries, mark, written, durable=durable)
        self.mark, self._run = mark, batch.run
        self.written |= written
        for call in batch.opened:
            self._still_open.put(call, True)
        _report(entries)

    def _discard_read(self) -> None:
        """Remove what is read to its end: its rows are on disk. Repeated at the next start when it fails."""
        self.close()
        for generation in self.files.all_aside():
            if generation < self.mark.generation:
                self.files.aside(generation).unlink(missing_ok=True)


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _disagrees(entry: Record | Unreadable) -> bool:
    return entry.reason.startswith(DISAGREES)


def _report(entries: list[Record | Unreadable]) -> None:
    unreadable = [entry for entry in entries if isinstance(entry, Unreadable)]
    if unreadable:
        first = unreadable[0]
        _log.error(
            "lines of the decision log cannot be read; they are kept", count=len(unreadable), reason=first.reason
        )
