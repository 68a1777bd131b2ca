"""Services outside, over TLS: in threads of the test, with certificates that the test makes."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
from backends import HttpEcho
from certificates import Leaf


def context(directory: Path, leaf: Leaf, *protocols: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*leaf.write(directory))
    made.set_alpn_protocols(list(protocols or ("http/1.1",)))
    return made


class TlsEcho(HttpEcho):
    """`HttpEcho` over TLS. `hellos` counts who connected, whether or not anything came of it."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__()
        self.hellos = 0
        plain: Any = self.server
        accept = plain.get_request

        def secured() -> tuple[Any, Any]:
            wire, address = accept()
            self.hellos += 1
            return tls.wrap_socket(wire, server_side=True, do_handshake_on_connect=False), address

        plain.get_request = secured


class Http2Server:
    """Speaks HTTP/2 over TLS alone; `seen` are the headers of each request."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.seen: list[dict[str, str]] = []
        self._tls, self._wires = tls, []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def __enter__(self) -> Http2Server:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for wire in self._wires:
            wire.close()

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listening.accept()
            except OSError:
                return
            self._wires.append(wire)
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        try:
            secured = self._tls.wrap_socket(wire, server_side=True)
            self._wires.append(secured)
            self._speak(secured)
        except OSError:
            return

    def _speak(self, wire: ssl.SSLSocket) -> None:
        speaking = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf8"))
        speaking.initiate_connection()
        wire.sendall(speaking.data_to_send())
        while data := wire.recv(65536):
            for event in speaking.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.seen.append(dict(event.headers))  # type: ignore[arg-type]
                    speaking.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
            wire.sendall(speaking.data_to_send())
