"""What exists: segments, workloads, and how each is reached. The parsed form of `septum.yaml`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from typing import ClassVar

from septum.model.diagnostic import Span
from septum.model.spiffe import SpiffeId

_IPV6 = re.compile(r"\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]:([0-9]{1,5})")
_IPV4 = re.compile(r"([0-9.]+):([0-9]{1,5})")


class Protocol(StrEnum):
    """What a workload speaks. Declared, never sniffed: sniffing lets a silent client past the L7 policy."""

    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"


class Mode(StrEnum):
    """Whether a denial is carried out or only recorded."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An IP address and a TCP port, in canonical form, so that one address is written in one way.

    Raises ValueError for anything else; names are not resolved.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `127.0.0.1:9101` or `[::1]:9101`."""
        match = _IPV4.fullmatch(text) or _IPV6.fullmatch(text)
        if match is None:
            raise ValueError("an address is IP:PORT, such as 127.0.0.1:9101 or [::1]:9101")
        port = int(match[2])
        if not 0 < port < 65536:
            raise ValueError("a port is a number from 1 to 65535")
        return cls(str(ip_address(match[1])), port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; 0 means no limit.

    A whole request has no limit by default, since Envoy's 15 s would cut streams; a stream on which nothing moves ends
    at `idle`.
    """

    connect: float = 1.0
    request: float = 0.0
    idle: float = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one proxy may hold open towards a workload (Envoy `CircuitBreakers.Thresholds`)."""

    connections: int = 1024
    pending: int = 1024
    requests: int = 4096


@dataclass(frozen=True, slots=True)
class Node:
    """One Envoy and its agent. `inbound` is where its one mTLS listener takes calls from other nodes."""

    name: str
    inbound: Address
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs end users' tokens (JWT, RFC 7519). `name` is the key in `septum.yaml`, `issuer` the `iss` claim.

    Either `jwks` holds the keys themselves (JSON, RFC 7517, from a file of the mesh) or `jwks_url` says where proxies
    fetch them. A token is taken only with one of the `audiences`.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    jwks: str = ""
    jwks_url: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class External:
    """A place outside the mesh that rules may name as a target, decided on the caller's node.

    `protocol` is HTTP (each request is read) or TCP (a CONNECT is decided as a whole); with `sni` a TCP session must be
    TLS whose SNI is `host`. With `originate_tls` callers speak plain HTTP to their proxy, which speaks TLS to `host`
    and checks its certificate against `ca` (PEM, from a file of the mesh; the system's roots when empty).
    """

    name: str
    host: str
    port: int
    protocol: Protocol
    sni: bool = False
    originate_tls: bool = False
    ca: str = ""
    mode: Mode = Mode.ENFORCE
    span: Span | None = field(default=None, compare=False, repr=False)

    # What a workload can declare, and a place outside cannot.
    health: ClassVar[None] = None
    websocket: ClassVar[bool] = False
    path_parameters: ClassVar[bool] = False
    ignore_case: ClassVar[bool] = False

    @property
    def names(self) -> Iterator[str]:
        """Every `:authority` by which callers may name the place: by its name here, and by its host."""
        for name in (self.name, f"[{self.host}]" if ":" in self.host else self.host):
            if self.protocol is Protocol.TCP:
                yield f"{name}:{self.port}"
            else:
                yield from dict.fromkeys((name, f"{name}:80", f"{name}:{self.port}"))


@dataclass(frozen=True, slots=True)
class Segment:
    """A named set of workloads; every workload is in exactly one."""

    name: str
    description: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Workload:
    """A service. `outbound` is where its own outbound listener opens (chosen by Septum when None).

    `dials` says at which raw TCP address this workload finds each TCP workload it calls. `node` is the node that fronts
    it; empty in a mesh that lists no nodes, where one node fronts everything.
    """

    name: str
    segment: str
    at: Address
    protocol: Protocol
    health: str | None = None
    websocket: bool = False
    path_parameters: bool = False
    ignore_case: bool = False
    mode: Mode | None = None
    outbound: Address | None = None
    dials: Mapping[str, Address] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    node: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def canonical(self) -> bytes:
        """The workload as bytes, for digests; where it stands plays no part, nor does a node in a mesh of one."""
        fields = asdict(self)
        del fields["span"]
        if not self.node:
            del fields["node"]
        return json.dumps(fields, sort_keys=True).encode() + b"\n"


# What a rule can open something on.
Target = Workload | External


@dataclass(frozen=True)
class Mesh:
    """Everything that exists. `enforced` names the segments whose denials are carried out."""

    name: str
    trust_domain: str
    segments: Mapping[str, Segment]
    workloads: Mapping[str, Workload]
    enforced: frozenset[str]
    nodes: Mapping[str, Node] = field(default_factory=dict)
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    # None: the mesh says nothing about the outside. Empty: nothing outside may be called.
    external: Mapping[str, External] | None = None

    def spiffe(self, workload: str) -> SpiffeId:
        """The identity of a workload of this mesh."""
        return SpiffeId(self.trust_domain, workload)

    def mode(self, target: Target) -> Mode:
        """A target's own mode, or else its segment's."""
        if isinstance(target, External):
            return target.mode
        if target.mode is not None:
            return target.mode
        return Mode.ENFORCE if target.segment in self.enforced else Mode.OBSERVE

    def members(self, segment: str) -> tuple[str, ...]:
        """The workloads of a segment, in the mesh's order."""
        return tuple(name for name, workload in self.workloads.items() if workload.segment == segment)

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """Everything that a rule can open something on, by name: the workloads, then the places outside."""
        return {**self.workloads, **(self.external or {})}

    def target(self, name: str) -> Target | None:
        """The workload or the place outside of this name, or None."""
        return self.targets.get(name)

    def on(self, node: str) -> tuple[str, ...]:
        """The workloads that a node fronts, in the mesh's order: all of them in a mesh that lists no nodes."""
        return self._on_nodes.get(node, ()) if self.nodes else tuple(self.workloads)

    @cached_property
    def _on_nodes(self) -> Mapping[str, tuple[str, ...]]:
        """Node → the workloads that it fronts."""
        found: dict[str, list[str]] = {}
        for name, workload in self.workloads.items():
            found.setdefault(workload.node, []).append(name)
        return {node: tuple(names) for node, names in found.items()}

    def names(self, target: Target) -> Iterator[str]:
        """Every `:authority` by which callers on any node may name a target, already normalised.

        A port that the target does not have is not the target. The plain name of what speaks HTTP may carry port 80,
        because clients write it into CONNECT.
        """
        if isinstance(target, External):
            yield from target.names
            return
        for name in (target.name, f"{target.name}.{self.trust_domain}"):
            yield from dict.fromkeys((name, f"{name}:80", f"{name}:{target.at.port}"))

    def authorities(self, target: Target) -> Iterator[str]:
        """The target's names, and a workload's addresses, which name it on the node that fronts it alone."""
        yield from self.names(target)
        if isinstance(target, Workload):
            yield from _addresses(target)

    @cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for target in self.targets.values():
            for name in self.names(target):
                found.setdefault(name, target.name)
        return found

    @cached_property
    def _by_address(self) -> dict[tuple[str, str], str]:
        """Node and address → the workload. The node is empty in a mesh that lists none."""
        found: dict[tuple[str, str], str] = {}
        for workload in self.workloads.values():
            for address in _addresses(workload):
                found.setdefault((workload.node, address), workload.name)
        return found

    def resolve(self, authority: str, node: str = "") -> str | None:
        """The target that an `:authority` names on a node, or None. In a mesh without nodes, `node` plays no part.

        One trailing dot of the host is dropped, as Envoy's `strip_trailing_host_dot` does; case matters, because
        Envoy's scope keys are exact.
        """
        host, colon, port = authority.partition(":") if not authority.startswith("[") else (authority, "", "")
        asked = host.removesuffix(".") + colon + port
        return self._by_name.get(asked) or self._by_address.get((node if self.nodes else "", asked))


def _addresses(workload: Workload) -> Iterator[str]:
    """The `:authority` forms of where a workload listens."""
    yield str(workload.at)
    if workload.at.host == "127.0.0.1":
        yield f"localhost:{workload.at.port}"
