"""What the control socket answers: requests and responses as JSON values, over the plane and the fleet."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from septum.control.api import Handler
from septum.control.plane import Applied, Plane
from septum.control.state import State
from septum.model.mesh import Mesh
from septum.xds.fleet import Fleet

Log = Callable[..., Any]
AuditStatus = Callable[[], Mapping[str, Any]]


class Service:
    """The operations of one control plane. Errors of the state become an `error` in the response."""

    def __init__(self, plane: Plane, state: State, fleet: Fleet, records: AuditStatus, log: Log) -> None:
        self._plane, self._state, self._fleet, self._records, self._log = plane, state, fleet, records, log

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        return {"apply": self.apply, "ready": self.ready, "status": self.status}

    async def apply(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """`files`: path → text; `unreadable`: path → reason; `author`; `patience` in seconds."""
        files: dict[str, bytes | OSError] = {
            path: text.encode("utf-8", "surrogateescape") for path, text in request["files"].items()
        }
        files |= {path: OSError(0, reason) for path, reason in request.get("unreadable", {}).items()}
        applied = await self._plane.apply(files, request["author"], float(request.get("patience", 5.0)))
        log_applied(self._log, applied, request["author"])
        # A full collection over the objects of a large policy would hold up some later apply by 0.1 s.
        gc.freeze()
        return asdict(applied)

    async def ready(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Wait until the node holds what it should, `patience` seconds at most."""
        return asdict(await self._plane.ready(float(request.get("patience", 10.0))))

    async def status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nodes, versions, workloads, records."""
        policy, version = self._plane.policy, self._state.enforced()
        return {
            "mesh": policy.mesh.name if policy else "",
            "version": policy.version if policy else "",
            "applied": version.applied if version else None,
            "author": version.author if version else "",
            "rules": len(policy.rules) if policy else 0,
            "nodes": [asdict(node) for node in self._fleet.status()],
            "workloads": self._workloads(policy.mesh) if policy else [],
            "records": dict(self._records()),
        }

    def _workloads(self, mesh: Mesh) -> list[dict[str, Any]]:
        outbound = self._plane.outbound()
        return [
            {
                "name": w.name,
                "segment": w.segment,
                "protocol": str(w.protocol),
                "at": str(w.at),
                "mode": str(mesh.mode(w)),
                "outbound": str(outbound[w.name]),
                "dials": {name: str(address) for name, address in w.dials.items()},
            }
            for w in mesh.workloads.values()
        ]


def log_applied(log: Log, applied: Applied, author: str) -> None:
    """One structured line an apply."""
    log(
        "applied",
        outcome=str(applied.outcome),
        version=applied.version,
        previous=applied.previous,
        author=author,
        changed=len(applied.resources_changed),
        diagnostics=len(applied.diagnostics),
        refusals=[refusal.reason for refusal in applied.refusals],
        milliseconds={name: round(value, 2) for name, value in applied.milliseconds.items()},
    )
