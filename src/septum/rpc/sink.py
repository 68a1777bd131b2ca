"""The record as an agent reaches it: calls of the control plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from septum.audit.parcel import Parcel, Position, Sample
from septum.audit.sink import SinkUnavailable
from septum.rpc.client import Calls, ControlRefuses, ControlUnavailable
from septum.rpc.messages import Nothing

M = TypeVar("M", bound=msgspec.Struct)
_TIMEOUT = 30.0  # seconds


class RemoteSink:
    """`septum.audit.sink.Sink` over the channel of each moment."""

    def __init__(self, calls: Callable[[], Calls]) -> None:
        self._calls = calls

    async def position(self) -> Position:
        """How far the node's log is in the record."""
        return await self._call("Position", Nothing(), Position)

    async def take(self, parcel: Parcel) -> Position:
        """Store a parcel."""
        return await self._call("Take", parcel, Position)

    async def account(self, sample: Sample) -> None:
        """Compare what Envoy has counted with what is stored."""
        await self._call("Account", sample, Nothing)

    async def _call(self, method: str, message: msgspec.Struct, kind: type[M]) -> M:
        try:
            return await self._calls().call(method, message, kind, _TIMEOUT)
        except (ControlUnavailable, ControlRefuses) as error:
            raise SinkUnavailable(str(error)) from error
