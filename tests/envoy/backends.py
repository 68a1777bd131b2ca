"""Small services in threads of the test: they know nothing of Septum, and remember what reached them.

Each is a context manager with an `address`, and listens on loopback before its block begins.
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import grpc
from websockets.sync.server import Server as WebSocketServer
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

GREETING = b"220 ready\r\n"


class _Threaded:
    """A server whose `serve_forever` runs in a thread while the block runs."""

    server: socketserver.BaseServer | WebSocketServer

    def _listen(self, server: Any, address: tuple[str, int]) -> None:
        self.server, self.port = server, address[1]
        self.address = f"{address[0]}:{address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.server.shutdown()
        self._thread.join()
        if isinstance(self.server, socketserver.BaseServer):
            self.server.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class HttpEcho(_Threaded):
    """HTTP/1.1. Answers with what was asked, as JSON; `respond` answers in another way.

    `respond` gets the handler of the standard library, after `seen` has noted (method, path).
    """

    def __init__(self, respond: Callable[[BaseHTTPRequestHandler], None] | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        outer, answer = self, respond or echo

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                outer.seen.append((self.command, self.path))
                answer(self)
                self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is printed."""

        server = _HttpServer(("127.0.0.1", 0), Handler)
        self._listen(server, server.server_address)


def echo(handler: BaseHTTPRequestHandler) -> None:
    """The request as JSON, its headers as pairs."""
    body = read_body(handler)
    value = {
        "method": handler.command,
        "path": handler.path,
        "headers": [[name.lower(), value] for name, value in handler.headers.items()],
        "body": body.decode("latin-1"),
    }
    answer(handler, json.dumps(value).encode(), "application/json")


def answer(handler: BaseHTTPRequestHandler, body: bytes, kind: str = "application/octet-stream") -> None:
    """A whole response with a length."""
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The whole body of a request."""
    return b"".join(read_chunks(handler))


def read_chunks(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    """The body piece by piece, as it was sent when it is chunked."""
    if handler.headers.get("transfer-encoding", "").lower() != "chunked":
        yield handler.rfile.read(int(handler.headers.get("content-length", 0)))
        return
    while size := int(handler.rfile.readline(), 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()


class TcpGreeter(_Threaded):
    """Speaks first, as SMTP and MySQL do, and then sends back what comes.

    `sessions` counts who connected, `open` those that are still there.
    """

    def __init__(self) -> None:
        self.sessions = self.open = 0
        self.counting = threading.Lock()
        outer = self

        class Session(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with outer.counting:
                    outer.sessions += 1
                    outer.open += 1
                try:
                    self.request.sendall(GREETING)
                    while data := self.request.recv(65536):
                        self.request.sendall(data)
                finally:
                    with outer.counting:
                        outer.open -= 1

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 1024

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that goes away is no news."""

        server = Server(("127.0.0.1", 0), Session)
        self._listen(server, server.server_address)


class TcpResetter(_Threaded):
    """Takes connections, and resets each as soon as something comes in."""

    def __init__(self) -> None:
        class Session(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(1)
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def shutdown_request(self, request: Any) -> None:
                self.close_request(request)  # without a shutdown first, closing resets

        server = Server(("127.0.0.1", 0), Session)
        self._listen(server, server.server_address)


class GrpcEcho:
    """`test.Echo`, whose messages are bytes: Unary, Other (unary too), Count (down), Collect (up), Chat (both ways)."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Other": grpc.unary_unary_rpc_method_handler(self._unary),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def _unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.seen.append("unary")
        context.set_trailing_metadata((("x-sum", str(len(request))),))
        return request

    def _count(self, request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        self.seen.append("count")
        for number in range(int(request)):
            yield str(number).encode()

    def _collect(self, requests: Iterable[bytes], _: grpc.ServicerContext) -> bytes:
        self.seen.append("collect")
        return b",".join(requests)

    def _chat(self, requests: Iterable[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        self.seen.append("chat")
        for request in requests:
            yield b"re: " + request

    def __enter__(self) -> GrpcEcho:
        self._server.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop(grace=None).wait()


class WebSocketEcho(_Threaded):
    """Sends back each message; `seen` notes the path of each session."""

    def __init__(self) -> None:
        self.seen: list[str] = []

        def session(connection: ServerConnection) -> None:
            assert connection.request
            self.seen.append(connection.request.path)
            for message in connection:
                connection.send(message)

        server = serve_websocket(session, "127.0.0.1", 0)
        self._listen(server, server.socket.getsockname())
