"""The agent's way to the control plane: a gRPC channel, and calls on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import msgspec

from septum.rpc.messages import NODE_KEY, PROTOCOL, PROTOCOL_KEY, SERVICE, decode, encode

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A control plane that vanished without a word is noticed, and one that is back is found at once.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # What gRPC takes for the time that a connection may need to come about, TLS included.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Channels to one place do not share each other's pauses.
    ("grpc.use_local_subchannel_pool", 1),
)
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

M = TypeVar("M", bound=msgspec.Struct)


class ControlUnavailable(Exception):
    """The control plane does not answer now; it is worth asking again."""


class ControlRefuses(Exception):
    """The control plane answered no; asking again in the same way gives the same answer."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What a channel proves and checks: PEM. `name` is the DNS name that the control plane's certificate must have."""

    roots: bytes
    chain: bytes
    key: bytes
    name: str


def control_name(trust_domain: str) -> str:
    """The DNS name in the control plane's certificate: only the authority gives it, and to nobody else."""
    return f"septum.{trust_domain}"


def open_channel(target: str, tls: Tls | None) -> Any:
    """A channel to `HOST:PORT` with mTLS, or to `unix:PATH` without. Nothing is sent before it is used."""
    if tls is None:
        assert target.startswith("unix:"), "without TLS there is only this machine"
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.roots, tls.key, tls.chain)
    return grpc.aio.secure_channel(
        target, credentials, options=(*_OPTIONS, ("grpc.ssl_target_name_override", tls.name))
    )


class Calls:
    """Calls of the control plane's service over a channel, as one node."""

    def __init__(self, channel: Any, node: str) -> None:
        self._channel = channel
        self._metadata = ((NODE_KEY, node), (PROTOCOL_KEY, str(PROTOCOL)))

    async def call(self, method: str, message: msgspec.Struct, kind: type[M], timeout: float = 10.0) -> M:
        """One call. Raises ControlUnavailable or ControlRefuses."""
        ask = self._channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            return decode(await ask(encode(message), timeout=timeout, metadata=self._metadata), kind)
        except grpc.aio.AioRpcError as error:
            text = error.details() or error.code().name.lower()
            if error.code() in _AWAY:
                raise ControlUnavailable(text) from error
            raise ControlRefuses(text) from error
