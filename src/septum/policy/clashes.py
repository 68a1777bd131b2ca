"""What a mesh as a whole gets wrong: two things at one address, two workloads of one name, and parts without use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Address, External, Issuer, Mesh, Node
from septum.policy.codes import ADDRESS_CLASH, AUTHORITY_CLASH, DUPLICATE_NAME, EMPTY_SEGMENT, NO_WORKLOAD


@dataclass(frozen=True, slots=True)
class Listening:
    """Something that listens: what it is, at which address, where that is written, and on which node it is."""

    what: str
    address: Address
    span: Span
    node: str = ""


def every_host(address: Address) -> bool:
    """Whether an address stands for all addresses of the host, such as `0.0.0.0` and `::`."""
    return _ip(address.host).is_unspecified


def is_loopback(host: str) -> bool:
    """Whether an IP address is one that no network carries."""
    return _ip(host).is_loopback


def never_outside(host: str) -> bool:
    """Whether an IP address is of the host itself or of its link, where each host means something else by it."""
    return _ip(host).is_loopback or _ip(host).is_link_local


def on_this_host(address: Address, node: Node) -> bool:
    """Whether a node reaches an address without a network: by loopback, or because it is where the node itself is."""
    return is_loopback(address.host) or address.host == node.inbound.host


def _ip(host: str) -> IPv4Address | IPv6Address:
    ip = ip_address(host)
    return getattr(ip, "ipv4_mapped", None) or ip


def address_clashes(listening: Iterable[Listening]) -> Iterator[Diagnostic]:
    """Everything that listens where something before it does, on the same node."""
    by_port: dict[tuple[str, int], _Port] = {}
    for one in listening:
        other = by_port.setdefault((one.node, one.address.port), _Port()).take(one)
        if other is not None:
            message = f"{one.what} ({one.address}) clashes with {other.what} ({other.address})"
            help = "give one of them another port"
            yield Diagnostic(ADDRESS_CLASH, message, one.span, f"the other is at {other.span.place}", help)


@dataclass(slots=True)
class _Port:
    """What listens at one port: the first thing at each host, the first of all, and the first that takes every host."""

    hosts: dict[str, Listening] = field(default_factory=dict)
    first: Listening | None = None
    everywhere: Listening | None = None

    def take(self, one: Listening) -> Listening | None:
        """Add one; returns what was there before it and gets in its way."""
        every = every_host(one.address)
        other = self.first if every else self.hosts.get(one.address.host) or self.everywhere
        self.hosts.setdefault(one.address.host, one)
        self.first = self.first or one
        if every:
            self.everywhere = self.everywhere or one
        return other


def authority_clashes(mesh: Mesh) -> Iterator[Diagnostic]:
    """Targets that callers could not tell from another, by one of the names that both answer to on some node."""
    for target in mesh.targets.values():
        for authority in mesh.authorities(target):
            other = mesh.resolve(authority, "" if isinstance(target, External) else target.node)
            if other != target.name and target.span is not None:
                message = f"callers would reach both `{target.name}` and `{other}` as {authority}"
                outside = isinstance(target, External) or isinstance(mesh.target(other or ""), External)
                help = "give one of them another host or port" if outside else "rename one, or the trust domain"
                yield Diagnostic(AUTHORITY_CLASH, message, target.span, help=help)


def name_clashes(mesh: Mesh) -> Iterator[Diagnostic]:
    """Things of one kind that have one name, where a mapping's keys do not show it."""
    for place in (mesh.external or {}).values():
        workload = mesh.workloads.get(place.name)
        if workload is not None:
            message = f"`{place.name}` is a workload, and cannot be a place outside too"
            yield from _named_twice(message, "rename one of them", place.span, workload.span)
    issuers: dict[str, Issuer] = {}
    for issuer in mesh.issuers.values():
        known = issuers.setdefault(issuer.issuer, issuer)
        if known is not issuer and issuer.issuer:
            message = f"`{issuer.issuer}` is the issuer of `{known.name}` too"
            yield from _named_twice(message, "list it once", issuer.span, known.span)


def _named_twice(message: str, help: str, span: Span | None, other: Span | None) -> Iterator[Diagnostic]:
    if span is not None and other is not None:
        yield Diagnostic(DUPLICATE_NAME, message, span, f"the other is at {other.place}", help)


def unused(mesh: Mesh, workloads: Span) -> Iterator[Diagnostic]:
    """Segments without workloads, and a mesh without any; `workloads` is where they are listed."""
    if not mesh.workloads:
        yield Diagnostic(NO_WORKLOAD, "the mesh has no workload", workloads, severity=Severity.WARNING)
    used = {workload.segment for workload in mesh.workloads.values()}
    for segment in mesh.segments.values():
        if segment.name not in used and segment.span is not None:
            message = f"no workload is in segment `{segment.name}`"
            yield Diagnostic(EMPTY_SEGMENT, message, segment.span, severity=Severity.WARNING)
