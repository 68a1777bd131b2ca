"""What listens on this host."""

from __future__ import annotations

import os
import socket
from collections import namedtuple

import psutil
import pytest

from septum.node.listening import Listening, listening_ports

Connection = namedtuple("Connection", "laddr status pid")


def test_a_listener_of_this_process_is_seen_with_its_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        found = {entry.port: entry for entry in listening_ports()}
        name = psutil.Process().name()
        for listener, host in ((one, "127.0.0.1"), (six, "::1")):
            port = listener.getsockname()[1]
            assert found[port] == Listening(port, host, name, os.getpid())


def test_what_is_bound_or_connected_does_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        ports = {entry.port for entry in listening_ports()}
        assert not {bound.getsockname()[1], client.getsockname()[1]} & ports
        client.close()


def test_each_port_once_by_number_and_others_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Connection(("0.0.0.0", 90), psutil.CONN_LISTEN, None),
        Connection(("::", 90), psutil.CONN_LISTEN, None),
        Connection(("127.0.0.1", 80), psutil.CONN_LISTEN, 2**22 + 1),
        Connection((), psutil.CONN_LISTEN, 1),
        Connection(("127.0.0.1", 70), psutil.CONN_ESTABLISHED, 1),
    ]
    monkeypatch.setattr(psutil, "net_connections", lambda kind: found)
    assert listening_ports() == (
        Listening(80, "127.0.0.1", "", 2**22 + 1),
        Listening(90, "0.0.0.0", "", 0),
    )
