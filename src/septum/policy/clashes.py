"""What a mesh as a whole gets wrong: two things at one address, two workloads of one name, and parts without use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Address, Mesh
from septum.policy.codes import ADDRESS_CLASH, AUTHORITY_CLASH, EMPTY_SEGMENT, NO_WORKLOAD


@dataclass(frozen=True, slots=True)
class Listening:
    """Something that listens: what it is, at which address, and where that is written."""

    what: str
    address: Address
    span: Span


def every_host(address: Address) -> bool:
    """Whether an address stands for all addresses of the host, such as `0.0.0.0` and `::`."""
    ip = ip_address(address.host)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_unspecified


def address_clashes(listening: Iterable[Listening]) -> Iterator[Diagnostic]:
    """Everything that listens where something before it does."""
    by_port: dict[int, _Port] = {}
    for one in listening:
        other = by_port.setdefault(one.address.port, _Port()).take(one)
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
    """Workloads that callers could not tell from another, by one of the names that both answer to."""
    for workload in mesh.workloads.values():
        for authority in mesh.authorities(workload):
            other = mesh.resolve(authority)
            if other != workload.name and workload.span is not None:
                message = f"callers would reach both `{workload.name}` and `{other}` as {authority}"
                yield Diagnostic(AUTHORITY_CLASH, message, workload.span, help="rename one, or the trust domain")


def unused(mesh: Mesh, workloads: Span) -> Iterator[Diagnostic]:
    """Segments without workloads, and a mesh without any; `workloads` is where they are listed."""
    if not mesh.workloads:
        yield Diagnostic(NO_WORKLOAD, "the mesh has no workload", workloads, severity=Severity.WARNING)
    used = {workload.segment for workload in mesh.workloads.values()}
    for segment in mesh.segments.values():
        if segment.name not in used and segment.span is not None:
            message = f"no workload is in segment `{segment.name}`"
            yield Diagnostic(EMPTY_SEGMENT, message, segment.span, severity=Severity.WARNING)
