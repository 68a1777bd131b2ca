"""Programs as they are, run by `septum run --as`: decided request by request, each decision on record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from answers import Result
from backends import GREETING, GrpcEcho, HttpEcho, TcpGreeter, WebSocketEcho
from mesh_process import Mesh

pytestmark = pytest.mark.xdist_group("clients")

POLICY = """\
allow:
  - {name: web, from: front, to: orders, http: ["GET /open/{client}"]}
  - {name: calls, from: front, to: payments, grpc: [test.Echo/Unary]}
  - {name: news, from: front, to: notify, http: ["GET /open/{client}"]}
  - {name: store, from: front, to: store}
"""
CALLER = "spiffe://test.test/front"


@pytest.fixture(scope="module")
def orders() -> Iterator[HttpEcho]:
    with HttpEcho() as backend:
        yield backend


@pytest.fixture(scope="module")
def payments() -> Iterator[GrpcEcho]:
    with GrpcEcho() as backend:
        yield backend


@pytest.fixture(scope="module")
def mesh(orders: HttpEcho, payments: GrpcEcho) -> Iterator[Mesh]:
    with TcpGreeter() as store, WebSocketEcho() as notify:
        workloads = {
            "front": {"dials": ["store"]},
            "stranger": {"dials": ["store"]},
            "orders": {"at": orders.address},
            "payments": {"at": payments.address, "protocol": "grpc"},
            "notify": {"at": notify.address, "websocket": True},
            "store": {"at": store.address, "protocol": "tcp"},
        }
        with Mesh(workloads, POLICY) as mesh:
            yield mesh


# Each prints the status of every URL that it is given, a line each.
URLLIB = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
REQUESTS = "import sys, requests\nfor url in sys.argv[1:]: print(requests.get(url, timeout=10).status_code)"
HTTPX = "import sys, httpx\nfor url in sys.argv[1:]: print(httpx.get(url, timeout=10).status_code)"
HTTPX_ASYNC = """
import asyncio, sys, httpx
async def main():
    async with httpx.AsyncClient(timeout=10) as client:
        for url in sys.argv[1:]:
            print((await client.get(url)).status_code)
asyncio.run(main())
"""
FETCH = "for (const url of process.argv.slice(1)) console.log((await fetch(url)).status)"
NODE_HTTP = """
import http from 'node:http';
const get = (url) => new Promise((done, fail) => http.get(url, (r) => done(r.resume().statusCode)).on('error', fail));
for (const url of process.argv.slice(1)) console.log(await get(url));
"""
CURL = ("curl", "-sS", "-m", "10", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code}\n")
CLIENTS: dict[str, tuple[str, ...]] = {
    "curl": CURL,
    "curl-tunnel": (*CURL, "--proxytunnel"),
    "urllib": (sys.executable, "-c", URLLIB),
    "requests": (sys.executable, "-c", REQUESTS),
    "httpx": (sys.executable, "-c", HTTPX),
    "httpx-async": (sys.executable, "-c", HTTPX_ASYNC),
    "node-fetch": ("node", "--input-type=module", "-e", FETCH),
    "node-http": ("node", "--input-type=module", "-e", NODE_HTTP),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_an_http_client(mesh: Mesh, orders: HttpEcho, program: Callable[[str], str], client: str) -> None:
    tool, *arguments = CLIENTS[client]
    ran = mesh.run_as(
        "front", program(tool), *arguments, f"http://orders/open/{client}", f"http://orders/closed/{client}"
    )
    assert (ran.out.split(), ran.err) == (["200", "403"], "")
    allowed, denied = mesh.record(path=f"/open/{client}"), mesh.record(path=f"/closed/{client}")
    assert (allowed["er"], allowed["ep"], allowed["code"]) == ("allowed", "web", 200)
    assert (denied["er"], denied["code"]) == ("denied", 403)
    assert {r["caller"] for r in (allowed, denied)} == {CALLER}
    assert {(r["target"], r["method"], r["mode"]) for r in (allowed, denied)} == {("orders", "GET", "enforce")}
    assert [path for _, path in orders.seen if path.endswith(f"/{client}")] == [f"/open/{client}"]


def test_a_client_may_name_the_domain_and_the_port(mesh: Mesh, orders: HttpEcho) -> None:
    urls = [f"http://{host}/open/named" for host in ("orders.test.test", f"orders:{orders.port}", orders.address)]
    ran = mesh.run_as("front", sys.executable, "-c", REQUESTS, *urls)
    assert ran.out.split() == ["200"] * 3, ran
    records = [mesh.record(path="/open/named", authority=url.split("/")[2]) for url in urls]
    assert {record["target"] for record in records} == {"orders"}


def test_an_unknown_name_is_denied_and_recorded(mesh: Mesh) -> None:
    ran = mesh.run_as("front", sys.executable, "-c", REQUESTS, "http://nobody/open/x")
    assert ran.out.split() == ["403"], ran
    record = mesh.record(authority="nobody")
    assert (record["caller"], record["code"]) == (CALLER, 403)


GRPC = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    for method in sys.argv[2:]:
        call = channel.unary_unary(method)
        try:
            print(call(b"hello", timeout=10).decode())
        except grpc.RpcError as error:
            print(error.code().name)
"""


