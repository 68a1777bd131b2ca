"""`septum apply`: the smallest change, confirmed; and when it cannot be, nothing changes and the author is told why."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from backends import HttpEcho
from mesh_process import Mesh

pytestmark = pytest.mark.xdist_group("apply")

ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
MANIFEST = ("type.googleapis.com/septum.Manifest", "manifest")
ALLOW = """\
allow:
  - {name: open, from: front, to: orders, http: [GET /open]}
  - {name: other, from: orders, to: front, http: [GET /x]}
"""
NEW = ALLOW.replace("/open", "/new")
OPEN_URL, NEW_URL = "http://orders/open", "http://orders/new"


@pytest.fixture(scope="module")
def running() -> Iterator[Mesh]:
    with HttpEcho() as orders, Mesh({"front": {}, "orders": {"at": orders.address}}, ALLOW) as mesh:
        yield mesh


@pytest.fixture
def mesh(running: Mesh) -> Iterator[Mesh]:
    """The mesh, with the same files before and after."""
    workloads = {name: dict(workload) for name, workload in running.workloads.items()}
    yield running
    running.workloads = workloads
    running.write_mesh()
    running.apply(ALLOW)


def changed(applied: dict[str, Any]) -> set[tuple[str, str]]:
    """Type and name of what was sent, beside the manifest that says what all of it is."""
    found = {(type_url, name) for _, type_url, name in applied["resources_changed"]}
    assert MANIFEST in found
    return found - {MANIFEST}


def test_one_rule_more_is_one_route_configuration(mesh: Mesh) -> None:
    applied = mesh.apply(ALLOW + "  - {name: new, from: front, to: orders, http: [GET /new]}\n")
    assert applied["outcome"] == "held"
    assert changed(applied) == {(ROUTE, "orders")}
    assert (mesh.status("front", OPEN_URL), mesh.status("front", NEW_URL)) == (200, 200)


def test_one_rule_less_also_ends_the_live_calls_of_its_caller(mesh: Mesh) -> None:
    applied = mesh.apply(NEW)
    assert applied["outcome"] == "held"
    assert changed(applied) == {(ROUTE, "orders"), (LISTENER, "outbound/front"), (LISTENER, "inside/front")}
    assert (mesh.status("front", OPEN_URL), mesh.status("front", NEW_URL)) == (403, 200)
    assert applied["version"] != applied["previous"]
    assert mesh.septum("status", "--json").json["version"] == applied["version"]


def test_it_says_what_it_did(mesh: Mesh) -> None:
    mesh.write_policy(NEW)
    said = mesh.septum("apply")
    assert said.code == 0
    assert "is held by 1 of 1 nodes" in said.out
    assert "2 Listener, 1 RouteConfiguration, 1 Manifest sent" in said.out
    again = mesh.septum("apply")
    assert (again.code, "is what is enforced already" in again.out) == (0, True)


def test_the_same_files_change_nothing(mesh: Mesh) -> None:
    applied = mesh.apply(ALLOW)
    assert (applied["outcome"], applied["resources_changed"]) == ("unchanged", [])


def test_a_comment_changes_nothing_on_the_node(mesh: Mesh) -> None:
    assert mesh.apply(f"# why\n{ALLOW}")["resources_changed"] == []


def test_invalid_files_change_nothing_and_all_of_it_is_said(mesh: Mesh) -> None:
    before = mesh.septum("status", "--json").json
    mesh.write_policy(
        "allow:\n  - {from: frnt, to: orders, http: [GET /open]}\n  - {from: front, to: orders, htp: []}\n"
    )
    refused = mesh.septum("apply")
    assert refused.code == 1
    for part in ("SEP203", "did you mean `front`?", "policy/test.yaml:2:12", "SEP201", "htp", "nothing changed: "):
        assert part in refused.out
    found = mesh.septum("apply", "--json")
    assert (found.code, found.json["outcome"]) == (1, "invalid")
    assert {d["code"] for d in found.json["diagnostics"]} >= {"SEP203", "SEP201"}
    after = mesh.septum("status", "--json").json
    assert (after["version"], after["files"]) == (before["version"], "invalid")
    assert mesh.status("front", OPEN_URL) == 200


def test_what_envoy_refuses_is_taken_back_and_the_reason_is_said(mesh: Mesh) -> None:
    """SECURITY row 31: a port that somebody has is valid in the files, and Envoy cannot open it."""
    before = mesh.septum("status", "--json").json["version"]
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        mesh.add("late", outbound=f"127.0.0.1:{somebody.getsockname()[1]}")
        mesh.write_mesh()
        mesh.write_policy(NEW)
        refused = mesh.septum("apply")
        assert refused.code == 1
        assert f"was refused; {before[:12]} stays enforced" in refused.out
        assert "outbound/late" in refused.out
        assert "Address already in use" in refused.out
        again = mesh.septum("apply", "--json")
        assert (again.code, again.json["outcome"]) == (1, "rejected")
    assert (mesh.status("front", OPEN_URL), mesh.status("front", NEW_URL)) == (200, 403)
    status = mesh.septum("status", "--json")
    assert status.code == 0, "the node holds the version before"
    assert (status.json["version"], status.json["files"]) == (before, "not applied")

    assert mesh.apply()["outcome"] == "held", "the port is free now"
    assert mesh.status("front", NEW_URL) == 200


def test_without_a_control_plane_it_says_how_to_start_one(mesh: Mesh) -> None:
    with Mesh({"front": {}}, start=False) as other:
        refused = other.septum("apply")
        assert refused.code == 1
        assert f"septum up {other.directory}" in refused.err


def test_files_that_are_not_text_are_refused_as_such(mesh: Mesh) -> None:
    (mesh.directory / "policy" / "bytes.yaml").write_bytes(b"allow: [\xff]\n")
    try:
        refused = mesh.septum("apply")
        assert (refused.code, "SEP106" in refused.out) == (1, True)
    finally:
        (mesh.directory / "policy" / "bytes.yaml").unlink()


def test_a_node_that_is_not_there_is_waited_for_and_then_named(mesh: Mesh) -> None:
    """Sent is not held: with Envoy standing still, the version is sent, and held once it goes on."""
    envoy = mesh.pid("envoy")
    os.kill(envoy, signal.SIGSTOP)
    try:
        mesh.write_policy(NEW)
        sent = mesh.septum("apply", "--wait", "0.2")
        assert sent.code == 1
        assert "was sent; it is held by 0 of 1 nodes" in sent.out
        assert ": missing: no answer yet\n" in sent.out
        assert mesh.septum("status").code == 1
    finally:
        os.kill(envoy, signal.SIGCONT)
    assert mesh.apply()["outcome"] in ("held", "unchanged")
    assert mesh.status("front", NEW_URL) == 200
