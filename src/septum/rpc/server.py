"""The control plane's port for agents: gRPC with mTLS over TCP, the same without TLS on a socket of this machine.

Whoever calls is known by its certificate alone (`Peer`); the Unix socket, which this user alone reaches, is one node's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec

from septum.rpc.messages import NODE_KEY, PROTOCOL, PROTOCOL_KEY, SERVICE, decode, encode
from septum.xds.fleet import Fleet
from septum.xds.server import OPTIONS, handlers

# The port's key, its chain and the roots it trusts (PEM); gRPC asks for them at each handshake, in a thread of its own.
Credentials = Callable[[], tuple[bytes, bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls: the kind of identity (`node`, `join`) and its name. `certificate` is PEM, or empty on the socket."""

    kind: str
    name: str
    certificate: bytes = b""


class CallRefused(Exception):
    """A call that is not answered; the text tells the caller why, and what to do."""

    def __init__(self, text: str, status: grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED) -> None:
        super().__init__(text)
        self.status = status


Method = Callable[[Peer, Any], Awaitable[msgspec.Struct]]
# A PEM certificate to whom it names now; raises CallRefused, for one that was revoked or has ended among others.
Recognise = Callable[[bytes], Peer]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of the service: the kinds of peer that may call it, and what it takes."""

    kinds: frozenset[str]
    takes: type[msgspec.Struct]
    method: Method


@asynccontextmanager
async def serve(
    fleet: Fleet,
    operations: Mapping[str, Operation],
    *,
    socket: str = "",
    local: str = "",
    address: str = "",
    credentials: Credentials | None = None,
    recognise: Recognise | None = None,
) -> AsyncIterator[None]:
    """Serve xDS and the operations on a Unix socket to the node `local`, or on a TCP address with mTLS to any.

    Raises OSError when the port or the socket cannot be had.
    """
    server = grpc.aio.server(options=(*OPTIONS, ("grpc.so_reuseport", 0)))
    calls: set[asyncio.Task[None]] = set()
    peers = _Peers(recognise, local)
    server.add_generic_rpc_handlers((handlers(fleet, calls, peers.stream), _service(operations, peers)))
    try:
        _bind(server, socket, address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen at {socket or address}: {error}") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)
        if calls:
            await asyncio.wait(calls)


def _bind(server: Any, socket: str, address: str, credentials: Credentials | None) -> None:
    if socket:
        server.add_insecure_port(f"unix:{socket}")
        Path(socket).chmod(0o600)
        return
    assert credentials is not None, "a TCP port without TLS is never opened"

    server.add_secure_port(address, _following(credentials))


def _following(credentials: Credentials) -> Any:
    """What the port proves and trusts, looked up at each handshake.

    None says that it is as it was. gRPC may crash when it takes another configuration while a second handshake begins
    (grpc/grpc#36693), so it is given one only when there is one.
    """
    served = credentials()

    def configured(made: tuple[bytes, bytes, bytes]) -> Any:
        key, chain, roots = made
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def renewed() -> Any:
        nonlocal served
        if (now := credentials()) == served:
            return None
        served = now
        return configured(now)

    return grpc.dynamic_ssl_server_credentials(configured(served), renewed, require_client_authentication=True)


class _Peers:
    """Tells who calls."""

    def __init__(self, recognise: Recognise | None, local: str) -> None:
        self._recognise, self._local = recognise, local

    def of(self, context: Any) -> Peer:
        certificate = context.auth_context().get("x509_pem_cert", [b""])[0]
        if self._recognise is not None:
            return self._recognise(certificate)
        said = dict(context.invocation_metadata() or ()).get(NODE_KEY, "")
        if said != self._local:
            raise CallRefused(
                f"this socket is for the agent of {self._local or 'nobody'}, and not of {said or 'nobody'}"
            )
        return Peer("node", said)

    def stream(self, first: Any, context: Any) -> str | None:
        """The node of an xDS stream: the one its certificate names, which it must also say it is."""
        said = str(first.node.id)
        if self._recognise is None:
            return said if said == self._local else None
        try:
            peer = self.of(context)
        except CallRefused:
            return None
        return said if peer.kind == "node" and peer.name == said else None


def _service(operations: Mapping[str, Operation], peers: _Peers) -> Any:
    def handler(operation: Operation) -> Any:
        async def answer(data: bytes, context: Any) -> bytes:
            try:
                return encode(await _answered(operation, peers, data, context))
            except CallRefused as refused:
                await context.abort(refused.status, str(refused))
            except msgspec.MsgspecError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a {operation.takes.__name__}: {error}")
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(answer)

    return grpc.method_handlers_generic_handler(SERVICE, {name: handler(op) for name, op in operations.items()})


async def _answered(operation: Operation, peers: _Peers, data: bytes, context: Any) -> msgspec.Struct:
    spoken = dict(context.invocation_metadata() or ()).get(PROTOCOL_KEY, "")
    if spoken != str(PROTOCOL):
        text = f"this control plane speaks protocol {PROTOCOL}, the agent {spoken or 'none'}: install the same Septum"
        raise CallRefused(text, grpc.StatusCode.FAILED_PRECONDITION)
    peer = peers.of(context)
    if peer.kind not in operation.kinds:
        raise CallRefused(f"a {peer.kind} certificate is not for this call")
    return await operation.method(peer, decode(data, operation.takes))
