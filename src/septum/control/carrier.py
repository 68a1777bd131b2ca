"""Records from agents, over the same port as everything else: each call is of the node that its certificate names."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from septum.audit.parcel import Parcel, Position, Sample
from septum.audit.receive import Receiver
from septum.audit.sink import SinkUnavailable
from septum.rpc.messages import Nothing
from septum.rpc.server import CallRefused, Operation, Peer


class Carrier:
    """The operations by which agents ship."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def operations(self) -> Mapping[str, Operation]:
        """The operations by name."""
        node = frozenset({"node"})
        return {
            "Position": Operation(node, Nothing, self.position),
            "Take": Operation(node, Parcel, self.take),
            "Account": Operation(node, Sample, self.account),
        }

    async def position(self, peer: Peer, _: Nothing) -> Position:
        """How far the node's log is in the record."""
        try:
            return await self._receiver.position(peer.name)
        except SinkUnavailable as error:
            raise _away(error) from error

    async def take(self, peer: Peer, parcel: Parcel) -> Position:
        """Store a parcel; the answer comes when it is committed."""
        try:
            return await self._receiver.take(peer.name, parcel)
        except SinkUnavailable as error:
            raise _away(error) from error

    async def account(self, peer: Peer, sample: Sample) -> Nothing:
        """Compare what the node's Envoy has counted with what is stored."""
        try:
            await self._receiver.account(peer.name, sample)
        except SinkUnavailable as error:
            raise _away(error) from error
        return Nothing()


def _away(error: SinkUnavailable) -> CallRefused:
    return CallRefused(str(error), grpc.StatusCode.UNAVAILABLE)
