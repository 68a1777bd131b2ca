"""What nodes ask of the control plane: to join, certificates, and what they report. Each is answered by who asks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc
import structlog
from cryptography.hazmat.primitives import serialization

from septum.control.registry import Registry, Standing, TokenRefused
from septum.control.state import StateError
from septum.identity.authority import Authority, AuthorityError
from septum.identity.csr import requested_key
from septum.identity.issuer import Issued
from septum.identity.leaf import Leaf, read_leaf
from septum.identity.names import Identity, JoinId, NodeId, WorkloadId, parse
from septum.identity.pem import CertificateError
from septum.model.mesh import Mesh
from septum.model.spiffe import SpiffeId
from septum.rpc.messages import REPORT_EVERY, Enrol, Enrolled, Orders, Renew, Report, Sign, Signed
from septum.rpc.server import CallRefused, Method, Operation, Peer

_log = structlog.get_logger("septum.membership")
NODE_LIFETIME, WORKLOAD_LIFETIME = 24 * 3600.0, 6 * 3600.0  # seconds
# A report that is older than this says nothing about now.
FRESH = 10.0
# How many reports a second are welcome, and the longest time between two of a node that still makes them fresh.
_REPORTS, _SLOWEST = 200.0, FRESH / 2


@dataclass(frozen=True, slots=True)
class Heard:
    """The last report of a node, and when it came (seconds since 1970)."""

    report: Report
    at: float


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a workload passes its health check, by the report of its node that came at `heard`."""

    passes: bool
    heard: float


