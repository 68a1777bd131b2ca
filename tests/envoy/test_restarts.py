"""What outlives a supervisor, and what a start takes up again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import HttpEcho
from mesh_process import Mesh
from waiting import until

pytestmark = pytest.mark.xdist_group("restarts")

ALLOW = "allow: [{name: open, from: front, to: orders, http: [GET /open]}]\n"
OTHER = ALLOW.replace("/open", "/other")
OPEN, CLOSED, ELSE = "http://orders/open", "http://orders/closed", "http://orders/other"


@pytest.fixture(scope="module")
def orders() -> Iterator[HttpEcho]:
    with HttpEcho() as backend:
        yield backend


@pytest.fixture
def mesh(orders: HttpEcho) -> Iterator[Mesh]:
    with Mesh({"front": {}, "orders": {"at": orders.address}}, ALLOW, start=False) as mesh:
        yield mesh


def enforces(mesh: Mesh) -> bool:
    return (mesh.status("front", OPEN), mesh.status("front", CLOSED)) == (200, 403)


def test_envoy_outlives_a_killed_supervisor_and_the_next_one_takes_it_over(mesh: Mesh) -> None:
    first = mesh.start()
    first.event("ready")
    envoy, control = mesh.pid("envoy"), mesh.pid("control")
    first.signal(signal.SIGKILL)
    first.wait()
    until(lambda: control not in mesh.processes(), what="the control plane ends with its supervisor")
    assert enforces(mesh)

    second = mesh.start()
    assert second.event("taken over", process="envoy")["pid"] == envoy
    second.event("ready")
    assert enforces(mesh)
    assert mesh.apply(OTHER)["outcome"] == "held"
    assert (mesh.status("front", OPEN), mesh.status("front", ELSE)) == (403, 200)
    assert mesh.stop() == 0
    assert mesh.processes() == {}


def test_an_envoy_that_was_taken_over_is_started_again_when_it_dies(mesh: Mesh) -> None:
    first = mesh.start()
    first.event("ready")
    first.signal(signal.SIGKILL)
    first.wait()
    second = mesh.start()
    envoy = second.event("taken over", process="envoy")["pid"]
    second.event("ready")
    os.kill(envoy, signal.SIGKILL)
    second.event("started", process="envoy")
    until(lambda: enforces(mesh), what="both verdicts", says=mesh.logs)


def test_an_envoy_that_cannot_run_is_tried_again_with_growing_pauses(mesh: Mesh, tmp_path: Path) -> None:
    script = tmp_path / "envoy"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    up = mesh.start(SEPTUM_ENVOY=str(script))
    for pause in (0.1, 0.2, 0.5, 1.0):
        assert up.event("ended", process="envoy", again_in_seconds=pause)["status"] == 3
    assert mesh.stop() == 0


def test_a_restart_goes_on_with_what_was_enforced_and_not_with_the_files(mesh: Mesh) -> None:
    mesh.start().event("ready")
    mesh.write_policy(OTHER)
    assert enforces(mesh)
    assert mesh.septum("status", "--json").json["files"] == "not applied"
    assert mesh.stop() == 0

    mesh.start().event("ready")
    assert enforces(mesh)
    assert mesh.status("front", ELSE) == 403
    assert mesh.apply()["outcome"] == "held"
    assert (mesh.status("front", OPEN), mesh.status("front", ELSE)) == (403, 200)
    assert mesh.stop() == 0

    mesh.write_policy("allow: nonsense")
    mesh.start().event("ready")
    assert mesh.status("front", ELSE) == 200
    assert mesh.stop() == 0


def test_watching_applies_the_files_when_they_change(mesh: Mesh) -> None:
    mesh.start("--watch").event("ready")
    mesh.write_policy(OTHER)
    until(lambda: mesh.status("front", ELSE) == 200, what="the new rule", says=mesh.logs)
    assert mesh.status("front", OPEN) == 403
    mesh.write_policy("allow: nonsense")
    mesh.write_policy(ALLOW.replace("name: open", "name: again"), "second")
    until(lambda: "SEP204" in mesh.logs(), what="the complaint", says=mesh.logs)
    assert (mesh.status("front", OPEN), mesh.status("front", ELSE)) == (403, 200)
    mesh.write_policy(OTHER)
    until(lambda: mesh.status("front", OPEN) == 200, what="both rules", says=mesh.logs)


def test_a_mesh_may_lie_deeper_than_a_socket_path_may_be_long(orders: HttpEcho) -> None:
    below = "/".join(["a-directory-with-a-long-name"] * 8)
    with Mesh({"front": {}, "orders": {"at": orders.address}}, ALLOW, below=below) as mesh:
        assert len(str(mesh.state)) > 107
        assert enforces(mesh)
        assert mesh.apply(OTHER)["outcome"] == "held"
        assert mesh.septum("status").code == 0
