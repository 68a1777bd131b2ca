"""Raw HTTP/1.1 over one kept-alive connection: bytes out exactly as a test writes them."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is 0 when the connection was closed without an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def from_backend(self) -> bool:
        return "x-backend" in self.headers


class Connection:
    """Opens itself again when the other side has closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._file: Any = None

    def close(self) -> None:
        if self._socket is not None:
            self._file.close()  # it holds the socket open
            self._socket.close()
            self._socket = None

    def send(self, request: bytes, *, head: bool = False) -> Answer:
        for _ in range(2):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), 10)
                self._file = self._socket.makefile("rb")
            try:
                self._socket.sendall(request)
                answer = self._read(head)
            except ConnectionError:
                answer = None
            if answer is not None:
                return answer
            self.close()  # it was closed while idle: once more, on a new one
        return Answer(0)

    def _read(self, head: bool) -> Answer | None:
        file = self._file
        line = file.readline()
        if not line:
            return None
        headers: dict[str, str] = {}
        while (header := file.readline().strip()) != b"":
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        status = int(line.split()[1])
        length = 0 if head or status == 101 else int(headers.get("content-length", "0"))
        body = file.read(length)
        if headers.get("connection") == "close" or status == 101:
            self.close()
        return Answer(status, headers, body)
