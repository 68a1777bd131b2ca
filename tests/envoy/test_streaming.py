"""Nothing is held back: bodies pass piece by piece, both ways, and whole; ids pass through and are on record."""

from __future__ import annotations

import hashlib
import os
import queue
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import grpc
import pytest
from backends import GrpcEcho, HttpEcho, WebSocketEcho, answer, echo, read_body, read_chunks
from mesh_process import Mesh
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.xdist_group("streaming")

POLICY = """\
allow:
  - {name: web, from: front, to: [web, live, plain], http: ["* /**"]}
  - {name: calls, from: front, to: calls, grpc: [test.Echo/Count, test.Echo/Collect, test.Echo/Chat]}
"""
SIZE = 10 << 20


class Pieces:
    """What the service gets and what it may send, piece by piece, in the hands of the test."""

    def __init__(self) -> None:
        self.got: queue.Queue[bytes] = queue.Queue()
        self.send: queue.Queue[bytes] = queue.Queue()

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        match handler.path:
            case "/down":
                self._down(handler)
            case "/up":
                for chunk in read_chunks(handler):
                    self.got.put(chunk)
                answer(handler, b"done")
            case "/large":
                answer(handler, read_body(handler))
            case _:
                echo(handler)

    def _down(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        while piece := self.send.get(timeout=10):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return Pieces()


@pytest.fixture(scope="module")
def plain() -> Iterator[WebSocketEcho]:
    """It could speak WebSocket, and nobody has declared that."""
    with WebSocketEcho() as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(pieces: Pieces, plain: WebSocketEcho) -> Iterator[Mesh]:
    with HttpEcho(pieces.respond) as web, GrpcEcho() as calls, WebSocketEcho() as live:
        workloads = {
            "front": {},
            "web": {"at": web.address},
            "live": {"at": live.address, "websocket": True},
            "plain": {"at": plain.address},
            "calls": {"at": calls.address, "protocol": "grpc"},
        }
        with Mesh(workloads, POLICY) as mesh:
            yield mesh


def test_a_response_arrives_piece_by_piece(mesh: Mesh, pieces: Pieces) -> None:
    connection = mesh.connection("front")
    pieces.send.put(b"data: 0\n\n")
    connection.request("GET", "http://web/down")
    response = connection.getresponse()
    for number in range(5):
        assert response.read1(100) == b"data: %d\n\n" % number
        pieces.send.put(b"data: %d\n\n" % (number + 1) if number < 4 else b"")
    assert response.read() == b""
    connection.close()


def test_a_request_body_arrives_piece_by_piece(mesh: Mesh, pieces: Pieces) -> None:
    with socket.create_connection(mesh.outbound("front"), timeout=10) as connection:
        connection.sendall(b"POST /up HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        for number in range(5):
            connection.sendall(b"1\r\n%d\r\n" % number)
            assert pieces.got.get(timeout=10) == b"%d" % number
        connection.sendall(b"0\r\n\r\n")
        with connection.makefile("rb") as file:
            assert file.read().endswith(b"done")


def test_large_bodies_are_whole(mesh: Mesh) -> None:
    body = os.urandom(SIZE)
    back = mesh.call("front", "http://web/large", "POST", body)
    assert (back.status, len(back.body)) == (200, SIZE)
    assert hashlib.sha256(back.body).digest() == hashlib.sha256(body).digest()
    record = mesh.record(path="/large")
    assert (record["in"], record["out"]) == (SIZE, SIZE)


@pytest.fixture
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    proxy = "http://{}:{}".format(*mesh.outbound("front"))
    port = mesh.workloads["calls"]["at"].rpartition(":")[2]
    with grpc.insecure_channel(f"calls:{port}", options=[("grpc.http_proxy", proxy)]) as channel:
        yield channel


def test_a_grpc_conversation_goes_both_ways(mesh: Mesh, channel: grpc.Channel) -> None:
    say: queue.Queue[bytes] = queue.Queue()
    answers = channel.stream_stream("/test.Echo/Chat")(iter(lambda: say.get(timeout=10), b""), timeout=20)
    for number in range(5):
        say.put(b"%d" % number)
        assert next(answers) == b"re: %d" % number
    say.put(b"")
    assert list(answers) == []
    assert mesh.record(path="/test.Echo/Chat")["ep"] == "calls"


def test_grpc_streams_in_one_direction(channel: grpc.Channel) -> None:
    assert list(channel.unary_stream("/test.Echo/Count")(b"100", timeout=10)) == [b"%d" % n for n in range(100)]
    words = [b"%d" % n for n in range(100)]
    assert channel.stream_unary("/test.Echo/Collect")(iter(words), timeout=10) == b",".join(words)


def test_a_denied_grpc_stream_says_permission_denied(mesh: Mesh, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as denied:
        channel.stream_stream("/test.Echo/Unknown")(iter([b"x"]), timeout=10).next()
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert mesh.record(path="/test.Echo/Unknown")["er"] == "denied"


def websocket(mesh: Mesh, target: str, path: str) -> ClientConnection:
    """A WebSocket to a target, with the upgrade sent to the outbound listener itself."""
    return connect(f"ws://{target}{path}", address=mesh.outbound("front"), proxy=None, open_timeout=10)


def test_a_websocket_goes_both_ways_where_it_is_declared(mesh: Mesh) -> None:
    with websocket(mesh, "live", "/live") as session:
        for number in range(5):
            session.send(str(number))
            assert session.recv(timeout=10) == str(number)
        big = os.urandom(1 << 19)
        session.send(big)
        assert session.recv(timeout=10) == big
    record = mesh.record(path="/live")
    assert (record["er"], record["ep"], record["code"], record["upgrade"]) == ("allowed", "web", 101, "websocket")


def test_an_undeclared_websocket_is_refused_and_recorded(mesh: Mesh, plain: WebSocketEcho) -> None:
    with pytest.raises(InvalidStatus) as refused, websocket(mesh, "plain", "/plain"):
        pass
    assert refused.value.response.status_code == 403
    assert plain.seen == []
    record = mesh.record(path="/plain")
    assert (record["code"], record["target"], record["upgrade"]) == (403, "plain", "websocket")


def test_a_request_id_is_made_and_told_to_both_sides(mesh: Mesh) -> None:
    answered = mesh.call("front", "http://web/made")
    made = answered.headers["x-request-id"]
    assert ["x-request-id", made] in answered.json["headers"]
    assert mesh.record(id=made)["path"] == "/made"


@pytest.mark.parametrize("sent", ["7f6cbdc2-3c1b-4a91-8f02-9d1f6f4d8a11", "an-id-of-its-own"])
def test_a_request_id_that_was_sent_is_kept(mesh: Mesh, sent: str) -> None:
    answered = mesh.call("front", "http://web/kept", headers={"x-request-id": sent})
    assert answered.headers["x-request-id"] == sent
    assert ["x-request-id", sent] in answered.json["headers"]
    assert mesh.record(id=sent)["path"] == "/kept"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_trace_passes_through_unchanged(mesh: Mesh, flags: str) -> None:
    trace = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-{flags}"
    answered = mesh.call("front", "http://web/traced", headers={"traceparent": trace, "tracestate": "a=b"})
    assert ["traceparent", trace] in answered.json["headers"]
    assert ["tracestate", "a=b"] in answered.json["headers"]
    assert mesh.record(tp=trace)["path"] == "/traced"
    assert "traceparent" not in dict(mesh.call("front", "http://web/untraced").json["headers"])
