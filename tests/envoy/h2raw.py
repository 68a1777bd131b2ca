"""HTTP/2 with prior knowledge and no courtesy: headers go out as a test writes them."""

from __future__ import annotations

import socket

import h2.config
import h2.connection
import h2.events
from h1 import Answer

_LAST = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)


def send(port: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Answer:
    """One request on a connection of its own. A reset stream answers with status 0."""
    config = h2.config.H2Configuration(
        client_side=True,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
        header_encoding=None,
    )
    connection = h2.connection.H2Connection(config)
    with socket.create_connection(("127.0.0.1", port), 10) as wire:
        connection.initiate_connection()
        connection.send_headers(1, headers, end_stream=not body)
        if body:
            connection.send_data(1, body, end_stream=True)
        wire.sendall(connection.data_to_send())
        return _answer(connection, wire)


def _answer(connection: h2.connection.H2Connection, wire: socket.socket) -> Answer:
    status, found, body = 0, {}, b""
    while data := wire.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                names = {bytes(k).decode("latin-1"): bytes(v).decode("latin-1") for k, v in event.headers or ()}
                status = int(names.pop(":status", status))
                found |= names
            elif isinstance(event, h2.events.DataReceived):
                body += event.data or b""
            elif isinstance(event, _LAST):
                return Answer(status, found, body)
        wire.sendall(connection.data_to_send())
    return Answer(status, found, body)