def test_a_grpc_client_is_decided_method_by_method(mesh: Mesh, payments: GrpcEcho) -> None:
    """It tunnels by CONNECT; what is inside is decided all the same."""
    seen = len(payments.seen)
    methods = ["/test.Echo/Unary", "/test.Echo/Other", "/test.Echo/Unary"]
    ran = mesh.run_as("front", sys.executable, "-c", GRPC, f"payments:{payments.port}", *methods)
    assert ran.out.split() == ["hello", "PERMISSION_DENIED", "hello"], ran
    assert payments.seen[seen:] == ["unary", "unary"]
    allowed, denied = mesh.record(path="/test.Echo/Unary"), mesh.record(path="/test.Echo/Other")
    assert (allowed["er"], allowed["ep"], allowed["proto"]) == ("allowed", "calls", "HTTP/2")
    assert (denied["er"], denied["grpc"], denied["caller"], denied["target"]) == ("denied", 7, CALLER, "payments")
    assert len(mesh.records(path="/test.Echo/Unary")) == 2


def test_a_grpc_client_without_any_rule_is_denied(mesh: Mesh, payments: GrpcEcho) -> None:
    ran = mesh.run_as("stranger", sys.executable, "-c", GRPC, f"payments:{payments.port}", "/test.Echo/Unary")
    assert ran.out.split() == ["PERMISSION_DENIED"], ran
    assert mesh.record(caller="spiffe://test.test/stranger", path="/test.Echo/Unary")["er"] == "denied"


WEBSOCKET = """
import sys
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
for url in sys.argv[1:]:
    try:
        with connect(url, open_timeout=10) as socket:
            socket.send("hello")
            print(socket.recv(timeout=10))
    except InvalidStatus as error:
        print(error.response.status_code)
"""


def test_a_websocket_client(mesh: Mesh) -> None:
    ran = mesh.run_as(
        "front", sys.executable, "-c", WEBSOCKET, "ws://notify/open/websockets", "ws://notify/closed/websockets"
    )
    assert ran.out.split() == ["hello", "403"], ran
    assert mesh.record(path="/open/websockets")["ep"] == "news"
    assert mesh.record(path="/closed/websockets")["er"] == "denied"


DIAL = """
import os, socket
host, port = os.environ["SEPTUM_DIAL_STORE"].split(":")
with socket.create_connection((host, int(port)), timeout=10) as connection:
    print(connection.recv(100))
    try:
        connection.sendall(b"ping")
        print(connection.recv(100))
    except OSError:
        print(b"")
"""


def test_a_tcp_client_by_dials(mesh: Mesh) -> None:
    def dial(caller: str) -> Result:
        return mesh.run_as(caller, sys.executable, "-c", DIAL)

    assert dial("front").out.split("\n")[:2] == [repr(GREETING), repr(b"ping")]
    assert dial("stranger").out.split("\n")[:2] == [repr(b""), repr(b"")]
    allowed = mesh.record(target="store", caller=CALLER)
    denied = mesh.record(target="store", caller="spiffe://test.test/stranger")
    assert (allowed["er"], allowed["ep"], allowed["method"]) == ("allowed", "store", "CONNECT")
    assert (denied["er"], denied["code"]) == ("denied", 403)
