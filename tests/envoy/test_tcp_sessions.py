"""TCP workloads by `dials`: whole both ways, however a session ends, and open only to whom a rule lets in."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from backends import GREETING, TcpGreeter
from mesh_process import Mesh
from waiting import until

pytestmark = pytest.mark.xdist_group("tcp sessions")

ALLOW = "allow: [{name: store, from: front, to: store}]\n"
FRONT, STRANGER = "spiffe://test.test/front", "spiffe://test.test/stranger"


@pytest.fixture(scope="module")
def store() -> Iterator[TcpGreeter]:
    with TcpGreeter() as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(store: TcpGreeter) -> Iterator[Mesh]:
    workloads = {
        "front": {"dials": ["store"]},
        "stranger": {"dials": ["store"]},
        "store": {"at": store.address, "protocol": "tcp"},
    }
    with Mesh(workloads, ALLOW) as mesh:
        yield mesh


def dial(mesh: Mesh, caller: str = "front") -> socket.socket:
    return socket.create_connection(mesh.dial(caller, "store"), timeout=10)


def received(session: socket.socket, most: int = 1 << 30) -> bytes:
    """What comes until the end, or until so much has come."""
    parts, size = [], 0
    while size < most and (part := session.recv(1 << 18)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def comes_to_nothing(session: socket.socket, data: bytes = b"") -> bool:
    """Whether the session ends without an answer. What is sent into one that ends resets it."""
    try:
        session.sendall(data)
        return received(session) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


def test_a_server_may_speak_first(mesh: Mesh) -> None:
    with dial(mesh) as session:
        assert received(session, len(GREETING)) == GREETING
        for number in range(5):
            session.sendall(b"%d" % number)
            assert session.recv(100) == b"%d" % number


def test_a_client_may_end_its_half_and_still_gets_the_whole_answer(mesh: Mesh) -> None:
    body = os.urandom(3 << 20)

    def send(session: socket.socket) -> None:
        session.sendall(body)
        session.shutdown(socket.SHUT_WR)

    with dial(mesh) as session:
        sender = threading.Thread(target=send, args=(session,))
        sender.start()
        assert received(session) == GREETING + body
        sender.join()
    record = mesh.record(**{"in": len(body), "target": "store"})
    assert (record["out"], record["er"], record["ep"]) == (len(GREETING) + len(body), "allowed", "store")


def test_many_sessions_at_once(mesh: Mesh) -> None:
    sessions = [dial(mesh) for _ in range(200)]
    for number, session in enumerate(sessions):
        session.sendall(b"%d" % number)
    for number, session in enumerate(sessions):
        wanted = GREETING + b"%d" % number
        assert received(session, len(wanted)) == wanted
        session.close()


def test_a_caller_without_a_rule_reaches_nothing(mesh: Mesh, store: TcpGreeter) -> None:
    sessions = store.sessions
    with dial(mesh, "stranger") as session:
        assert comes_to_nothing(session)
    record = mesh.record(caller=STRANGER)
    assert (record["er"], record["code"], record["target"], record["method"]) == ("denied", 403, "store", "CONNECT")
    assert store.sessions == sessions


def test_a_caller_is_known_by_the_listener_and_not_by_what_it_sends(mesh: Mesh, store: TcpGreeter) -> None:
    sessions = store.sessions
    with dial(mesh, "stranger") as session:
        assert comes_to_nothing(session, b"CONNECT store:1 HTTP/1.1\r\nx-septum-inside: inside/front\r\n\r\n")
    with socket.create_connection(mesh.outbound("stranger"), timeout=10) as session:
        port = mesh.workloads["store"]["at"].rpartition(":")[2]
        session.sendall(f"CONNECT store:{port} HTTP/1.1\r\nx-septum-inside: inside/front\r\n\r\n".encode())
        assert b" 403 " in session.recv(1000)
    assert store.sessions == sessions


def test_a_tunnel_of_a_client_s_own_is_decided_the_same(mesh: Mesh) -> None:
    port = mesh.workloads["store"]["at"].rpartition(":")[2]
    with socket.create_connection(mesh.outbound("front"), timeout=10) as session:
        session.sendall(f"CONNECT store:{port} HTTP/1.1\r\nhost: store:{port}\r\n\r\n".encode())
        until(lambda: session.recv(4096, socket.MSG_PEEK).endswith(GREETING), what="the greeting in the tunnel")
        assert session.recv(4096).startswith(b"HTTP/1.1 200 ")
        session.sendall(b"ping")
        assert session.recv(100) == b"ping"


def test_a_rule_that_is_removed_opens_no_session_any_more(mesh: Mesh) -> None:
    with dial(mesh) as before:
        assert received(before, len(GREETING)) == GREETING
        mesh.apply("allow: []\n")
        with dial(mesh) as after:
            assert comes_to_nothing(after)
        mesh.apply(ALLOW)
        with dial(mesh) as again:
            assert received(again, len(GREETING)) == GREETING


def test_a_session_that_the_server_ends_is_over(mesh: Mesh, store: TcpGreeter) -> None:
    """A reset of the client ends the server's side, and neither is left open."""
    with dial(mesh) as session:
        received(session, len(GREETING))
        session.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    until(lambda: store.open == 0, what="the server sees every session end")
