"""Whatever happens to the log and its reader, the rows are the lines: each once, in order."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.decision_log import Writer, ingest, line
from septum.audit.ingest import Ingest
from septum.audit.line import Line, Unreadable, read_lines
from septum.audit.query import Filter, Reader
from septum.audit.schema import StoreUnavailable
from septum.audit.store import Store

_STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 900)),
    st.tuples(st.just("advance"), st.just(0)),
    st.tuples(st.just("rotate"), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("crash"), st.sampled_from(["BEGIN", "INSERT", "UPDATE", "COMMIT", "unlink"])),
    st.tuples(st.just("full"), st.just(0)),
)


class Crash(BaseException):
    """The process ends here."""


class Scene:
    """A writer with many lines to write, and a reader that may end at any moment."""

    def __init__(self, directory: Path, chunk: int) -> None:
        self.directory, self.chunk = directory, chunk
        self.rest = b"".join(line(id=str(number)) for number in range(40))
        self.writer = Writer(directory)
        self.store, self.reading = self._start()

    def play(self, what: str, value: int | str) -> None:
        getattr(self, what)(value)

    def write(self, size: int) -> None:
        self.writer.write(self.rest[:size])
        self.rest = self.rest[size:]

    def advance(self, _: object) -> None:
        self.reading.advance()

    def rotate(self, _: object) -> None:
        self.reading.rotate(1)

    def reopen(self, _: object) -> None:
        """Envoy reopens only when it is told to; then its file is a line's end or not, as it comes."""
        if self.reading.awaits_writer and self.at_line_end():
            self.writer.reopen()

    def at_line_end(self) -> bool:
        """Envoy flushes whole lines before it opens the log again."""
        return self.rest.startswith(b"{") or not self.rest

    def restart(self, _: object) -> None:
        self.reading.close()
        self.store.close()
        self.store, self.reading = self._start()

    def crash(self, before: str) -> None:
        with suppress(Crash):
            failing(self.store, before, Crash(), self.reading.advance)
        self.restart(None)

    def full(self, _: object) -> None:
        """SQLite says so at any statement, and undoes the transaction by itself or not."""
        with suppress(StoreUnavailable):
            failing(self.store, "UPDATE", sqlite3.OperationalError("database or disk is full"), self.reading.advance)

    def finish(self) -> None:
        self.write(len(self.rest))
        for _ in range(3):
            while self.reading.advance():
                pass
            if self.reading.awaits_writer:
                self.writer.reopen()

    def _start(self) -> tuple[Store, Ingest]:
        store = Store(self.directory / "d.db")
        return store, ingest(self.directory, store, self.chunk)


def failing(store: Store, before: str, error: BaseException, work: Callable[[], object]) -> None:
    """Do the work, but fail before a statement of this kind, or before a file is removed."""
    real, unlink = store.connection, Path.unlink

    class Connection:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if sql.lstrip().startswith(before):
                raise error
            return real.execute(sql, *values)

        def executemany(self, sql: str, *values: object) -> sqlite3.Cursor:
            if sql.lstrip().startswith(before):
                raise error
            return real.executemany(sql, *values)  # type: ignore[arg-type]

    def removed(*_: object, **__: object) -> None:
        raise error

    store.connection = Connection()  # type: ignore[assignment]
    if before == "unlink":
        Path.unlink = removed  # type: ignore[method-assign,assignment]
    try:
        work()
    finally:
        store.connection, Path.unlink = real, unlink  # type: ignore[method-assign]


@settings(deadline=None, max_examples=150)
@given(steps=st.lists(_STEPS, max_size=40), chunk=st.sampled_from([16, 300, 1 << 20]))
def test_every_line_lands_once_and_in_order(steps: list[tuple[str, int | str]], chunk: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        scene = Scene(Path(directory), chunk)
        for what, value in steps:
            scene.play(what, value)
        scene.finish()
        rows = [row.record.request_id for row in Reader(Path(directory) / "d.db").newest(Filter(), 1000)]
        assert rows == [str(number) for number in range(40)]
        assert scene.store.totals.unreadable == 0
        assert scene.reading.written == {"": 40}
        assert [path.name for path in Path(directory).glob("*.jsonl")] == ["decisions.jsonl"]


@given(st.binary(max_size=300))
def test_no_bytes_are_dropped(raw: bytes) -> None:
    read = read_lines(raw)
    assert read
    kept = b"".join(item.line for item in read if isinstance(item, Unreadable))
    assert kept == raw or any(isinstance(item, Line) for item in read)


@given(text=st.text(max_size=60), at=st.integers(0, 400))
def test_a_line_after_a_torn_one_is_read(text: str, at: int) -> None:
    first, second = line(path=text, id=text)[:-1], line(path=text, id="second")[:-1]
    torn = first[: min(at, len(first) - 1)]
    last = read_lines(torn + second)[-1]
    assert isinstance(last, Line)
    assert (last.id, last.path) == ("second", text if text != "-" else None)
