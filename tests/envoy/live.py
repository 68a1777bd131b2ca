"""Calls that last, of every kind: each says whether it still lives, and when it ended."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from queue import SimpleQueue
from typing import Any, Protocol

import grpc
from backends import GREETING, GrpcEcho, HttpEcho, TcpGreeter, WebSocketEcho, echo
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from septum.model.mesh import Address


class Live(Protocol):
    """A call that lasts."""

    def alive(self) -> bool:
        """Whether something sent now is answered, or more comes."""

    def close(self) -> None:
        """End it from the caller's side."""


class Stream:
    """An HTTP/1.1 response that goes on: a chunk every 20 ms."""

    def __init__(self, port: int, target: str) -> None:
        self._wire = socket.create_connection(("127.0.0.1", port), 10)
        self._wire.sendall(f"GET /stream HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
        assert b" 200 " in self._wire.recv(4096).split(b"\r\n")[0]

    def alive(self) -> bool:
        try:
            return bool(self._wire.recv(65536))
        except ConnectionError:
            return False

    def close(self) -> None:
        self._wire.close()


class WebSocket:
    def __init__(self, port: int, target: str) -> None:
        wire = socket.create_connection(("127.0.0.1", port), 10)
        self._session = connect(
            f"ws://{target}/socket", sock=wire, compression=None, proxy=None, close_timeout=0.1, legacy=True
        )
        assert self.alive()

    def alive(self) -> bool:
        try:
            self._session.send("ping")
            return self._session.recv(5) == "ping"
        except (ConnectionClosed, OSError):
            return False

    def close(self) -> None:
        self._session.close()


class GrpcStream:
    def __init__(self, port: int, target: str) -> None:
        options = (("grpc.default_authority", target), ("grpc.enable_http_proxy", 0))
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._sent: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers: Any = self._channel.stream_stream("/test.Echo/Chat")(iter(self._sent.get, None))
        assert self.alive()

    def alive(self) -> bool:
        self._sent.put(b"x")
        try:
            return bool(next(self._answers) == b"re: x")
        except (grpc.RpcError, StopIteration):
            return False

    def close(self) -> None:
        self._sent.put(None)
        self._channel.close()


class Session:
    """TCP that speaks first, by an address (`dials`) or, with an authority, by CONNECT."""

    def __init__(self, port: int, authority: str = "") -> None:
        self._wire = socket.create_connection(("127.0.0.1", port), 10)
        if authority:
            self._wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
        received = b""
        while not received.endswith(GREETING):
            data = self._wire.recv(4096)
            assert data, received
            received += data

    def alive(self) -> bool:
        try:
            self._wire.sendall(b"ping")
            return self._wire.recv(100) == b"ping"
        except OSError:
            return False

    def close(self) -> None:
        self._wire.close()


def ended(call: Live, within: float) -> float:
    """Seconds until a call ended. Fails when it is still alive after `within`."""
    began = time.monotonic()
    while call.alive():
        assert time.monotonic() - began < within, f"{type(call).__name__} is still alive after {within} s"
        threading.Event().wait(0.02)
    return time.monotonic() - began


def lasts(call: Live, seconds: float = 0.5) -> bool:
    """Whether a call goes on for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not call.alive():
            return False
        threading.Event().wait(0.02)
    return True


def _stream_or_echo(handler: BaseHTTPRequestHandler) -> None:
    if handler.path != "/stream":
        echo(handler)
        return
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"5\r\nhello\r\n")
            handler.wfile.flush()
            threading.Event().wait(0.02)
    except OSError:
        handler.close_connection = True


@contextmanager
def lasting_backends() -> Iterator[Mapping[str, Address]]:
    """Addresses of `http`, `socket`, `grpc` and `tcp` backends that keep a call open."""
    with ExitStack() as stack:
        made = {"http": HttpEcho(_stream_or_echo), "socket": WebSocketEcho(), "grpc": GrpcEcho(), "tcp": TcpGreeter()}
        yield {name: Address.parse(stack.enter_context(backend).address) for name, backend in made.items()}


# Kind → (port of the caller's outbound listener, of its dial, authority of the target) → the call.
KINDS: dict[str, tuple[str, Callable[[int, int, str], Live]]] = {
    "stream": ("http", lambda outbound, dial, target: Stream(outbound, target)),
    "websocket": ("socket", lambda outbound, dial, target: WebSocket(outbound, target)),
    "grpc": ("grpc", lambda outbound, dial, target: GrpcStream(outbound, target)),
    "connect": ("tcp", lambda outbound, dial, target: Session(outbound, target)),
    "dial": ("tcp", lambda outbound, dial, target: Session(dial)),
}
