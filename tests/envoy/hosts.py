"""A mesh of several nodes as real processes: `septum control` and one `septum node` a host, on loopback.

with HttpEcho() as orders, Hosts({"a": {"front": {}}, "b": {"orders": {"at": orders.address}}}, ALLOW) as mesh:
    assert mesh.call("front", "http://orders/orders/1").status == 200
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from answers import Result
from mesh_process import SEPTUM, Mesh
from up_process import Up
from waiting import until


class Hosts(Mesh):
    """Nodes by name, each with its workloads. Everything starts unless `start` is False; `join` starts one host."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Mapping[str, Any]]], policy: str, **given: Any) -> None:
        self.nodes = {name: dict(workloads) for name, workloads in nodes.items()}
        self._inbound: dict[str, int] = {}
        self.hosts: dict[str, Up] = {}
        flat = {w: {"node": node, **how} for node, of in nodes.items() for w, how in of.items()}
        super().__init__(flat, policy, **given)
        self.listen = f"{self.place('control')}:{self.port()}"

    def write_mesh(self) -> None:
        """`septum.yaml` with its nodes."""
        super().write_mesh()
        for node in self.nodes:
            if node not in self._inbound:
                self._inbound[node] = self.port()
        lines = [f"  {node}: {{inbound: {self.place(node)}:{port}}}" for node, port in self._inbound.items()]
        path = self.directory / "septum.yaml"
        path.write_text(path.read_text() + "\n".join(["nodes:", *lines, *self.also]) + "\n")

    # Lines for the end of septum.yaml, such as issuers.
    also: tuple[str, ...] = ()

    def place(self, host: str) -> str:
        """The address of a node's host, or of `control`, on the network between them."""
        return "127.0.0.1"

    def inbound(self, node: str) -> tuple[str, int]:
        """Where a node takes calls from other nodes."""
        return self.place(node), self._inbound[node]

    def host(self, node: str) -> Path:
        """The state directory of a node's host."""
        return self._root / f"host-{node}"

    def start(self, *arguments: str, **environment: str) -> Up:
        """Run `septum control`."""
        command = [*SEPTUM, "-C", str(self.directory), "control", "--listen", self.listen, "--log-format", "json"]
        return self._spawn("control", [*command, *arguments], environment)

    def token(self, node: str, *arguments: str) -> str:
        """A join token for a node."""
        result = self.septum("nodes", "token", node, *arguments)
        assert result.code == 0, result
        return result.out.strip()

    def join(self, node: str, token: str | None = None, **environment: str) -> Up:
        """Run `septum node` with a token (a new one, unless the host has joined)."""
        command = [*SEPTUM, "node", "--state", str(self.host(node)), "--log-format", "json"]
        if not (self.host(node) / "identity" / "member.json").exists() or token is not None:
            command += ["--control", self.listen, "--join", token or self.token(node)]
        self.hosts[node] = self._spawn(node, command, environment)
        return self.hosts[node]

    def tcp(self, caller: str, target: str) -> socket.socket:
        """A session of a caller with a TCP workload that it dials."""
        return socket.create_connection(self.dial(caller, target), timeout=10)

    def node(self, node: str, *arguments: str, within: float = 60) -> Result:
        """Run a command of `septum node` on a node's host."""
        return self.septum("node", "--state", str(self.host(node)), *arguments, within=within)

    def pid_on(self, node: str, process: str) -> int:
        """The pid of `envoy` or `agent` on a node's host."""
        return self.hosts[node].pid_of(process)

    def _spawn(self, name: str, command: list[str], environment: Mapping[str, str]) -> Up:
        errors = self._root / f"{name}{len(self._ups)}.err"
        up = Up(command, {**self.environment, **environment}, errors, self.logs)
        self._ups.append(up)
        return up

    def lines(self) -> list[dict[str, Any]]:
        """Everything that the Envoys have written of decisions, by host and in order."""
        from proxy import with_results

        found = []
        for node in self.nodes:
            for file in sorted((self.host(node) / "records").glob("decisions*.jsonl")):
                whole = (line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n"))
                found += [with_results(json.loads(line)) for line in whole]
        return found

    def stored(self, *arguments: str) -> list[dict[str, Any]]:
        """The records that the control plane has, as `septum audit --json` prints them."""
        result = self.septum("audit", "--json", *arguments)
        assert result.code == 0, result
        return [json.loads(line) for line in result.out.splitlines()]

    def processes(self) -> dict[int, str]:
        """Every process of this mesh that is still there, by pid."""
        places = {str(self.state), *(str(self.host(node)) for node in self.nodes)}
        found = {up.pid: "up" for up in self._ups if up.running}
        for process in psutil.process_iter():
            try:
                if process.cwd() in places and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = process.name()
            except psutil.Error:
                continue
        return found

    def logs(self) -> str:
        """The ends of the logs, for a test that fails."""
        places = [self.state, *(self.host(node) for node in self.nodes)]
        names = ("septum.log", "agent.log", "envoy.log", "envoy.out")
        files = [*self._root.glob("*.err"), *(place / name for place in places for name in names)]
        shown = (f"--- {file.relative_to(self._root)}\n{file.read_text()[-3000:]}" for file in files if file.exists())
        events = (f"--- events of {name}\n" + "\n".join(map(str, up.events[-20:])) for name, up in self.hosts.items())
        return "\n".join((*shown, *events))

    def __enter__(self) -> Hosts:
        if self._start:
            try:
                self.start().event("ready")
                for node in self.nodes:
                    self.join(node)
                for node in self.nodes:
                    self.hosts[node].event("ready")
            except BaseException:
                self._end()
                raise
        return self

    def forget_host(self, node: str) -> None:
        """Remove everything that a host has."""
        shutil.rmtree(self.host(node))

    def held(self, within: float = 20) -> None:
        """Wait until every node holds what it should."""
        until(
            lambda: self.septum("status", "--json").code == 0, within=within, what="every node holding", says=self.logs
        )

    def stop_host(self, node: str) -> int:
        """Ctrl-C for a node's host; its exit status."""
        self.hosts[node].signal(signal.SIGINT)
        return self.hosts[node].wait()
