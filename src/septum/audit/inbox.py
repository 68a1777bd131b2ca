"""From one node's parcels to the store: every line lands once, whatever ends either side in between.

Not asynchronous; `receive.py` drives it in a thread. Nothing here is ahead of the store: what is in memory moves only
after its transaction.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from septum.audit.account import Account, Loss
from septum.audit.explain import DISAGREES
from septum.audit.latest import Latest
from septum.audit.line import Unreadable, read_lines
from septum.audit.parcel import Kept, Parcel, Sample
from septum.audit.parse import Recorder
from septum.audit.store import Store
from septum.model.record import Record

_log = structlog.get_logger("septum.audit")
# Calls known to be open; of more than these one may be recorded as open twice.
_OPEN = 65536
# Seconds within which a decision is surely in the log: Envoy flushes it every 50 ms.
GRACE = 1.0

# Why a node cannot have made this decision, or nothing. What it cannot have made is kept, but not as a record.
MayShip = Callable[[str, Record], str]

# A caller may choose the request id; when its call began it may not.
Call = tuple[float, str]


class Inbox:
    """Takes in what one node ships. One owner, one call at a time."""

    def __init__(
        self, node: str, store: Store, recorder: Recorder, may_ship: MayShip | None = None, grace: float = GRACE
    ) -> None:
        self._node, self._store, self._recorder, self._may_ship, self._grace = node, store, recorder, may_ship, grace
        self._still_open = Latest[Call, bool](_OPEN)
        self._load()

    def _load(self) -> None:
        self.position, self.written = self._store.position(self._node), self._store.written(self._node)
        self._run = next(reversed(self.written), "")
        self._account = Account(self._grace, self._store.lost(self._node))

    def take(self, parcel: Parcel) -> None:
        """Store a parcel that starts at the position, and move it; any other changes nothing. Raises StoreUnavailable.

        A node is the one whose log was read before names were kept when its log goes on where that one ended.
        """
        if parcel.start != self.position:
            return
        if not parcel.gap and self._store.claim(self._node):
            self._load()
        batch = _Batch(self._run, self._still_open)
        self._read(parcel.data, batch)
        disagreements, lines = sum(map(_disagrees, batch.entries)), batch.lines()
        self._store.write(
            self._node, batch.entries, parcel.end, lines, disagreements=disagreements, durable=parcel.durable
        )
        self.position, self._run = parcel.end, batch.run
        for run, count in lines.items():
            self.written[run] = self.written.get(run, 0) + count
        for call in batch.opened:
            self._still_open.put(call, True)
        self._report(parcel, batch.entries)

    def account(self, sample: Sample) -> None:
        """Compare what Envoy has counted with what is stored, and keep what is lost. Raises StoreUnavailable."""
        for loss in self._account.receive(sample, self.written):
            self._note(loss)

    def kept(self) -> Kept:
        """What the record has of the node."""
        totals = self._store.totals(self._node)
        return Kept(totals.records, totals.unreadable, self._account.lost, totals.disagreements, totals.last)

    def _read(self, data: bytes, batch: _Batch) -> None:
        record, node, may_ship = self._recorder.record, self._node, self._may_ship
        for raw in _lines(data):
            for line in read_lines(raw):
                if isinstance(line, Unreadable):
                    batch.keep(line)
                    continue
                batch.begin(line.run or "")
                made = record(line, node)
                if may_ship and (why_not := may_ship(node, made)):
                    batch.keep(Unreadable(raw, why_not))
                else:
                    batch.add(made)

    def _note(self, loss: Loss) -> None:
        lost = loss.expected - loss.written
        _log.error("decisions were made that never reached the log", node=self._node, run=loss.run, lost=lost)
        self._store.note_loss(self._node, loss.run, loss.expected, loss.written)

    def _report(self, parcel: Parcel, entries: list[Record | Unreadable]) -> None:
        if parcel.gap:
            what = f"{parcel.gap}; what was not read of it is lost"
            _log.error(what, node=self._node, generation=parcel.end.generation)
        unreadable = [entry for entry in entries if isinstance(entry, Unreadable)]
        if unreadable:
            what, first = "lines of the decision log cannot be read; they are kept", unreadable[0]
            _log.error(what, node=self._node, count=len(unreadable), reason=first.reason)


class _Batch:
    """What one parcel holds: entries, and lines by run. An unreadable line is counted to the run before it."""

    def __init__(self, run: str, still_open: Latest[Call, bool]) -> None:
        self.run, self._still_open = run, still_open
        self.entries: list[Record | Unreadable] = []
        self.opened: set[Call] = set()
        self._lines: dict[str, int] = {}
        self._of_run = 0

    def begin(self, run: str) -> None:
        """What comes next is of this run."""
        if run != self.run:
            self.lines()
            self.run = run

    def keep(self, line: Unreadable) -> None:
        """Take in a line as it is."""
        self._of_run += 1
        self.entries.append(line)

    def add(self, record: Record) -> None:
        """Take in a record, unless it only says again that a call is open, which Envoy does every few seconds."""
        self._of_run += 1
        if record.open:
            call = (record.time, record.request_id)
            if call in self.opened or self._still_open.get(call):
                return
            self.opened.add(call)
        self.entries.append(record)

    def lines(self) -> dict[str, int]:
        """The lines until now, by run."""
        if self._of_run:
            self._lines[self.run] = self._lines.get(self.run, 0) + self._of_run
            self._of_run = 0
        return self._lines


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _disagrees(entry: Record | Unreadable) -> bool:
    return entry.reason.startswith(DISAGREES)
