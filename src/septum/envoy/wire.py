"""Protobuf messages to bytes, the same bytes for the same message."""

from __future__ import annotations

import hashlib
from typing import Any

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from xds.core.v3.extension_pb2 import TypedExtensionConfig as XdsExtension

from septum.model.snapshot import Resource


def pack(message: Message) -> AnyMessage:
    """The message as an `Any`."""
    name = message.DESCRIPTOR.full_name
    return AnyMessage(type_url=f"type.googleapis.com/{name}", value=message.SerializeToString(deterministic=True))


def extension(name: str, message: Message) -> Any:
    """An extension in Envoy's own messages."""
    return TypedExtensionConfig(name=name, typed_config=pack(message))


def matching(name: str, message: Message) -> Any:
    """An extension in the matching API, which has a message of the same name and shape under `xds.core`."""
    return XdsExtension(name=name, typed_config=pack(message))


def seconds(value: float) -> Duration:
    """A protobuf Duration, exact to the microsecond."""
    micros = round(value * 1_000_000)
    return Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def resource(name: str, message: Message) -> Resource:
    """A resource whose version is the digest of its bytes."""
    return sealed(name, message.SerializeToString(deterministic=True))


def sealed(name: str, body: bytes) -> Resource:
    """The same, of a message that is bytes already."""
    return Resource(name, hashlib.sha256(body).hexdigest()[:16], body)
