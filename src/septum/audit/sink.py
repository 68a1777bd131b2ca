"""Where a node ships its log to, as its agent sees it: one store, at hand or across a network."""

from __future__ import annotations

from typing import Protocol

from septum.audit.parcel import Parcel, Position, Sample


class SinkUnavailable(Exception):
    """Nothing can be taken now: the control plane is away, or its disk is full. It is worth asking again."""


class Sink(Protocol):
    """Takes a node's log. Each call may raise SinkUnavailable; then it may have happened or not."""

    async def position(self) -> Position:
        """How far the node's log is in the record; asked before the first parcel, and after each failure."""
        ...

    async def take(self, parcel: Parcel) -> Position:
        """Store a parcel that starts where the record is. Returns, once that is committed, where the record is.

        A parcel that starts elsewhere changes nothing, and the same is returned: the node goes on from there.
        """
        ...

    async def account(self, sample: Sample) -> None:
        """Compare what Envoy has counted with what is stored."""
        ...
