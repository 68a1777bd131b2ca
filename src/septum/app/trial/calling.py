"""The calls of a trial as clients make them: HTTP/1.1 as bytes, gRPC by its library, TCP by CONNECT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, assert_never

import grpc

from septum.app.trial.backends import GREETING, HEADER
from septum.model.mesh import Address, External, Mesh
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, Operation, RefusedOperation

# Seconds for one call. On loopback a decision takes a fraction of a millisecond.
_DEADLINE = 10.0
# What a proxy answers of its own accord to what it does not let through.
_DENIALS = (400, 403)


class NoAnswerError(Exception):
    """A call came to nothing that is an answer; the text says what it came to."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back. `undecided`: the proxy refused the request before any rule was asked, and has no record of it."""

    passed: bool
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One call as it is sent: `sent` is the operation as written, `token` empty for none."""

    caller: str
    target: str
    operation: Operation
    sent: str
    token: str
    id: str


class Client:
    """Calls through the outbound listeners of one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._channels: dict[tuple[str, str], Any] = {}

    async def ask(self, question: Question) -> Heard:
        """Make one call. Raises NoAnswerError."""
        try:
            async with asyncio.timeout(_DEADLINE):
                match question.operation:
                    case GrpcOperation():
                        return await self._grpc(question)
                    case ConnectOperation():
                        return await self._connect(question)
                    case HttpOperation() | RefusedOperation():
                        return await self._http(question)
                    case _:
                        assert_never(question.operation)
        except TimeoutError:
            raise NoAnswerError(f"no answer within {_DEADLINE:g} s") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise NoAnswerError(f"the proxy does not answer: {error}") from error

    async def close(self) -> None:
        """Close what is kept open."""
        for channel in self._channels.values():
            await channel.close()

    async def _http(self, question: Question) -> Heard:
        async with self._connection(question) as (reader, writer):
            upgrade = isinstance(question.operation, HttpOperation) and question.operation.websocket
            writer.write(_request(question, upgrade=upgrade))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        passed = b"\r\n" + HEADER + b":" in head
        if not passed and status not in _DENIALS:
            raise NoAnswerError(f"the proxy answers with status {status}")
        return Heard(passed, undecided=not passed and status == 400)

    async def _connect(self, question: Question) -> Heard:
        target = self._mesh.targets[question.target]
        port = target.port if isinstance(target, External) else target.at.port
        authority = f"{target.name}:{port}"
        async with self._connection(question) as (reader, writer):
            head = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {question.id}\r\n\r\n"
            writer.write(head.encode())
            status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
            if status != 200:
                if status not in _DENIALS:
                    raise NoAnswerError(f"the proxy answers CONNECT with status {status}")
                return Heard(passed=False)
            return Heard(await reader.readline() == GREETING)

    async def _grpc(self, question: Question) -> Heard:
        method = f"/{question.sent}"
        metadata = [("x-request-id", question.id), *_authorization(question)]
        call = self._channel(question).unary_unary(method)
        try:
            return Heard(await call(b"", metadata=metadata, timeout=_DEADLINE) == method.encode())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise NoAnswerError(f"the call ends with {error.code().name}: {error.details()}") from error
            return Heard(passed=False)

    def _channel(self, question: Question) -> Any:
        key = (question.caller, question.target)
        if key not in self._channels:
            address = self._outbound(question.caller)
            options = (("grpc.default_authority", question.target), ("grpc.enable_http_proxy", 0))
            self._channels[key] = grpc.aio.insecure_channel(str(address), options=options)
        return self._channels[key]

    @asynccontextmanager
    async def _connection(self, question: Question) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        address = self._outbound(question.caller)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    def _outbound(self, caller: str) -> Address:
        address = self._mesh.workloads[caller].outbound
        assert address is not None, "the stage gives one to each that a case names"
        return address


def _request(question: Question, *, upgrade: bool) -> bytes:
    headers: dict[str, str] = {"host": question.target, "x-request-id": question.id, **dict(_authorization(question))}
    if upgrade:
        headers |= {"connection": "upgrade", "upgrade": "websocket"} | _HANDSHAKE
    else:
        headers["connection"] = "close"
    lines = [f"{question.sent} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


# RFC 6455, section 1.3; the key is the one of its example.
_HANDSHAKE = {"sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}


def _authorization(question: Question) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {question.token}")] if question.token else []
