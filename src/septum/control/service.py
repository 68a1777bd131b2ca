"""What the control socket answers: requests and responses as JSON values, over the plane, the fleet and the nodes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from septum.control.api import Handler
from septum.control.applied import Applied, Terms
from septum.control.arrivals import Arrived, slowest
from septum.control.candidates import summary
from septum.control.confirm import Trial
from septum.control.nodes import Nodes
from septum.control.plane import Plane
from septum.control.signing import BadSignature
from septum.control.state import Fate, State, UnreadableVersion
from septum.control.versions import PREVIOUS, AmbiguousVersion, Versions
from septum.model.mesh import Mesh

Log = Callable[..., Any]
Count = Callable[[Applied], None]


class Service:
    """The operations of one control plane. Errors of the state become an `error` in the response."""

    def __init__(self, plane: Plane, state: State, nodes: Nodes, trial: Trial, count: Count, log: Log) -> None:
        self._plane, self._state, self._nodes, self._trial = plane, state, nodes, trial
        self._count, self._log = count, log

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        own = {"apply": self.apply, "rollback": self.rollback, "ready": self.ready, "status": self.status}
        return {**own, **self._trial.handlers(), **self._nodes.handlers()}

    async def apply(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """`files`: path → text; `unreadable`: path → reason; `author`; `patience` in seconds; and the terms.

        The terms may be left out: `message`, `commit`, `base` (the version that has to be enforced), `confirm` (seconds
        until it goes back by itself), `supersede`, `allow_lockout`.
        """
        files, terms, author = files_of(request), _terms(request), text_of(request["author"])
        if terms.confirm is not None and self._plane.stored is None:
            return {"error": "nothing is enforced yet that this could go back to: apply it without --confirm"}
        return self._done(await self._plane.apply(files, author, _patience(request), terms), author)

    async def rollback(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Enforce an earlier `version` again (as `Versions.find` knows it; `previous` when left out).

        `author`, `patience` and the terms are as for `apply`.
        """
        ref, author = str(request.get("version") or PREVIOUS), text_of(request["author"])
        try:
            to = Versions(self._state.rows).find(ref)
            if to is None:
                return {"error": _no_version(ref)}
            if to.end is not None and to.end.fate is Fate.REFUSED:
                return {"error": f"version {to.number} was refused, so there is no going back to it: {to.end.why}"}
            applied = await self._plane.rollback(to, author, _patience(request), _terms(request))
        except (AmbiguousVersion, BadSignature, UnreadableVersion) as error:
            return {"error": str(error)}
        return {**self._done(applied, author), "restored": to.number}

    def _done(self, applied: Applied, author: str) -> Mapping[str, Any]:
        log_applied(self._log, applied, author)
        self._count(applied)
        # A full collection over the objects of a large policy would hold up some later apply by 0.1 s.
        gc.freeze()
        return asdict(applied)

    async def ready(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Wait until the nodes hold what they should, `patience` seconds at most."""
        if request.get("node") == "":
            return {"nodes": [], "unused": self._plane.unused}
        arrived = await self._plane.ready(float(request.get("patience", 10.0)), request.get("node"))
        resources = self._nodes.resources()
        nodes = [asdict(arrival) | {"resources": resources.get(arrival.node, 0)} for arrival in arrived]
        return {"nodes": nodes, "unused": self._plane.unused}

    async def status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nodes, versions, workloads, records."""
        policy, version = self._plane.policy, self._plane.stored
        return {
            "mesh": policy.mesh.name if policy else "",
            "version": policy.version if policy else "",
            "applied": version.applied if version else None,
            "author": version.author if version else "",
            "unused": self._plane.unused,
            "rules": len(policy.rules) if policy else 0,
            "quarantined": sorted(policy.quarantined) if policy else [],
            "nodes": self._nodes.status(),
            "workloads": self._workloads(policy.mesh) if policy else [],
            "external": policy is not None and policy.mesh.external is not None,
            "records": self._nodes.records(),
            "candidate": summary(self._plane.beside, self._plane.base),
            **self._trial.status(),
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


def _terms(request: Mapping[str, Any]) -> Terms:
    confirm, base = request.get("confirm"), request.get("base")
    return Terms(
        message=text_of(request.get("message", "")),
        commit=text_of(request.get("commit", "")),
        base=None if base is None else str(base),
        confirm=None if confirm is None else float(confirm),
        supersede=bool(request.get("supersede")),
        allow_lockout=bool(request.get("allow_lockout")),
    )


def _patience(request: Mapping[str, Any]) -> float:
    return float(request.get("patience", 5.0))


def files_of(request: Mapping[str, Any]) -> dict[str, bytes | OSError]:
    """The files that a request sends, as they were read."""
    files: dict[str, bytes | OSError] = {
        path: text.encode("utf-8", "surrogateescape") for path, text in request["files"].items()
    }
    return files | {path: OSError(0, reason) for path, reason in request.get("unreadable", {}).items()}


def text_of(given: Any) -> str:
    """A text that can be stored and shown: half a character becomes a question mark."""
    return str(given).encode("utf-8", "replace").decode()


def _no_version(ref: str) -> str:
    if ref == PREVIOUS:
        return "there is no earlier version to go back to: `septum history`"
    return f"no version is called `{ref}`: `septum history` lists them"


def log_applied(log: Log, applied: Applied, author: str) -> None:
    """One structured line an apply."""
    last = slowest(applied.nodes)
    log(
        "applied",
        outcome=str(applied.outcome),
        version=applied.version,
        previous=applied.previous,
        number=applied.number,
        author=author,
        changed=len(applied.resources_changed),
        diagnostics=len(applied.diagnostics),
        nodes=len(applied.nodes),
        not_held={a.node: a.why for a in applied.nodes if a.arrived is not Arrived.HELD},
        slowest=last.node if last else "",
        locked_out=[f"{one.caller} {one.target} {one.operation}" for one in applied.lockouts],
        milliseconds={name: round(value, 2) for name, value in applied.milliseconds.items()},
    )
