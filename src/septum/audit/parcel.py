"""What a node's agent ships, as values: pieces of the decision log, positions in it, and counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from septum.audit.line import Count

# The most that is shipped at once. Envoy's lines are far shorter: it takes 60 KiB of headers.
MOST = 1 << 20
REMEMBERED = 64


class Position(msgspec.Struct, frozen=True):
    """A place in a node's log: how far it is in the record.

    `generation` counts the files of the log and `offset` the bytes of that one; `before` is the end of what stands
    before it, by which the file is known again.
    """

    generation: Count = 0
    offset: Count = 0
    before: Annotated[bytes, msgspec.Meta(max_length=REMEMBERED)] = b""

    def after(self, data: bytes) -> Position:
        """The place behind bytes that were read from here."""
        before = (self.before + data[-REMEMBERED:])[-REMEMBERED:]
        return Position(self.generation, self.offset + len(data), before)


class Parcel(msgspec.Struct, frozen=True):
    """Whole lines of the log as they stand there, from `start` on; whoever has stored them goes on at `end`.

    With `durable` the log's file is removed once the parcel is taken, so it has to be on the disk. `gap` is why the log
    goes on elsewhere than where it ended, or empty: what lay between is lost.
    """

    start: Position
    data: Annotated[bytes, msgspec.Meta(max_length=MOST)]
    end: Position
    durable: bool = False
    gap: Annotated[str, msgspec.Meta(max_length=200)] = ""

    def pieces(self, lines: int) -> Iterator[Parcel]:
        """The same as several parcels of at most so many lines, each of which goes on where the one before ends."""
        start, begin = self.start, 0
        while self.data.count(b"\n", begin) > lines:
            end = begin
            for _ in range(lines):
                end = self.data.index(b"\n", end) + 1
            piece = self.data[begin:end]
            yield Parcel(start, piece, start.after(piece))
            start, begin = start.after(piece), end
        yield Parcel(start, self.data[begin:], self.end, self.durable, self.gap)


class Sample(msgspec.Struct, frozen=True):
    """The decisions that one run of Envoy had counted when it was `asked`, and when the log was `read` to its end.

    Both are seconds of the node's monotonic clock, and what was read until then was taken before the sample is.
    """

    run: str
    decisions: Count
    asked: float
    read: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a node's shipping stands. `behind` is in bytes of the log that wait.

    `stalled` is why nothing can be shipped now, or empty, and `since` when that began (seconds since 1970).
    """

    behind: int = 0
    stalled: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the record has of a node: records, lines that cannot be read, decisions known to be lost.

    `disagreements` counts the records about which the policy says otherwise than the proxy, or the node than its
    certificate; `last` is the time of the last record.
    """

    ingested: int = 0
    unreadable: int = 0
    lost: int = 0
    disagreements: int = 0
    last: float | None = None
