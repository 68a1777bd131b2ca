"""Protobuf to events, and responses to bytes. The only place that knows the discovery messages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as WireResource
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from septum.model.snapshot import Resource
from septum.xds.protocol import Ack, Defer, Event, Nack, Send, Subscribe

# What the code of a refusal's `google.rpc.Status` says for `Defer`. No code of gRPC's own (0 to 16), so no Envoy's.
DEFERRED = 1000


class WireError(Exception):
    """Bytes that are not a message of delta discovery."""


def read(data: bytes) -> Any:
    """A request from its bytes. Raises WireError."""
    try:
        return DeltaDiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise WireError(str(error)) from None


def events(request: Any) -> Iterator[Event]:
    """What a request says: an answer, a change of interest, or both; the answer is about what came before."""
    type_url = request.type_url
    if request.HasField("error_detail") and request.error_detail.code == DEFERRED:
        yield Defer(type_url, request.response_nonce)
    elif request.HasField("error_detail"):
        yield Nack(type_url, request.response_nonce, request.error_detail.message.strip())
    elif request.response_nonce:
        yield Ack(type_url, request.response_nonce)
    names, unsubscribe = tuple(request.resource_names_subscribe), tuple(request.resource_names_unsubscribe)
    if names or unsubscribe or not request.response_nonce:
        yield Subscribe(type_url, names, unsubscribe, dict(request.initial_resource_versions))


def write(send: Send) -> bytes:
    """A response as bytes. Concatenated protobuf messages are one merged message, so resources are encoded once."""
    frame = DeltaDiscoveryResponse(type_url=send.type_url, nonce=send.nonce, removed_resources=send.removed)
    return b"".join((frame.SerializeToString(), *(_encoded(send.type_url, resource) for resource in send.resources)))


# A change goes to many nodes within moments, and few changes at a time.
@lru_cache(maxsize=64)
def _encoded(type_url: str, resource: Resource) -> bytes:
    body = AnyMessage(type_url=type_url, value=resource.body)
    wire = WireResource(name=resource.name, version=resource.version, resource=body)
    encoded: bytes = DeltaDiscoveryResponse(resources=[wire]).SerializeToString()
    return encoded
