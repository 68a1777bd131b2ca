"""A health path is probed without a rule, decides whether calls are sent, and opens to nobody by accident."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from backends import HttpEcho, answer, echo
from mesh_process import Mesh
from waiting import until

pytestmark = pytest.mark.xdist_group("health")

POLICY = """\
allow:
  - {name: all, from: front, to: orders, http: ["* /**"]}
  - {name: prober, from: prober, to: orders, http: [GET /healthz]}
"""


class Service:
    """Answers everything; its health can be switched off. `probes` counts what asked for its health."""

    def __init__(self) -> None:
        self.ill = threading.Event()
        self.probes: list[str] = []

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/healthz":
            echo(handler)
            return
        self.probes.append(handler.headers.get("user-agent", ""))
        if self.ill.is_set():
            handler.send_error(503)
        else:
            answer(handler, b"ok")


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def mesh(service: Service) -> Iterator[Mesh]:
    with HttpEcho(service.respond) as backend:
        workloads = {"front": {}, "prober": {}, "orders": {"at": backend.address, "health": "/healthz"}}
        with Mesh(workloads, POLICY) as mesh:
            yield mesh


def test_the_node_probes_without_a_rule_and_leaves_no_record(mesh: Mesh, service: Service) -> None:
    until(lambda: "Envoy/HC" in service.probes, what="a probe of the node")
    assert mesh.status("front", "http://orders/x") == 200
    mesh.record(path="/x")
    assert not mesh.records(path="/healthz")


def test_a_rule_for_everything_does_not_open_it(mesh: Mesh) -> None:
    assert mesh.status("front", "http://orders/healthz") == 403
    assert mesh.status("front", "http://orders/healthz?deep=1") == 403
    assert mesh.record(path="/healthz")["ep"] == "septum.health"


def test_a_rule_that_spells_it_out_does(mesh: Mesh) -> None:
    assert mesh.status("prober", "http://orders/healthz") == 200


def test_a_workload_whose_probe_fails_gets_no_calls_until_it_is_well(mesh: Mesh, service: Service) -> None:
    service.ill.set()
    until(lambda: mesh.status("front", "http://orders/ill") == 503, within=30, what="an ill workload")
    assert mesh.record(path="/ill", code=503)["flags"] == "UH"
    service.ill.clear()
    until(lambda: mesh.status("front", "http://orders/well") == 200, within=30, what="a workload that is well again")
