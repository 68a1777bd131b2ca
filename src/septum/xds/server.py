"""Delta ADS over a Unix socket: protobuf to events and commands to protobuf, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as XdsResource
from google.protobuf.any_pb2 import Any as AnyMessage

from septum.xds.fleet import Fleet, Stream, UnknownNodeError
from septum.xds.session import Ack, Event, Nack, Send, Subscribe

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_OPTIONS = (("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", -1))


@asynccontextmanager
async def serve(socket: str, fleet: Fleet) -> AsyncIterator[None]:
    """Serve the fleet on a Unix socket (a path, relative ones included) until the block ends.

    State-of-the-world streams are answered UNIMPLEMENTED: a proxy that is not set to delta says so at once.
    """
    server = grpc.aio.server(options=_OPTIONS)

    async def stream(requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for response in _stream(fleet, requests, context):
            yield response

    handler = grpc.stream_stream_rpc_method_handler(
        stream,
        request_deserializer=DeltaDiscoveryRequest.FromString,
        response_serializer=lambda response: response,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
    )
    if server.add_insecure_port(f"unix:{socket}") == 0:
        raise OSError(f"cannot listen on {socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=0.2)


async def _stream(fleet: Fleet, requests: Any, context: Any) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[Send | None] = asyncio.Queue()
    reader = asyncio.create_task(_read(fleet, requests, context, queue))
    try:
        while (send := await queue.get()) is not None:
            yield _response(send)
        await reader
    finally:
        reader.cancel()


async def _read(fleet: Fleet, requests: Any, context: Any, queue: asyncio.Queue[Send | None]) -> None:
    stream: Stream | None = None
    try:
        async for request in requests:
            if stream is None:
                stream = fleet.open(request.node.id, lambda sends: _enqueue(queue, sends))
            for event in _events(request):
                _enqueue(queue, stream.receive(event))
    except UnknownNodeError:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"no node is called {request.node.id}")
    finally:
        if stream is not None:
            stream.close()
        queue.put_nowait(None)


def _enqueue(queue: asyncio.Queue[Send | None], sends: list[Send]) -> None:
    for send in sends:
        queue.put_nowait(send)


def _events(request: Any) -> list[Event]:
    """One request may acknowledge a response and change the subscription."""
    events: list[Event] = []
    if request.response_nonce and request.HasField("error_detail"):
        events.append(Nack(request.type_url, request.response_nonce, request.error_detail.message))
    elif request.response_nonce:
        events.append(Ack(request.type_url, request.response_nonce))
    names, leave = tuple(request.resource_names_subscribe), tuple(request.resource_names_unsubscribe)
    if names or leave or not request.response_nonce:
        events.append(Subscribe(request.type_url, names, leave, dict(request.initial_resource_versions)))
    return events


def _response(send: Send) -> bytes:
    resources = [
        XdsResource(name=r.name, version=r.version, resource=AnyMessage(type_url=send.type_url, value=r.body))
        for r in send.resources
    ]
    message = DeltaDiscoveryResponse(
        type_url=send.type_url, resources=resources, removed_resources=send.removed, nonce=send.nonce
    )
    body: bytes = message.SerializeToString()
    return body
