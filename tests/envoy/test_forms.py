"""The forms in which a request may enter an outbound listener: the target by `Host`, absolute, or through a tunnel."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest
from backends import HttpEcho
from mesh_process import Mesh

pytestmark = pytest.mark.xdist_group("forms")

POLICY = "allow: [{name: web, from: front, to: orders, http: ['GET /open/{form}', 'POST /open/{form}']}]\n"

# The bytes that are sent, with `{path}`.
FORMS = {
    "host": "GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n",
    "absolute": "GET http://orders{path} HTTP/1.1\r\nhost: orders\r\n\r\n",
    "absolute-beats-host": "GET http://orders{path} HTTP/1.1\r\nhost: nobody\r\n\r\n",
    "http-1.0": "GET {path} HTTP/1.0\r\nhost: orders\r\n\r\n",
    "http-1.0-absolute": "GET http://orders{path} HTTP/1.0\r\n\r\n",
}
TUNNELS = {
    "connect": "CONNECT orders:80 HTTP/1.1\r\nhost: orders:80\r\n\r\n",
    "connect-1.0": "CONNECT orders:80 HTTP/1.0\r\n\r\n",
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with HttpEcho() as orders, Mesh({"front": {}, "orders": {"at": orders.address}}, POLICY) as mesh:
        yield mesh


def status_of(connection: socket.socket) -> int:
    """The status of the answer, which is read to its end."""
    with http.client.HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def verdicts(ask: Callable[[str], int], mesh: Mesh, form: str) -> None:
    """One form, allowed and denied, with a record each."""
    assert ask(f"/open/{form}") == 200
    assert ask(f"/closed/{form}") == 403
    allowed, denied = mesh.record(path=f"/open/{form}"), mesh.record(path=f"/closed/{form}")
    assert (allowed["er"], allowed["ep"], denied["er"]) == ("allowed", "web", "denied")
    assert {(r["caller"], r["target"]) for r in (allowed, denied)} == {("spiffe://test.test/front", "orders")}


@pytest.mark.parametrize("form", FORMS)
def test_http_1(mesh: Mesh, form: str) -> None:
    def ask(path: str) -> int:
        with socket.create_connection(mesh.outbound("front"), timeout=10) as connection:
            connection.sendall(FORMS[form].format(path=path).encode())
            return status_of(connection)

    verdicts(ask, mesh, form)


@pytest.mark.parametrize("form", TUNNELS)
def test_a_tunnel(mesh: Mesh, form: str) -> None:
    def ask(path: str) -> int:
        with socket.create_connection(mesh.outbound("front"), timeout=10) as connection:
            connection.sendall(TUNNELS[form].encode())
            opened = b""
            while not opened.endswith(b"\r\n\r\n"):
                opened += connection.recv(1) or pytest.fail("the tunnel did not open")
            assert opened.split()[1] == b"200"
            connection.sendall(FORMS["host"].format(path=path).encode())
            return status_of(connection)

    verdicts(ask, mesh, form)


def test_a_tunnel_to_nobody_is_denied_and_recorded(mesh: Mesh) -> None:
    with socket.create_connection(mesh.outbound("front"), timeout=10) as connection:
        connection.sendall(b"CONNECT elsewhere:80 HTTP/1.1\r\nhost: elsewhere:80\r\n\r\n")
        assert status_of(connection) == 403
    assert mesh.record(authority="elsewhere:80")["method"] == "CONNECT"


def test_http_2_with_prior_knowledge(mesh: Mesh) -> None:
    host, port = mesh.outbound("front")
    with httpx.Client(http1=False, http2=True, base_url=f"http://{host}:{port}", trust_env=False) as client:

        def ask(path: str) -> int:
            answer = client.get(path, headers={"host": "orders"})
            assert answer.http_version == "HTTP/2"
            return answer.status_code

        verdicts(ask, mesh, "h2")
    assert mesh.record(path="/open/h2")["proto"] == "HTTP/2"


def test_many_requests_on_one_connection_are_decided_one_by_one(mesh: Mesh) -> None:
    connection = mesh.connection("front")
    paths = ["/open/kept", "/closed/kept"] * 5
    statuses = [mesh.call("front", f"http://orders{path}", connection=connection).status for path in paths]
    connection.close()
    assert statuses == [200, 403] * 5


def test_a_denial_is_short_json_and_tells_nothing_of_the_policy(mesh: Mesh) -> None:
    denied = mesh.call("front", "http://orders/closed/said")
    assert denied.headers["content-type"] == "application/json"
    assert denied.json == {
        "error": "denied",
        "reason": "no policy allows this call",
        "request_id": denied.headers["x-request-id"],
    }


def test_a_post_with_a_body_is_carried_as_it_is(mesh: Mesh) -> None:
    answer = mesh.call("front", "http://orders/open/post?x=1", "POST", b"some text", {"X-Own": "Kept"})
    seen = answer.json
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/open/post?x=1", "some text")
    assert ["x-own", "Kept"] in seen["headers"]
    assert mesh.record(path="/open/post")["in"] == 9
