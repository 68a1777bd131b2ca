"""A control plane without its process: its state in files, its parts as `septum.app.control` puts them together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

from fakes.envoy_node import FakeNode
from meshes import SHOP, SHOP_RULES
from septum.audit.schema import FILE
from septum.audit.store import Store
from septum.control.applied import Applied
from septum.control.archive import Archive
from septum.control.certificates import Certificates
from septum.control.confirm import Trial
from septum.control.fronts import Fronts
from septum.control.guard import Probes
from septum.control.membership import Membership
from septum.control.nodes import Nodes
from septum.control.plane import Plane
from septum.control.registry import Registry, Token
from septum.control.service import Service
from septum.control.shadow import Shadows
from septum.control.signing import Signer
from septum.control.state import State
from septum.control.watched import Watched
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.model.mesh import Address, Mesh
from septum.model.record import Record
from septum.rpc.messages import Enrol, Enrolled, Report
from septum.rpc.server import Peer
from septum.xds.fleet import Fleet

NOW = 1_800_000_000.0

# Three hosts. What is allowed of the one node concerns no workload of the third.
HOSTS = """\
mesh: shop
trust_domain: shop.test
segments: {edge: takes traffic from outside, core: order handling, data: stores}
nodes:
  web: {inbound: 127.0.0.1:7401}
  app: {inbound: 127.0.0.1:7402}
  db:  {inbound: 127.0.0.1:7403}
workloads:
  storefront: {node: web, segment: edge, at: 127.0.0.1:9101, protocol: http}
  orders:     {node: app, segment: core, at: 127.0.0.1:9102, protocol: http}
  payments:   {node: app, segment: core, at: 127.0.0.1:9103, protocol: grpc}
  ledger:     {node: db,  segment: data, at: 127.0.0.1:9104, protocol: tcp}
"""
HOSTS_RULES = """\
allow:
  - {name: browse, from: storefront, to: orders, http: ["GET /orders/{id}", POST /orders]}
  - {name: keep, from: orders, to: ledger}
