"""A mesh whose workloads have their certificates from SPIRE: calls work by them, and follow a change of its root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from backends import HttpEcho
from hosts import Hosts
from waiting import until

from fakes.workload_api import Authority, FakeSpire, authority, svid

pytestmark = pytest.mark.xdist_group("spire")
ALLOW = "allow: [{name: front-orders, from: front, to: orders, http: GET /orders/*}]\n".replace("*", "{id}")
TD = "spiffe://test.test"


@pytest.fixture
def spires() -> Iterator[tuple[FakeSpire, FakeSpire]]:
    """The agent of SPIRE on each of two hosts."""
    with (
        TemporaryDirectory(prefix="spire-") as place,
        FakeSpire(Path(place, "a")) as a,
        FakeSpire(Path(place, "b")) as b,
    ):
        yield a, b


def give(spires: tuple[FakeSpire, FakeSpire], root: Authority) -> None:
    for spire, name in zip(spires, ("front", "orders"), strict=True):
        spire.give(svid(f"{TD}/{name}", [root]))


def shown(mesh: Hosts, node: str) -> str:
    """What the inbound listener of a node shows to whoever asks for `orders`."""
    host, port = mesh.inbound(node)
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", "orders.test.test"]
    ran = subprocess.run(command, input=b"", capture_output=True, timeout=10, check=False)
    text = ["openssl", "x509", "-noout", "-issuer", "-ext", "subjectAltName"]
    return subprocess.run(text, input=ran.stdout, capture_output=True, timeout=10, check=False).stdout.decode()


def test_calls_by_certificates_from_spire(spires: tuple[FakeSpire, FakeSpire]) -> None:
    give(spires, authority("root one"))
    with (
        HttpEcho() as backend,
        Hosts({"a": {"front": {}}, "b": {"orders": {"at": backend.address}}}, ALLOW, start=False) as mesh,
    ):
        mesh.start().event("ready")
        for node, spire in zip(mesh.nodes, spires, strict=True):
            mesh.join(node, SPIFFE_ENDPOINT_SOCKET=spire.address)
        for node in mesh.nodes:
            mesh.hosts[node].event("ready")
        until(lambda: mesh.status("front", "http://orders/orders/1") == 200, what="a call by SPIRE's certificates")
        assert mesh.call("front", "http://orders/orders/1", "DELETE").status == 403
        said = shown(mesh, "b")
        assert "root one" in said, said
        assert f"URI:{TD}/orders" in said, said
        assert mesh.record(path="/orders/1", method="GET", code=200)["caller"] == f"{TD}/front"

        give(spires, authority("root two"))
        until(lambda: "root two" in shown(mesh, "b"), what="the new root")
        until(lambda: mesh.status("front", "http://orders/orders/2") == 200, what="a call after SPIRE's new root")

        spires[0].give(svid(f"{TD}/stranger", [authority("root three")]))
        trouble = "SPIRE gives no certificate for front"
        until(lambda: trouble in mesh.septum("nodes").out, within=20, what="the trouble where the operator looks")
