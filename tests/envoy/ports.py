"""Ports that stay free until somebody listens on them."""

from __future__ import annotations

import socket
from types import TracebackType


class Port:
    """A free TCP port on loopback, held by a socket that is bound and does not listen.

    Nobody gets the port by chance while it is held, and Envoy, which binds with SO_REUSEPORT, can still listen there.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.number}"

    def __enter__(self) -> Port:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()
