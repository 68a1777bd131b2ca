"""The identities that the authority certifies, and the SPIFFE ID of each.

Only workloads are named by one path segment. What is Septum's own lies below `/septum/`, and `septum` is no workload.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from septum.model.spiffe import TRUST_DOMAIN, WORKLOAD_NAME, SpiffeId

RESERVED = "septum"


@dataclass(frozen=True, slots=True)
class WorkloadId:
    """A workload: `spiffe://<trust domain>/<workload>`."""

    spiffe: SpiffeId

    def __post_init__(self) -> None:
        if self.spiffe.workload == RESERVED:
            raise ValueError(f"`{RESERVED}` is reserved and cannot be a workload's name")

    @property
    def trust_domain(self) -> str:
        """The domain whose authority certifies it."""
        return self.spiffe.trust_domain

    @property
    def uri(self) -> str:
        """The SPIFFE ID as text."""
        return str(self.spiffe)


@dataclass(frozen=True, slots=True)
class NodeId:
    """A node: `spiffe://<trust domain>/septum/node/<name>`."""

    trust_domain: str
    name: str

    def __post_init__(self) -> None:
        _check(self.trust_domain, self.name, "a node's name")

    @property
    def uri(self) -> str:
        """The SPIFFE ID as text."""
        return f"spiffe://{self.trust_domain}/{RESERVED}/node/{self.name}"


@dataclass(frozen=True, slots=True)
class ControlId:
    """The control plane: `spiffe://<trust domain>/septum/control`."""

    trust_domain: str

    def __post_init__(self) -> None:
        _check(self.trust_domain)

    @property
    def uri(self) -> str:
        """The SPIFFE ID as text."""
        return f"spiffe://{self.trust_domain}/{RESERVED}/control"


@dataclass(frozen=True, slots=True)
class JoinId:
    """The bearer of a join token: `spiffe://<trust domain>/septum/join/<id>`."""

    trust_domain: str
    id: str

    def __post_init__(self) -> None:
        _check(self.trust_domain, self.id, "a join token's id")

    @property
    def uri(self) -> str:
        """The SPIFFE ID as text."""
        return f"spiffe://{self.trust_domain}/{RESERVED}/join/{self.id}"


Identity = WorkloadId | NodeId | ControlId | JoinId

_ID = re.compile(r"spiffe://([^/]*)/(.*)", re.DOTALL)


def parse(uri: str, trust_domain: str) -> Identity:
    """The identity that a SPIFFE ID names. Raises ValueError for any other text, and for another trust domain.

    Each identity is written in one way only: `parse(identity.uri, identity.trust_domain) == identity`.
    """
    match = _ID.fullmatch(uri)
    if match is None:
        raise ValueError(f"not a SPIFFE ID with a path: {uri!r}")
    if match[1] != trust_domain:
        raise ValueError(f"{uri!r} is of the trust domain {match[1]!r}, and this one is {trust_domain!r}")
    match match[2].split("/"):
        case ["septum", "control"]:
            return ControlId(trust_domain)
        case ["septum", "node", name]:
            return NodeId(trust_domain, name)
        case ["septum", "join", id]:
            return JoinId(trust_domain, id)
        case [workload]:
            return WorkloadId(SpiffeId(trust_domain, workload))
        case _:
            raise ValueError(f"{uri!r} names no workload, no node and no control plane")


def _check(trust_domain: str, name: str = "x", what: str = "") -> None:
    if not TRUST_DOMAIN.fullmatch(trust_domain):
        raise ValueError(f"not a SPIFFE trust domain: {trust_domain!r}")
    if not WORKLOAD_NAME.fullmatch(name):
        raise ValueError(f"not {what}: {name!r}")
