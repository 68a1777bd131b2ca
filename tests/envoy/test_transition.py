"""Nothing is open in a transition: a proxy without control plane, and one whose control plane dies within a change."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import h1
import pytest
from proxy import NODE, backends, end, free_port, running_proxy, wait_for

from septum.envoy.bootstrap import Start, bootstrap
from septum.model.decision import Request
from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.operation import HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.node.binary import command, find_envoy
from septum.policy.decide import decide


def _policy(at: Address, allowed: str) -> Policy:
    def workload(name: str) -> Workload:
        return Workload(name, "core", at, Protocol.HTTP, outbound=Address("127.0.0.1", free_port()))

    workloads = {name: workload(name) for name in ("client", "web")}
    mesh = Mesh("lab", "lab.test", {"core": Segment("core")}, workloads, frozenset({"core"}))
    rule = Rule("only", ("client",), ("web",), (HttpPattern.parse(f"GET /{allowed}"),))
    return Policy(mesh, (rule,), allowed)


def test_a_cold_proxy_without_its_control_plane_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "envoy.pb").write_bytes(bootstrap(Start(NODE, "lab", "xds.sock", "admin.sock")).SerializeToString())
    process = subprocess.Popen(command(find_envoy(), 1), cwd=tmp_path, env={**os.environ, "SEPTUM_NODE": NODE})
    try:
        wait_for((tmp_path / "admin.sock").exists, "the admin socket")
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(os.path.relpath(tmp_path / "admin.sock"))
            admin.sendall(b"GET /listeners HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: admin.recv(65536), b""))
        assert b"200 OK" in answer
        assert b"127.0.0.1:" not in answer
    finally:
        end(process)


def test_a_control_plane_that_dies_within_a_change_leaves_the_old_or_the_new() -> None:
    with backends() as at, running_proxy() as proxy:
        old = _policy(at["http"], "old")
        new = replace(old, rules=_policy(at["http"], "new").rules, version="new")
        outbound = old.mesh.workloads["client"].outbound
        assert outbound is not None
        connection = h1.Connection(outbound.port)

        def passes(path: str) -> bool:
            return connection.send(f"GET /{path} HTTP/1.1\r\nhost: web\r\n\r\n".encode()).from_backend

        def verdicts() -> tuple[bool, bool]:
            assert not passes("never")
            return passes("old"), passes("new")

        def one_of_both() -> (
            bool
        ):  # the change may come between two questions, so they are asked until it has or has not
            return verdicts() in meant

        meant = {
            tuple(
                decide(p, Request("client", "web", HttpOperation("GET", f"/{path}"))).allowed for path in ("old", "new")
            )
            for p in (old, new)
        }
        proxy.hold(old)
        for _ in range(10):
            proxy.publish_and_die(new)
            wait_for(one_of_both, "the old or the new")
            proxy.serve_again()
            proxy.hold(new)
            assert verdicts() == (False, True)
            proxy.publish_and_die(old)
            wait_for(one_of_both, "the old or the new")
            proxy.serve_again()
            proxy.hold(old)
            assert verdicts() == (True, False)


@pytest.mark.parametrize("target", ["web", "nobody"])
def test_a_node_that_holds_no_rule_denies(target: str) -> None:
    with backends() as at, running_proxy() as proxy:
        empty = replace(_policy(at["http"], "x"), rules=())
        proxy.hold(empty)
        outbound = empty.mesh.workloads["client"].outbound
        assert outbound is not None
        answer = h1.Connection(outbound.port).send(f"GET /x HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
        assert answer.status == 403
