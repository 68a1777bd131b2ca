"""A mesh of several nodes, each on the host of its name, with `septum control` on the host `control`.

with Lan("control", "a", "b") as lan:
    with lan.inside("b"):
        orders = HttpEcho()
    with orders, NetHosts(lan, {"a": {"front": {}}, "b": {"orders": {"at": orders.address}}}, ALLOW) as mesh:
        assert mesh.call("front", "http://orders/orders/1").status == 200
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from typing import Any

from hosts import Hosts
from lan import Lan
from up_process import Up

from septum.control import api


class NetHosts(Hosts):
    """Workloads are on loopback of their hosts; only what nodes and the control plane open is on the network."""

    def __init__(
        self, lan: Lan, nodes: Mapping[str, Mapping[str, Mapping[str, Any]]], policy: str, **given: Any
    ) -> None:
        self.lan = lan
        super().__init__(nodes, policy, **given)

    def place(self, host: str) -> str:
        return self.lan.address(host)

    def connection(self, caller: str) -> http.client.HTTPConnection:
        with self.lan.inside(self.workloads[caller]["node"]):
            made = super().connection(caller)
            made.connect()
            return made

    def tcp(self, caller: str, target: str) -> socket.socket:
        with self.lan.inside(self.workloads[caller]["node"]):
            return super().tcp(caller, target)

    def nodes_status(self) -> dict[str, dict[str, Any]]:
        """What the control plane knows of each node now, faster than a command of its own tells."""
        return {node["node"]: node for node in api.call(self.state, "status")["nodes"]}

    def _spawn(self, name: str, command: list[str], environment: Mapping[str, str]) -> Up:
        with self.lan.inside(name):
            return super()._spawn(name, command, environment)
