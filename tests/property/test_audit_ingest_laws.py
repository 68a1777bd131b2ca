"""Whatever happens to a node's log, its agent, the store and the way between, the rows are the lines: each once."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.decision_log import Writer, line, recorder
from septum.audit.files import LogFiles
from septum.audit.inbox import Inbox
from septum.audit.line import Line, Unreadable, read_lines
from septum.audit.parcel import Parcel
from septum.audit.query import Filter, Reader
from septum.audit.reading import Reading
from septum.audit.schema import StoreUnavailable
from septum.audit.store import Store

NODES = ("alpha", "beta")
LINES = 40

_WHAT = {
    "write": st.integers(1, 900),
    "ship": st.integers(1, 4),
    "rotate": st.booleans(),
    "reopen": st.just(0),
    "agent_restarts": st.booleans(),
    "parcel_is_lost": st.just(0),
    "answer_is_lost": st.just(0),
    "parcel_comes_again": st.integers(0, 1000),
    "files_stay": st.just(0),
    "agent_crashes": st.sampled_from(["unlink", "rename"]),
    "store_crashes": st.sampled_from(["BEGIN", "INSERT", "COMMIT"]),
    "store_is_full": st.sampled_from(["INSERT", "COMMIT"]),
}
_OFTEN = ["write", "ship", "rotate"]
_STEPS = st.sampled_from([*_OFTEN, *_OFTEN, *_OFTEN, *sorted(_WHAT)]).flatmap(
    lambda what: st.tuples(st.sampled_from(NODES), st.just(what), _WHAT[what])
)


class Crash(BaseException):
    """The process ends here."""


class Control:
    """The store, which may end at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.restart()

    def restart(self) -> None:
        """Whatever was in memory is gone."""
        self.store = Store(self._path)
        self.inboxes = {node: Inbox(node, self.store, recorder()) for node in NODES}


class Node:
    """A writer with many lines to write, and an agent that may end at any moment."""

    def __init__(self, name: str, directory: Path, chunk: int, control: Control) -> None:
        self.name, self.directory, self.chunk, self.control = name, directory, chunk, control
        self.rest = b"".join(line(id=f"{name}{number}", node=name) for number in range(LINES))
        self.writer = Writer(directory)
        self.reading = Reading(LogFiles(directory), chunk)
        self.sent: list[Parcel] = []

    @property
    def inbox(self) -> Inbox:
        return self.control.inboxes[self.name]

    def write(self, size: int) -> None:
        self.writer.write(self.rest[:size])
        self.rest = self.rest[size:]

    def ship(self, parcels: int) -> None:
        for _ in range(parcels):
            self.step()

    def step(self) -> bool:
        parcel = self._next()
        if parcel:
            self.inbox.take(parcel)
            self.reading.resume(self.inbox.position)
        return parcel is not None

    def rotate(self, and_reopen: bool) -> None:
        """Also before the store was asked where it is."""
        self.reading.rotate(1)
        if and_reopen:
            self.reopen()

    def reopen(self, _: object = 0) -> None:
        """Envoy opens its log again when it is told to, and flushes whole lines before."""
        if self.reading.awaits_writer:
            if not self.rest.startswith(b"{"):
                self.write(self.rest.find(b"\n") + 1)
            self.writer.reopen()

    def agent_restarts(self, asks: bool) -> None:
        """The store may be away when the agent comes back."""
        self.reading.close()
        self.reading = Reading(LogFiles(self.directory), self.chunk)
        if asks:
            self.reading.resume(self.inbox.position)

    def parcel_is_lost(self, _: object) -> None:
        self._next()
        self._ask_again()

    def answer_is_lost(self, _: object) -> None:
        if parcel := self._next():
            self.inbox.take(parcel)
            self._ask_again()

    def parcel_comes_again(self, which: int) -> None:
        """The last one, or any before it."""
        if self.sent:
            self.inbox.take(self.sent[which % len(self.sent)])
            self._ask_again()

    def files_stay(self, _: object) -> None:
        """What cannot be removed stops nothing."""
        with failing_path("unlink", OSError("read-only file system")):
            self.step()

    def agent_crashes(self, at: str) -> None:
        with suppress(Crash), failing_path(at, Crash()):
            self.step()
            self.reading.rotate(1)
        self.agent_restarts(True)

    def store_crashes(self, before: str) -> None:
        with suppress(Crash):
            failing(self.control.store, before, Crash(), self.step)
        self.control.restart()
        self._ask_again()

    def store_is_full(self, at: str) -> None:
        """SQLite says so at any statement, and undoes the transaction by itself or not."""
        with suppress(StoreUnavailable):
            failing(self.control.store, at, sqlite3.OperationalError("database or disk is full"), self.step)
        self._ask_again()

    def finish(self) -> None:
        self.write(len(self.rest))
        for _ in range(3):
            while self.step():
                pass
            if self.reading.awaits_writer:
                self.writer.reopen()
        self.agent_restarts(True)  # removes what could not be removed before

    def _next(self) -> Parcel | None:
        if self.reading.position is None:
            self._ask_again()
        parcel = self.reading.next()
        if parcel:
            assert parcel.gap == "", "nothing was taken away"
            self.sent.append(parcel)
        return parcel

    def _ask_again(self) -> None:
        self.reading.close()
        self.reading.resume(self.inbox.position)


