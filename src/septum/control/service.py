"""What the control socket answers: requests and responses as JSON values, over the plane, the fleet and the nodes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from septum.control.api import Handler
from septum.control.arrivals import Arrived, slowest
from septum.control.nodes import Nodes
from septum.control.plane import Applied, Plane
from septum.control.state import State
from septum.model.mesh import Mesh

Log = Callable[..., Any]
Count = Callable[[Applied], None]


class Service:
    """The operations of one control plane. Errors of the state become an `error` in the response."""

    def __init__(self, plane: Plane, state: State, nodes: Nodes, count: Count, log: Log) -> None:
        self._plane, self._state, self._nodes, self._count, self._log = plane, state, nodes, count, log

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        return {"apply": self.apply, "ready": self.ready, "status": self.status, **self._nodes.handlers()}

    async def apply(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """`files`: path → text; `unreadable`: path → reason; `author`; `patience` in seconds."""
        files: dict[str, bytes | OSError] = {
            path: text.encode("utf-8", "surrogateescape") for path, text in request["files"].items()
        }
        files |= {path: OSError(0, reason) for path, reason in request.get("unreadable", {}).items()}
        applied = await self._plane.apply(files, request["author"], float(request.get("patience", 5.0)))
        log_applied(self._log, applied, request["author"])
        self._count(applied)
        # A full collection over the objects of a large policy would hold up some later apply by 0.1 s.
        gc.freeze()
        return asdict(applied)

    async def ready(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Wait until the nodes hold what they should, `patience` seconds at most."""
        if request.get("node") == "":
            return {"nodes": []}
        arrived = await self._plane.ready(float(request.get("patience", 10.0)), request.get("node"))
        resources = self._nodes.resources()
        return {"nodes": [asdict(arrival) | {"resources": resources.get(arrival.node, 0)} for arrival in arrived]}

    async def status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nodes, versions, workloads, records."""
        policy, version = self._plane.policy, self._state.enforced()
        return {
            "mesh": policy.mesh.name if policy else "",
            "version": policy.version if policy else "",
            "applied": version.applied if version else None,
            "author": version.author if version else "",
            "rules": len(policy.rules) if policy else 0,
            "quarantined": sorted(policy.quarantined) if policy else [],
            "nodes": self._nodes.status(),
            "workloads": self._workloads(policy.mesh) if policy else [],
            "external": policy is not None and policy.mesh.external is not None,
            "records": self._nodes.records(),
        }

    def _workloads(self, mesh: Mesh) -> list[dict[str, Any]]:
        outbound = self._plane.outbound()
        return [
            {
                "name": w.name,
                "segment": w.segment,
                "protocol": str(w.protocol),
                "at": str(w.at),
                "node": w.node,
                "mode": str(mesh.mode(w)),
                "outbound": str(outbound[w.name]),
                "dials": {name: str(address) for name, address in w.dials.items()},
            }
            for w in mesh.workloads.values()
        ]


def log_applied(log: Log, applied: Applied, author: str) -> None:
    """One structured line an apply."""
    last = slowest(applied.nodes)
    log(
        "applied",
        outcome=str(applied.outcome),
        version=applied.version,
        previous=applied.previous,
        author=author,
        changed=len(applied.resources_changed),
        diagnostics=len(applied.diagnostics),
        nodes=len(applied.nodes),
        not_held={a.node: a.why for a in applied.nodes if a.arrived is not Arrived.HELD},
        slowest=last.node if last else "",
        milliseconds={name: round(value, 2) for name, value in applied.milliseconds.items()},
    )
