"""What the shop's Python services share: to listen, to say so, and to end on SIGTERM."""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import urlsplit

HOST = "127.0.0.1"
MAX_BODY = 65536


def port_or(default: int) -> int:
    return int(os.environ.get("PORT", default))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(name: str, port: int, error: Exception) -> NoReturn:
    raise SystemExit(f"{name}: cannot listen on {HOST}:{port}: {error}")


def stop_event() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


class Handler(BaseHTTPRequestHandler):
    """JSON over HTTP/1.1 with keep-alive. A response leaves in one write."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def route(self) -> str:
        return urlsplit(self.path).path

    def parse_request(self) -> bool:
        """Takes the body at once, so that what one request leaves unread is never taken for the next."""
        if not super().parse_request():
            return False
        self.wfile.flush()  # a `100 Continue` may stand in the buffer
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_BODY:
            self.send_error(411, "Send a body with its length")
            return False
        self.content = self.rfile.read(int(length))
        return True

    def body(self) -> Any:
        """The JSON of the request, or None."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    def reply(self, status: int, value: Any, **headers: str) -> None:
        content = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a caller that went away is no news
            say(f"{type(error).__name__}: {error}")


def serve_http(name: str, handler: type[Handler], port: int, stop: threading.Event) -> None:
    """Serve until `stop` is set."""
    try:
        server = Server((HOST, port), handler)
    except OSError as error:
        fail(name, port, error)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"{name}: listening on {HOST}:{port}")
    stop.wait()
    server.shutdown()
    server.server_close()
