"""Services that fail, and changes under traffic: a clear answer for the caller, and a record of it."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from answers import Answer
from backends import HttpEcho, TcpGreeter, TcpResetter
from mesh_process import Mesh
from waiting import until

pytestmark = pytest.mark.xdist_group("faults")

POLICY = """\
allow:
  - {name: web, from: front, to: [orders, gone, resets], http: ["* /open/**"]}
  - {name: calls, from: front, to: no-calls, grpc: ["*"]}
  - {name: store, from: front, to: [store, no-store]}
"""


@pytest.fixture(scope="module")
def orders() -> Iterator[HttpEcho]:
    with HttpEcho() as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(orders: HttpEcho) -> Iterator[Mesh]:
    with TcpResetter() as resetter, TcpGreeter() as store:
        workloads = {
            "front": {"dials": ["store", "no-store"]},
            "orders": {"at": orders.address},
            "gone": {},
            "resets": {"at": resetter.address},
            "no-calls": {"protocol": "grpc"},
            "store": {"at": store.address, "protocol": "tcp"},
            "no-store": {"protocol": "tcp"},
        }
        with Mesh(workloads, POLICY) as mesh:
            yield mesh


@pytest.mark.parametrize("target", ["gone", "resets"])
def test_a_service_that_fails_is_said_to_be_unreachable(mesh: Mesh, target: str) -> None:
    answer = mesh.call("front", f"http://{target}/open/x")
    assert answer.status == 503
    assert answer.json == {
        "error": "unavailable",
        "reason": "the target cannot be reached",
        "request_id": answer.headers["x-request-id"],
    }
    record = mesh.record(id=answer.headers["x-request-id"])
    assert (record["er"], record["ep"], record["target"], record["code"]) == ("allowed", "web", target, 503)
    assert record["flags"] in ("UF", "UC")


def test_a_dead_service_does_not_show_to_whom_it_is_closed(mesh: Mesh) -> None:
    assert mesh.status("front", "http://gone/closed") == 403


def test_a_dead_grpc_service_is_unavailable(mesh: Mesh) -> None:
    proxy = "http://{}:{}".format(*mesh.outbound("front"))
    port = mesh.workloads["no-calls"]["at"].rpartition(":")[2]
    with grpc.insecure_channel(f"no-calls:{port}", options=[("grpc.http_proxy", proxy)]) as channel:
        call = channel.unary_unary("/test.Echo/Unary")
        with pytest.raises(grpc.RpcError) as failed:
            call(b"x", timeout=10)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    record = mesh.record(target="no-calls")
    assert (record["er"], record["ep"], record["grpc"], record["flags"]) == ("allowed", "calls", 14, "UF")


def test_a_dead_tcp_service_ends_the_session(mesh: Mesh) -> None:
    with socket.create_connection(mesh.dial("front", "no-store"), timeout=10) as session:
        assert session.recv(100) == b""
    record = mesh.record(target="no-store")
    assert (record["er"], record["ep"], record["code"], record["method"]) == ("allowed", "store", 503, "CONNECT")


def test_a_service_that_comes_back_is_reached_at_once(mesh: Mesh) -> None:
    assert mesh.status("front", "http://gone/open/back") == 503
    host, port = mesh.workloads["gone"]["at"].split(":")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((host, int(port)), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert mesh.status("front", "http://gone/open/back") == 204


def test_a_rule_that_is_removed_denies_at_once_on_an_open_connection_and_ends_it(mesh: Mesh, orders: HttpEcho) -> None:
    connection, other = mesh.connection("front"), mesh.connection("orders")

    def answer() -> Answer:
        return mesh.call("front", "http://orders/open/kept", connection=connection)

    assert answer().status == 200
    assert mesh.call("orders", "http://gone/open/x", connection=other).status == 403
    before, untouched = connection.sock, other.sock
    mesh.apply(POLICY.replace("[orders, gone", "[gone"))
    seen = len(orders.seen)
    assert connection.sock is before
    last = answer()
    assert (last.status, last.headers.get("connection")) == (403, "close"), "denied where it was open, and told to go"
    assert [answer().status for _ in range(10)] == [403] * 10
    assert orders.seen[seen:] == []
    kept = connection.sock
    mesh.apply(POLICY)
    assert answer().status == 200
    assert connection.sock is kept, "a rule that comes ends nothing"
    assert mesh.call("orders", "http://gone/open/x", connection=other).status == 403
    assert other.sock is untouched, "and nobody else was concerned"
    connection.close()
    other.close()


def test_a_workload_comes_and_goes_under_traffic(mesh: Mesh, orders: HttpEcho) -> None:
    kept = mesh.connection("front")
    with HttpEcho() as late:
        mesh.add("late", at=late.address)
        mesh.write_mesh()
        mesh.apply(POLICY + '  - {name: late, from: [front, late], to: [late, orders], http: ["* /open/**"]}\n')
        assert mesh.call("front", "http://late/open/x", connection=kept).status == 200
        assert mesh.status("late", "http://orders/open/x") == 200
        assert mesh.status("late", "http://gone/open/x") == 403
        assert mesh.run_as("late", "curl", "-sS", "-o", "/dev/null", "http://orders/open/x").code == 0

    removed = mesh.outbound("late")
    del mesh.workloads["late"]
    mesh.write_mesh()
    mesh.apply(POLICY)
    assert mesh.call("front", "http://late/open/y", connection=kept).status == 403
    assert mesh.record(path="/open/y").get("target") is None
    assert mesh.call("front", "http://orders/open/y", connection=kept).status == 200
    kept.close()
    until(lambda: not listens(removed), within=15, what="the listener of the removed workload closes")
    unknown = mesh.run_as("late", "true")
    assert (unknown.code, "no workload is called `late`" in unknown.err) == (2, True)


def listens(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            return bool(connection.recv(1))
    except OSError:
        return False


@pytest.mark.parametrize("request_bytes", [b"\x00\xff\xfe nonsense\r\n\r\n", b"GET /open/x HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_is_refused_and_the_proxy_goes_on(mesh: Mesh, request_bytes: bytes) -> None:
    with socket.create_connection(mesh.outbound("front"), timeout=10) as connection:
        connection.sendall(request_bytes)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            assert 400 <= answer.status < 500
    assert mesh.status("front", "http://orders/open/x") == 200