def failing(store: Store, before: str, error: BaseException, work: Callable[[], object]) -> None:
    """Do the work, but fail before a statement of this kind."""
    real = store.connection

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

    store.connection = Connection()  # type: ignore[assignment]
    try:
        work()
    finally:
        store.connection = real


@contextmanager
def failing_path(what: str, error: BaseException) -> Iterator[None]:
    """Files cannot be removed, or not be renamed."""
    real = getattr(Path, what)

    def fail(*_: object, **__: object) -> None:
        raise error

    setattr(Path, what, fail)
    try:
        yield
    finally:
        setattr(Path, what, real)


@settings(deadline=None, max_examples=100)
@given(steps=st.lists(_STEPS, min_size=25, max_size=80), chunk=st.sampled_from([16, 300, 1 << 20]))
def test_every_line_of_every_node_lands_once_and_in_order(steps: list[tuple[str, str, int | str]], chunk: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        control = Control(Path(directory) / "d.db")
        nodes = {name: Node(name, made(Path(directory) / name), chunk, control) for name in NODES}
        for name, what, value in steps:
            getattr(nodes[name], what)(value)
        for node in nodes.values():
            node.finish()
        rows = [row.record for row in Reader(Path(directory) / "d.db").newest(Filter(), 1000)]
        for name, node in nodes.items():
            assert [row.request_id for row in rows if row.node == name] == [f"{name}{n}" for n in range(LINES)]
            assert control.store.totals(name).records == LINES
            assert control.store.totals(name).unreadable == control.store.totals(name).disagreements == 0
            assert node.inbox.written == control.store.written(name) == {"": LINES}
            assert [path.name for path in node.directory.iterdir()] == ["decisions.jsonl"]


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


_VALUE = st.one_of(st.none(), st.text(max_size=20), st.integers(), st.floats(), st.booleans())
_HOSTILE = st.dictionaries(
    st.sampled_from([field for field in Line.__struct_fields__ if field != "t"]), _VALUE, max_size=12
)


@settings(deadline=None)
@given(fields=_HOSTILE, time=st.one_of(st.floats(), st.text(max_size=5)), noise=st.binary(max_size=50))
def test_no_line_of_a_node_stops_the_store(fields: dict[str, object], time: object, noise: bytes) -> None:
    """What a hostile node ships is a record, or is kept as it is, and the next line is read."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "d.db")
        inbox = Inbox("alpha", store, recorder())
        data = json.dumps({"t": time} | fields).encode() + b"\n" + noise + b"\n" + line(id="last", node="alpha")
        inbox.take(Parcel(inbox.position, data, inbox.position.after(data)))
        row = Reader(Path(directory) / "d.db").newest(Filter(), 1)[0]
        assert (row.record.request_id, row.record.node) == ("last", "alpha")
        assert sum(inbox.written.values()) >= 3


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
