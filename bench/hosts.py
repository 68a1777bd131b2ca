"""A real mesh of many nodes: `septum control`, and `septum node` for each host, on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import mesh_up, processes
from bench.mesh_up import SEPTUM
from bench.network import written
from bench.processes import BenchError
from septum.control import api

# The address group of the control plane, and the first one of the nodes' inbound listeners.
CONTROL, INBOUND = 249, 230
CONTROL_PLANE, AGENT, ENVOY = "septum.app.control", "septum.app.agent", "envoy"


@dataclass(frozen=True, slots=True)
class Host:
    """A node's supervisor and its Envoy, by pid."""

    pid: int
    envoy: int


@contextmanager
def control(mesh: Path, patience: float = 60) -> Iterator[int]:
    """The pid of the control plane of a mesh directory while the block runs, once it answers."""
    command = [SEPTUM, "-C", str(mesh), "control", "--listen", written(CONTROL), "--log-format", "json"]
    with processes.running(command, mesh) as process:
        deadline = time.monotonic() + patience
        while not _answers(mesh):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError("`septum control` does not answer:\n" + processes.output(mesh))
            time.sleep(0.02)
        yield processes.child(process.pid, CONTROL_PLANE)


@contextmanager
def node(mesh: Path, name: str) -> Iterator[Host]:
    """A host that joins as this node, while the block runs, once its Envoy holds its snapshot."""
    state = mesh / f"host-{name}"
    state.mkdir()
    joining = ["--control", written(CONTROL), "--join", token(mesh, name)]
    command = [SEPTUM, "node", "--state", str(state), "--log-format", "json", "--concurrency", "1", *joining]
    with mesh_up.ready(command, state) as pid:
        yield Host(pid, processes.child(pid, ENVOY))


def token(mesh: Path, name: str) -> str:
    """A join token for a node."""
    made: str = ask(mesh, "token", node=name)["token"]
    return made


def ask(mesh: Path, operation: str, **arguments: object) -> dict[str, Any]:
    """What the control plane answers. Raises BenchError for what it refuses."""
    answer: dict[str, Any] = api.call(mesh / ".septum", operation, timeout=120, **arguments)
    if "error" in answer:
        raise BenchError(f"the control plane refuses `{operation}`: {answer['error']}")
    return answer


def _answers(mesh: Path) -> bool:
    try:
        api.call(mesh / ".septum", "status")
    except api.NotRunningError:
        return False
    return True
