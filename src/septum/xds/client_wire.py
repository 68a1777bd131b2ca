"""The other side of `wire`: requests to bytes, and bytes to responses, for whoever asks a control plane as a node."""

from __future__ import annotations

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.protobuf.message import DecodeError

from septum.model.snapshot import Resource
from septum.xds.protocol import Ack, Defer, Nack, Send, Subscribe
from septum.xds.wire import DEFERRED, WireError

_INTERNAL = 13  # the code of every refusal of Envoy's


def write(message: Subscribe | Ack | Nack | Defer, node: str | None = None) -> bytes:
    """A request as bytes. The first one of a stream names the node."""
    request = DeltaDiscoveryRequest(type_url=message.type_url, node={"id": node} if node else None)
    if isinstance(message, Subscribe):
        request.resource_names_subscribe.extend(message.names)
        request.resource_names_unsubscribe.extend(message.unsubscribe)
        request.initial_resource_versions.update(message.initial_versions)
    else:
        request.response_nonce = message.nonce
    if isinstance(message, Nack):
        request.error_detail.code, request.error_detail.message = _INTERNAL, message.reason
    if isinstance(message, Defer):
        request.error_detail.code = DEFERRED
    data: bytes = request.SerializeToString()
    return data


def read(data: bytes) -> Send:
    """A response from its bytes. Raises WireError."""
    try:
        response = DeltaDiscoveryResponse.FromString(data)
    except DecodeError as error:
        raise WireError(str(error)) from None
    resources = tuple(Resource(made.name, made.version, made.resource.value) for made in response.resources)
    return Send(response.type_url, resources, tuple(response.removed_resources), response.nonce)
