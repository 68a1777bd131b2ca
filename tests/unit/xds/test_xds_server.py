"""The gRPC edge: bytes in and out of a fleet, over a real Unix socket."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from septum.model.snapshot import Resource, Snapshot
from septum.xds import wire
from septum.xds.fleet import Fleet
from septum.xds.protocol import Ack, Nack, Send, Subscribe
from septum.xds.server import ServeError, serve
from septum.xds.status import AllHeld
from septum.xds.types import CLUSTER

DELTA, WHOLE = (
    f"/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}AggregatedResources"
    for method in ("Delta", "Stream")
)
WITHIN = 10.0


def request(node: str = "", **fields) -> DeltaDiscoveryRequest:
    return DeltaDiscoveryRequest(type_url=CLUSTER, node={"id": node} if node else None, **fields)


def test_a_request_is_read_as_answer_then_interest():
    refused = request(response_nonce="7", error_detail={"code": 13, "message": "bad\n"})
    both = request(response_nonce="7", resource_names_subscribe=["a"], resource_names_unsubscribe=["b"])
    first = request(initial_resource_versions={"a": "1"})
    assert list(wire.events(request(response_nonce="7"))) == [Ack(CLUSTER, "7")]
    assert list(wire.events(refused)) == [Nack(CLUSTER, "7", "bad")]
    assert list(wire.events(both)) == [Ack(CLUSTER, "7"), Subscribe(CLUSTER, ("a",), ("b",))]
    assert list(wire.events(first)) == [Subscribe(CLUSTER, (), (), {"a": "1"})]


def test_a_response_is_one_message_with_its_resources_in_order():
    resources = (Resource("a", "1", b"A"), Resource("b", "2", b"B"))
    response = DeltaDiscoveryResponse.FromString(wire.write(Send(CLUSTER, resources, ("gone",), "7")))
    assert (response.type_url, response.nonce, list(response.removed_resources)) == (CLUSTER, "7", ["gone"])
    assert [(r.name, r.version, r.resource.type_url, r.resource.value) for r in response.resources] == [
        ("a", "1", CLUSTER, b"A"),
        ("b", "2", CLUSTER, b"B"),
    ]


class Client:
    """A fleet being served, and a channel to it."""

    def __init__(self, fleet: Fleet, channel: grpc.aio.Channel) -> None:
        self.fleet = fleet
        self.channel = channel

    def call(self, method: str = DELTA):
        return self.channel.stream_stream(
            method,
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )(timeout=WITHIN)

    async def refused(self, call, first: object = None) -> tuple[grpc.StatusCode, str]:
        """How a call ends that is answered by nothing else."""
        if first is not None:
            await call.write(first)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        return ended.value.code(), ended.value.details()


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    with tempfile.TemporaryDirectory(prefix="sx-", dir="/tmp") as directory:
        fleet, path = Fleet(lambda: 0.0, lambda happening: None), f"{directory}/xds.sock"
        fleet.publish("n", Snapshot("s1", {CLUSTER: {"a": Resource("a", "1", b"A")}}))
        async with serve(path, fleet), grpc.aio.insecure_channel(f"unix:{path}") as channel:
            yield Client(fleet, channel)


def run(test) -> None:
    async def main() -> None:
        async with client() as connected:
            await test(connected)

    asyncio.run(main())


def test_a_subscription_is_answered_and_the_answer_held():
    async def test(connected: Client) -> None:
        call = connected.call()
        await call.write(request("n"))
        response = await call.read()
        assert response.resources[0].resource.value == b"A"
        await call.write(request(response_nonce=response.nonce))
        assert await connected.fleet.settled(["n"], "s1", WITHIN) == {"n": AllHeld("s1")}
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert connected.fleet.status()[0].connected is False

    run(test)


def test_an_unknown_node_is_denied():
    async def test(connected: Client) -> None:
        assert await connected.refused(connected.call(), request("stranger")) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "no node is called 'stranger'",
        )

    run(test)


def test_state_of_the_world_is_unimplemented():
    async def test(connected: Client) -> None:
        code, details = await connected.refused(connected.call(WHOLE))
        assert code == grpc.StatusCode.UNIMPLEMENTED
        assert "DELTA_GRPC" in details

    run(test)


def test_bytes_that_are_no_request_end_the_call_before_and_after_the_first():
    async def test(connected: Client) -> None:
        assert (await connected.refused(connected.call(), b"\xff\xff"))[0] == grpc.StatusCode.INVALID_ARGUMENT
        call = connected.call()
        await call.write(request("n"))
        await call.read()
        assert (await connected.refused(call, b"\xff\xff"))[0] == grpc.StatusCode.INVALID_ARGUMENT

    run(test)


def test_a_second_stream_of_a_node_ends_the_first():
    async def test(connected: Client) -> None:
        first, second = connected.call(), connected.call()
        await first.write(request("n"))
        await first.read()
        await second.write(request("n"))
        assert (await connected.refused(first))[0] == grpc.StatusCode.ABORTED
        assert (await second.read()).resources[0].name == "a"
        assert connected.fleet.status()[0].connected

    run(test)


def test_leaving_ends_every_stream_before_it_returns():
    async def main() -> None:
        async with client() as connected:
            call = connected.call()
            await call.write(request("n"))
            await call.read()
        assert connected.fleet.status()[0].connected is False

    asyncio.run(main())


def test_the_socket_is_its_owners_and_not_taken_from_a_living_process():
    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="sx-", dir="/tmp") as directory:
            path, fleet = Path(directory) / "xds.sock", Fleet(lambda: 0.0, lambda happening: None)
            async with serve(str(path), fleet):
                assert path.stat().st_mode & 0o777 == 0o600
                with pytest.raises(ServeError, match="another process serves it"):
                    async with serve(str(path), fleet):
                        pass
                assert path.exists()

    asyncio.run(main())


def test_a_path_that_no_socket_can_have_is_an_error_with_the_reason():
    async def main() -> None:
        with pytest.raises(ServeError, match="too long"):
            async with serve("/tmp/" + "x" * 120, Fleet(lambda: 0.0, lambda happening: None)):
                pass

    asyncio.run(main())


def test_a_path_relative_to_the_working_directory_works(monkeypatch, tmp_path):
    async def main() -> None:
        async with serve("xds.sock", Fleet(lambda: 0.0, lambda happening: None)):
            assert (tmp_path / "xds.sock").is_socket()

    monkeypatch.chdir(tmp_path)
    asyncio.run(main())