"""
BY_NODE = {"app": {"orders", "payments"}, "db": {"ledger"}, "web": {"storefront"}}


def pick(mesh: Mesh, kept: Mapping[str, Address]) -> dict[str, Address]:
    """Ports that nobody need be asked about."""
    return {name: kept.get(name, Address("127.0.0.1", 19000 + n)) for n, name in enumerate(mesh.workloads)}


def files(rules: str = SHOP_RULES, mesh: str = SHOP) -> dict[str, bytes | OSError]:
    """The files of a mesh directory."""
    return {"septum.yaml": mesh.encode(), "policy/rules.yaml": rules.encode()}


class World:
    """`now` is what the clock says, `stored` what is known of records, `logged` the lines of applies.

    `local` is the node of this machine; without it there are only others, as for `septum control`.
    """

    def __init__(self, directory: Path, local: str = "n1", listen: str = "") -> None:
        self.path, self.now = directory / "state.db", NOW
        self._tokens = 0
        self.stored: dict[str, dict[str, Any]] = {}
        self.logged: list[dict[str, Any]] = []
        self.state = State(self.path)
        self.registry = Registry(self.state)
        self.fleet = Fleet(lambda: 0.0, lambda _: None)
        self.certificates = Certificates(directory / "ca", self.clock)
        self.fronts = Fronts(local, self.registry.members, self.certificates.trusted_in)
        self.records = directory / "records" / FILE
        self.signer = Signer(directory, self.state.next_number() - 1)
        self.archive = Archive(self.state, self.signer, self._healthy, self.clock)
        self.probes = Probes(self.records, self.clock)
        self.plane = Plane(
            self.fronts, self.state, self.registry, self.fleet, pick, self.archive, self.probes, self.clock
        )
        self.membership = Membership(
            self.registry, self.certificates.authority, self.plane.mesh, self.plane.fronted, self._joined, self.clock
        )
        self.nodes = Nodes(
            self.plane, self.registry, self.membership, self.certificates, self.fleet, lambda: self.stored, self.clock,
            local=local, listen=listen,
        )  # fmt: skip
        self.watched = Watched(self.plane, self.state, self.nodes, self.membership, self.certificates)
        self.trial = Trial(self.plane, self.state, self.records, self.membership.health, self.clock)
        service = Service(self.plane, self.state, self.nodes, self.trial, self.watched.applied, self._log)
        self._handlers = {**service.handlers(), **Shadows(self.plane, service.apply, self.clock).handlers()}

    def clock(self) -> float:
        """The time of everything but the fleet."""
        return self.now

    def _healthy(self) -> frozenset[str]:
        return self.membership.healthy()

    def _joined(self, node: str) -> Awaitable[object]:
        return self.plane.refresh(f"node {node} joined", patience=0)

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append({"event": event, **fields})

    def node(self, name: str = "n1") -> FakeNode:
        """A node's agent, which comes and asks; it may come before anything is enforced."""
        if self.plane.policy is None:
            self.fleet.expect(name)
        return FakeNode(self.fleet, name, agent=True)

    def three(self) -> dict[str, FakeNode]:
        """The agents of `HOSTS`, by name."""
        return {name: self.node(name) for name in BY_NODE}

    async def apply(self, rules: str = SHOP_RULES, mesh: str = SHOP, patience: float = 5.0) -> Applied:
        """Apply files."""
        async with asyncio.timeout(20):
            return await self.plane.apply(files(rules, mesh), "ada", patience)

    async def apply_hosts(self, rules: str = HOSTS_RULES, patience: float = 5.0) -> Applied:
        """Apply files of `HOSTS`."""
        return await self.apply(rules, HOSTS, patience)

    async def spread(self) -> dict[str, FakeNode]:
        """`HOSTS` enforced, and held by all of its nodes."""
        await self.apply_hosts(patience=0)
        agents = self.three()
        assert {a.arrived for a in await self.plane.ready(5.0)} == {"held"}
        return agents

    async def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """One command, over JSON as on the socket."""
        async with asyncio.timeout(20):
            answer = await self._handlers[op](json.loads(json.dumps({"op": op, **request})))
        found: dict[str, Any] = json.loads(json.dumps(answer))
        return found

    @property
    def authority(self) -> Authority:
        """The authority, which is there once a mesh has nodes."""
        found = self.certificates.authority()
        assert found is not None
        return found

    def token(self, node: str, workloads: set[str] | None = None, id: str = "token", lifetime: float = 60.0) -> Peer:
        """A join token, and who calls with it."""
        named = frozenset(BY_NODE[node] if workloads is None else workloads)
        self.registry.add_token(Token(id, node, named, self.now + lifetime), self.now)
        return Peer("join", id)

    async def join(self, node: str, workloads: set[str] | None = None, key: bytes = b"") -> Enrolled:
        """A node joins, and is given its certificate."""
        self._tokens += 1
        token = self.token(node, workloads, id=f"t{self._tokens}")
        return await self.membership.enrol(token, Enrol(csr(key or new_key())))

    async def report(self, node: str, **fields: Any) -> None:
        """A node tells how it is: well, but for what is given."""
        said = {"septum": "0", "envoy_up": True, "clock": self.now, **fields}
        await self.membership.report(Peer("node", node), Report(**said))

    def record(self, caller: str, target: str, path: str, number: int = 1, **differs: Any) -> None:
        """Requests that were allowed now, or what `differs`, on the record of the node of this machine."""
        given = {"time": self.now, "caller": caller, "target": target, "path": path} | differs
        defaults = {"protocol": "http", "method": "GET", "decision": "allow", "rule": "some-rule", "node": "n1"}
        nothing = {name: kind() for name, kind in get_type_hints(Record).items()}
        self.records.parent.mkdir(exist_ok=True)
        with closing(Store(self.records)) as store:
            record = Record(**(nothing | defaults | given))
            store.write("n1", [record] * number, store.position("n1"), {})

    def enforced(self) -> str:
        """The version that a restart would take up."""
        version = self.state.enforced()
        return version.digest if version else ""

    def version(self) -> str:
        """The version that nodes should hold."""
        return self.plane.policy.version if self.plane.policy else ""
