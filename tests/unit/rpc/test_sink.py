"""The record as an agent reaches it: the same contract as the one in the process, over a real socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

import aio
from septum.audit.parcel import Parcel, Position, Sample
from septum.audit.sink import SinkUnavailable
from septum.rpc.client import Calls, open_channel
from septum.rpc.messages import Nothing
from septum.rpc.server import CallRefused, Operation, Peer, serve
from septum.rpc.sink import RemoteSink
from septum.xds.fleet import Fleet

SOCKET, NODE = "agents.sock", frozenset({"node"})
LINES = Parcel(Position(), b"a line\n", Position(0, 7, b"a line\n"))
SAMPLE = Sample("run", 3, 1.0, 2.0)


class Store:
    """What the control plane does with records; or what it raises."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, object]] = []
        self.raises: CallRefused | None = None

    async def position(self, peer: Peer, _: Nothing) -> Position:
        return self._note(peer, "position", Position(2, 9, b"before"))

    async def take(self, peer: Peer, parcel: Parcel) -> Position:
        return self._note(peer, parcel, parcel.end)

    async def account(self, peer: Peer, sample: Sample) -> Nothing:
        self._note(peer, sample, Position())
        return Nothing()

    def _note(self, peer: Peer, what: object, answer: Position) -> Position:
        if self.raises:
            raise self.raises
        self.taken.append((peer.name, what))
        return answer

    def operations(self) -> dict[str, Operation]:
        return {
            "Position": Operation(NODE, Nothing, self.position),
            "Take": Operation(NODE, Parcel, self.take),
            "Account": Operation(NODE, Sample, self.account),
        }


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store()


async def with_sink(store: Store, use: Callable[[RemoteSink], Awaitable[None]]) -> None:
    async with serve(Fleet(lambda: 0.0, lambda _: None), store.operations(), socket=SOCKET, local="web"):
        channel = open_channel(f"unix:{SOCKET}", None)
        await use(RemoteSink(lambda: Calls(channel, "web")))
        await channel.close()


@aio.runs
async def test_what_is_shipped_arrives_as_it_was(store: Store) -> None:
    async def use(sink: RemoteSink) -> None:
        assert await sink.position() == Position(2, 9, b"before")
        assert await sink.take(LINES) == LINES.end
        await sink.account(SAMPLE)

    await with_sink(store, use)
    assert store.taken == [("web", "position"), ("web", LINES), ("web", SAMPLE)]


@aio.runs
async def test_the_largest_parcel_there_may_be_fits(store: Store) -> None:
    data = b"x" * ((1 << 20) - 1) + b"\n"
    whole = Parcel(Position(), data, Position().after(data), durable=True, gap="a file is missing")

    async def use(sink: RemoteSink) -> None:
        assert await sink.take(whole) == whole.end

    await with_sink(store, use)
    assert store.taken == [("web", whole)]


@pytest.mark.parametrize(
    "refusal",
    [CallRefused("the disk is full", grpc.StatusCode.UNAVAILABLE), CallRefused("node web was removed")],
)
def test_what_cannot_be_taken_is_worth_asking_again(store: Store, refusal: CallRefused) -> None:
    async def use(sink: RemoteSink) -> None:
        store.raises = refusal
        for ask in (sink.position, lambda: sink.take(LINES), lambda: sink.account(SAMPLE)):
            with pytest.raises(SinkUnavailable, match=str(refusal)):
                await ask()
        store.raises = None
        assert await sink.take(LINES) == LINES.end

    aio.runs(with_sink)(store, use)  # type: ignore[arg-type]


@aio.runs
async def test_nobody_there_is_worth_asking_again(store: Store) -> None:
    channel = open_channel(f"unix:{SOCKET}", None)
    with pytest.raises(SinkUnavailable):
        await RemoteSink(lambda: Calls(channel, "web")).take(LINES)
    await channel.close()
    assert store.taken == []
