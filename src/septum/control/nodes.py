"""Operations on nodes and on who may belong to the mesh: status, tokens, drain, remove, quarantine, the authority."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import structlog

from septum.control.api import Handler
from septum.control.arrivals import Arrived
from septum.control.certificates import Certificates
from septum.control.membership import FRESH, Heard, Membership, digest_of
from septum.control.plane import Plane
from septum.control.registry import Member, Quarantined, Registry, Standing, Token
from septum.control.state import StateError
from septum.identity.authority import Authority, AuthorityError
from septum.identity.rotation import Rotation, Step, carry_out, remaining
from septum.identity.token import make_token
from septum.model.mesh import Mesh
from septum.rpc.messages import Report
from septum.xds.fleet import Fleet
from septum.xds.status import NodeStatus

_log = structlog.get_logger("septum.nodes")
# Seconds that nodes have to come along with a step of a rotation.
_ROTATION = 60.0
# Seconds by which a node's clock may differ before somebody should know.
SKEW = 60.0


class NotPossible(ValueError):
    """An operation that makes no sense here; the text says why."""


class Nodes:
    """`listen` is where agents of other hosts call, or empty; `stored` says how records stand, by node."""

    def __init__(
        self,
        plane: Plane,
        registry: Registry,
        membership: Membership,
        certificates: Certificates,
        fleet: Fleet,
        stored: Callable[[], Mapping[str, Mapping[str, Any]]],
        clock: Callable[[], float],
        *,
        local: str,
        listen: str,
    ) -> None:
        self._plane, self._registry, self._membership, self._certificates = plane, registry, membership, certificates
        self._fleet, self._stored, self._clock = fleet, stored, clock
        self._local, self._listen = local, listen
        # What could not be stored when it was due, each told once.
        self._unstored: set[str] = set()

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        made = {
            "token": self.token,
            "drain": self.drain,
            "remove": self.remove,
            "quarantine": self.quarantine,
            "quarantined": self.quarantined,
            "ca": self.ca,
        }
        return {name: _said(handler) for name, handler in made.items()}

    # What is

    def status(self) -> list[dict[str, Any]]:
        """Every node of the mesh and every one that ever joined, with all that is known about it."""
        fleet = {status.node: status for status in self._fleet.status()}
        members = self._registry.members()
        names = sorted({*fleet, *members, *self._plane.nodes()})
        stored = self._stored()
        return [self._status(name, fleet.get(name), members.get(name), stored.get(name, {})) for name in names]

    def resources(self) -> dict[str, int]:
        """How many resources each node should hold."""
        return {status.node: status.resources for status in self._fleet.status()}

    def records(self) -> dict[str, Any]:
        """The records of all nodes together."""
        stored = self._stored().values()
        total = {key: sum(int(of.get(key) or 0) for of in stored) for key in _SUMMED}
        stalled = [str(of["unstored"]) for of in stored if of.get("unstored")]
        return {**total, "stalled": "; ".join(dict.fromkeys(stalled))} if stored else {}

    def _status(
        self, name: str, status: NodeStatus | None, member: Member | None, stored: Mapping[str, Any]
    ) -> dict[str, Any]:
        heard = self._membership.heard.get(name)
        standing = member.standing if member else Standing.JOINED if name == self._local else None
        held = status is not None and status.held_version is not None
        return {
            "node": name,
            "standing": str(standing) if standing else "awaited",
            "connected": status.connected if status else False,
            "held": held and status is not None and status.held_version == status.desired_version,
            "version": self._plane.version_of(name, status.held_version if status else None),
            "desired": self._plane.version_of(name, status.desired_version if status else None),
            "resources": status.resources if status else 0,
            "resources_held": status.held if status else 0,
            "resources_sent": status.sent if status else 0,
            "rejected": [asdict(refusal) for refusal in status.rejected] if status else [],
            "joined": member.joined if member else None,
            "last_seen": heard.at if heard else None,
            **self._of_report(heard, stored),
            "troubles": [*self._not_fronted(name, member), *self._troubles(heard)],
        }

    def _of_report(self, heard: Heard | None, stored: Mapping[str, Any]) -> dict[str, Any]:
        report = heard.report if heard else None
        ends = [certificate.not_after for certificate in report.certificates] if report else []
        return {
            "certificate_end": min(ends, default=None),
            "certificates": [c.identity for c in report.certificates] if report else [],
            "septum": report.septum if report else "",
            "envoy": report.envoy if report else "",
            "envoy_up": report.envoy_up if report else False,
            "connections": report.connections if report else 0,
            "drained": report.drained if report else False,
            "health": dict(report.health) if report else {},
            "records": {**(dict(report.records) if report else {}), **stored},
        }

    def _not_fronted(self, node: str, member: Member | None) -> list[str]:
        """What the mesh puts on a node that it may not front: nobody reaches it until a new token names it."""
        mesh = self._plane.mesh()
        if mesh is None or member is None or not mesh.nodes or node == self._local:
            return []
        left = [name for name in mesh.on(node) if name not in member.workloads]
        return [f"may not front {', '.join(left)}: its token did not name them, so make a new one"] if left else []

    def _troubles(self, heard: Heard | None) -> list[str]:
        if heard is None:
            return []
        report, said = heard.report, list(heard.report.troubles)
        skew = report.clock - heard.at
        if abs(skew) > SKEW:
            said.append(f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}")
        if not report.envoy_up:
            said.append("its Envoy does not answer")
        if self._clock() - heard.at > FRESH:
            said.append("it does not report")
        return said

    # What changes

    async def token(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """A join token for `node`, for `workloads` (those the mesh puts there when None), for `lifetime` seconds."""
        authority, mesh, node = self._signer(), self._mesh(), str(request["node"])
        if node not in mesh.nodes:
            known = ", ".join(mesh.nodes) or "it lists none"
            raise NotPossible(f"the mesh has no node `{node}` ({known}); add it to `nodes:` and apply")
        if node == self._local:
            raise NotPossible(f"`{node}` is the node of this machine; it needs no token")
        workloads = mesh.on(node) if request.get("workloads") is None else request["workloads"]
        for name in workloads:
            if name not in mesh.workloads:
                raise NotPossible(f"no workload is called `{name}`")
        now, lifetime = self._clock(), float(request.get("lifetime", 3600.0))
        made = Token(secrets.token_hex(8), node, frozenset(workloads), now + lifetime)
        text = make_token(authority, node, made.id, lifetime, now)
        self._registry.add_token(made, now)
        return {
            "token": text,
            "node": node,
            "workloads": sorted(workloads),
            "expires": made.expires,
            "listen": self._listen,
        }

    async def drain(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Drain `node` or, with `drain` false, take it back; waits `patience` seconds for its last connection."""
        member = self._member(str(request["node"]))
        if member.standing is Standing.REMOVED:
            raise NotPossible(f"`{member.name}` was removed")
        drain = bool(request["drain"])
        self._registry.set_standing(member.name, Standing.DRAINING if drain else Standing.JOINED)
        if drain:
            await self._membership.until(lambda: self._drained(member.name), float(request.get("patience", 30.0)))
        heard = self._membership.heard.get(member.name)
        return {"drained": self._drained(member.name), "connections": heard.report.connections if heard else 0}

    async def remove(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take `node` out: its certificates are refused everywhere, and live calls of its workloads end."""
        member, mesh = self._member(str(request["node"])), self._mesh()
        serials = self._registry.certificates(member.name)
        self._registry.set_standing(member.name, Standing.REMOVED)
        self._signer().revoke(serials, self._clock())
        self._fleet.forget(member.name)
        callers = member.workloads | frozenset(mesh.on(member.name) if mesh.nodes else ())
        cut = frozenset((caller, target) for caller in callers for target in mesh.targets)
        applied = await self._plane.refresh(f"node {member.name} removed", cut=cut)
        return {"revoked": len(serials), "applied": asdict(applied)}

    async def quarantine(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put `workload` into quarantine for `lasts` seconds (None: until it is released), or `release` it."""
        name, mesh, author = str(request["workload"]), self._mesh(), str(request.get("author", ""))
        if name not in mesh.workloads and not request.get("release"):
            raise NotPossible(f"no workload is called `{name}`")
        now, lasts = self._clock(), request.get("lasts")
        if request.get("release"):
            self._registry.release(name)
            return {"applied": asdict(await self._plane.refresh(f"{author}: {name} released"))}
        self._registry.quarantine(Quarantined(name, None if lasts is None else now + float(lasts), now, author))
        return {"applied": asdict(await self._plane.refresh(f"{author}: {name} in quarantine"))}

    async def quarantined(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Who is in quarantine."""
        return {"quarantined": [asdict(entry) for entry in self._registry.quarantined(self._clock()).values()]}

    async def keep_quarantine(self) -> None:
        """Give back what was taken away for a time, when the time is over; until cancelled."""
        while True:
            policy = self._plane.policy
            now = set(self._registry.quarantined(self._clock()))
            if policy is not None and policy.quarantined - now:
                await self._refreshed("the end of a quarantine")
            await asyncio.sleep(0.5)

    async def keep_trust(self) -> None:
        """Publish what proxies trust whenever that has changed, until cancelled."""
        published = self._certificates.trusted()
        while True:
            await asyncio.sleep(1.0)
            trusted = self._certificates.trusted()
            if trusted != published and await self._refreshed("the authority"):
                published = trusted

    async def _refreshed(self, why: str) -> bool:
        """Enforce what changed by itself; False when that cannot be stored now, so that it is tried again."""
        try:
            await self._plane.refresh(why)
        except StateError as error:
            if why not in self._unstored:
                _log.error("a change is not enforced yet, because it cannot be stored", change=why, reason=str(error))
            self._unstored.add(why)
            return False
        self._unstored.discard(why)
        return True

    async def ca(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """A rotation of the authority, or one `step` of it; each step waits until every node has come along."""
        authority = self._signer()
        try:
            rotation, step = Rotation.read(request), str(request["step"])
            steps = remaining(authority.stage) if step == "all" else (Step(step),)
            done = [await self._step(authority, one, rotation) for one in steps]
        except (AuthorityError, ValueError) as error:
            raise NotPossible(str(error)) from error
        return {"done": done}

    async def _step(self, authority: Authority, step: Step, rotation: Rotation) -> str:
        said = carry_out(authority, step, rotation, self._clock())
        applied = await self._plane.refresh(f"the authority: {step}", patience=_ROTATION)
        members = self._registry.members()
        away = [a.node for a in applied.nodes if a.arrived is not Arrived.HELD and a.node in members]
        behind = self._distrusting if step is Step.PREPARE else self._behind
        if step is not Step.RETIRE:
            await self._membership.until(lambda: not behind(authority), _ROTATION)
            away += behind(authority)
        if away and step is not Step.RETIRE:
            names = ", ".join(sorted(set(away)))
            raise NotPossible(f"{said}; it stops here, because {names} did not come along: `septum nodes`, then again")
        return said

    def _distrusting(self, authority: Authority) -> list[str]:
        """Nodes that would not know the control plane by a certificate of the next issuer."""
        digest = digest_of(authority.bundle(self._clock()).roots_pem)
        return [node for node, report in self._reports() if report.roots not in ("", digest)]

    def _behind(self, authority: Authority) -> list[str]:
        """Nodes that still use certificates of an older issuer."""
        reports = self._reports()
        return [node for node, report in reports if any(c.issuer != authority.issuer for c in report.certificates)]

    def _reports(self) -> list[tuple[str, Report]]:
        """The last reports of the nodes that there are: a removed one comes along with nothing any more."""
        heard = self._membership.heard
        return [(node, heard[node].report) for node in self._plane.nodes() if node in heard]

    def _drained(self, node: str) -> bool:
        heard = self._membership.heard.get(node)
        return heard is not None and heard.report.drained and heard.report.connections == 0

    def _member(self, node: str) -> Member:
        members = self._registry.members()
        if node not in members:
            raise NotPossible(f"no node `{node}` has joined; there are {', '.join(members) or 'none'}")
        return members[node]

    def _signer(self) -> Authority:
        authority = self._certificates.authority()
        if authority is None:
            raise NotPossible("there is no authority yet: `septum ca init`")
        return authority

    def _mesh(self) -> Mesh:
        policy = self._plane.policy
        if policy is None:
            raise NotPossible("nothing is enforced yet: `septum apply`")
        return policy.mesh


_SUMMED = ("ingested", "unreadable", "lost", "behind", "disagreements")


def _said(handler: Handler) -> Handler:
    async def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await handler(request)
        except NotPossible as error:
            return {"error": str(error)}

    return answer