class Membership:
    """The operations for agents. `mesh` is the one enforced, `fronted` tells the workloads that a node speaks for.

    `joined` is awaited when a node has become a member: what it fronts may be less than the mesh puts there.
    """

    def __init__(
        self,
        registry: Registry,
        authority: Callable[[], Authority | None],
        mesh: Callable[[], Mesh | None],
        fronted: Callable[[str], frozenset[str]],
        joined: Callable[[str], Awaitable[object]],
        clock: Callable[[], float],
    ) -> None:
        self._registry, self._authority, self._mesh = registry, authority, mesh
        self._fronted, self._joined, self._clock = fronted, joined, clock
        self.heard: dict[str, Heard] = {}
        self._news = asyncio.Event()
        # How many certificates were issued since this process started, by kind.
        self.issued: dict[str, int] = {}

    def operations(self) -> Mapping[str, Operation]:
        """The operations by name, with who may ask for them."""
        node, join = frozenset({"node"}), frozenset({"join"})
        return {
            "Enrol": Operation(join, Enrol, _telling(self.enrol)),
            "Renew": Operation(node, Renew, _telling(self.renew)),
            "Sign": Operation(node, Sign, _telling(self.sign)),
            "Report": Operation(node, Report, self.report),
        }

    def recognise(self, certificate: bytes) -> Peer:
        """Who a certificate names now. TLS has checked its chain; this is what TLS does not know."""
        leaf, identity = _read(certificate, self._trust_domain())
        if self._clock() > leaf.not_after:
            raise CallRefused("the certificate has ended; join again with a new token")
        match identity:
            case JoinId(id=id):
                return Peer("join", id, certificate)
            case NodeId(name=name):
                member = self._registry.members().get(name)
                if member is None or member.standing is Standing.REMOVED:
                    raise CallRefused(f"node {name} was removed from the mesh; join again with a new token")
                if not self._registry.has_certificate(name, leaf.serial) or self._is_revoked(leaf):
                    raise CallRefused(f"this certificate of node {name} is not valid any more")
                return Peer("node", name, certificate)
            case _:
                raise CallRefused(f"{leaf.uri} is not a node")

    def _is_revoked(self, leaf: Leaf) -> bool:
        """A node that was removed and came back has no use of what it had before."""
        authority = self._authority()
        return authority is not None and leaf.serial in authority.revoked

    async def enrol(self, peer: Peer, request: Enrol) -> Enrolled:
        """A node's first certificate, for its join token."""
        key = _key_of(request.csr)
        try:
            token = self._registry.redeem(peer.name, key, self._clock())
        except TokenRefused as refused:
            _log.error("a join token was refused", token=peer.name, reason=str(refused))
            raise CallRefused(str(refused)) from refused
        authority, mesh = self._signer(), self._known_mesh()
        issued = self._issue(
            authority, request.csr, NodeId(authority.trust_domain, token.node), token.node, NODE_LIFETIME
        )
        await self._joined(token.node)
        _log.info("a node joined", node=token.node, workloads=sorted(token.workloads))
        roots = authority.bundle(self._clock()).roots_pem
        return Enrolled(token.node, mesh.name, mesh.trust_domain, issued.chain_pem, roots)

    async def renew(self, peer: Peer, request: Renew) -> Signed:
        """The next certificate of a node."""
        authority = self._signer()
        issued = self._issue(
            authority, request.csr, NodeId(authority.trust_domain, peer.name), peer.name, NODE_LIFETIME
        )
        return Signed(issued.chain_pem, authority.bundle(self._clock()).roots_pem)

    async def sign(self, peer: Peer, request: Sign) -> Signed:
        """The certificate of a workload that the node fronts; of no other one."""
        if request.workload not in self._fronted(peer.name):
            _log.error("a node asked for a certificate that is not its own", node=peer.name, workload=request.workload)
            raise CallRefused(f"node {peer.name} does not front {request.workload}")
        authority = self._signer()
        identity = WorkloadId(SpiffeId(authority.trust_domain, request.workload))
        issued = self._issue(authority, request.csr, identity, peer.name, WORKLOAD_LIFETIME)
        return Signed(issued.chain_pem, authority.bundle(self._clock()).roots_pem)

    async def report(self, peer: Peer, report: Report) -> Orders:
        """Take note of how a node is; the answer is what is wanted of it."""
        self.heard[peer.name] = Heard(report, self._clock())
        self._news.set()
        self._news = asyncio.Event()
        member, authority = self._registry.members().get(peer.name), self._authority()
        drain = member is not None and member.standing is Standing.DRAINING
        every = self._pace()
        if authority is None:
            return Orders(drain=drain, every=every)
        roots = authority.bundle(self._clock()).roots_pem
        new = roots if report.roots and report.roots != digest_of(roots) else b""
        return Orders(drain, authority.issuer, new, every)

    def _pace(self) -> float:
        """How often a node should report: less often when there are many."""
        every = len(self.heard) / _REPORTS
        return min(_SLOWEST, every) if every > REPORT_EVERY else 0.0

    def health(self) -> dict[str, Health]:
        """Whether workloads pass their health checks, by the nodes that front them, as far as that was ever said."""
        found: dict[str, Health] = {}
        for node, heard in self.heard.items():
            if heard.report.health:
                fronted, said = self._fronted(node), heard.report.health.items()
                found |= {name: Health(passes, heard.at) for name, passes in said if name in fronted}
        return found

    def healthy(self) -> frozenset[str]:
        """The workloads of which it was said lately that they pass."""
        oldest = self._clock() - FRESH
        return frozenset(name for name, one in self.health().items() if one.passes and one.heard >= oldest)

    async def until(self, condition: Callable[[], bool], patience: float) -> bool:
        """Wait until what nodes report makes a condition true, `patience` seconds at most; whether it did."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    await self._news.wait()
        except TimeoutError:
            return condition()
        return True

    def _issue(self, authority: Authority, csr: bytes, identity: Identity, node: str, lifetime: float) -> Issued:
        try:
            issued = authority.issue(csr, identity, lifetime, self._clock())
        except (CertificateError, AuthorityError) as error:
            raise CallRefused(str(error)) from error
        self._registry.note_certificate(issued.serial, node, issued.not_after, self._clock())
        kind = "workload" if isinstance(identity, WorkloadId) else "node"
        self.issued[kind] = self.issued.get(kind, 0) + 1
        return issued

    def _signer(self) -> Authority:
        authority = self._authority()
        if authority is None:
            raise CallRefused("this control plane has no authority: `septum ca init`")
        return authority

    def _known_mesh(self) -> Mesh:
        mesh = self._mesh()
        if mesh is None:
            raise CallRefused("this control plane enforces nothing yet: `septum apply`")
        return mesh

    def _trust_domain(self) -> str:
        authority = self._authority()
        return authority.trust_domain if authority else ""


def _telling(method: Method) -> Method:
    """A state that cannot be written is told to who asked: it may ask again, and has got nothing."""

    async def answer(peer: Peer, request: Any) -> Any:
        try:
            return await method(peer, request)
        except StateError as error:
            _log.error("a certificate was not issued, because that cannot be stored", node=peer.name, reason=str(error))
            raise CallRefused(str(error), grpc.StatusCode.UNAVAILABLE) from error

    return answer


@lru_cache(maxsize=4096)
def _read(certificate: bytes, trust_domain: str) -> tuple[Leaf, Identity]:
    try:
        leaf = read_leaf(certificate)
        return leaf, parse(leaf.uri, trust_domain)
    except (CertificateError, ValueError) as error:
        raise CallRefused(f"no certificate of this mesh: {error}") from error


def _key_of(csr: bytes) -> str:
    """The digest of the key that a request is for."""
    try:
        key = requested_key(csr)
    except CertificateError as error:
        raise CallRefused(str(error)) from error
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def digest_of(roots: bytes) -> str:
    """By which a node and the control plane tell whether they trust the same roots."""
    return hashlib.sha256(roots).hexdigest()[:16]
