"""The messages between an agent and the control plane, as MessagePack over gRPC. A field that is added has a default.

`PROTOCOL` is sent with each call; a control plane refuses an agent of another one by name, so that neither guesses.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

PROTOCOL = 1
SERVICE = "septum.v1.Control"
# Seconds between the reports of an agent that is not told otherwise.
REPORT_EVERY = 2.0
# Metadata of each call: the node it says it is from (believed only on the machine's own socket), and PROTOCOL.
NODE_KEY, PROTOCOL_KEY = "septum-node", "septum-protocol"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. Unknown fields are ignored, missing ones have their defaults."""


class Nothing(Message, frozen=True):
    """A question that needs no words, or an answer that says only that it was done."""


class Enrol(Message, frozen=True):
    """A node's first call, with a join token's certificate: the request for its own (PKCS#10, DER)."""

    csr: bytes


class Enrolled(Message, frozen=True):
    """Who the node is from now on: its certificate chain and what it trusts (PEM), and its mesh."""

    node: str
    mesh: str
    trust_domain: str
    chain: bytes
    roots: bytes


class Renew(Message, frozen=True):
    """The request for the next certificate of the node that calls."""

    csr: bytes


class Sign(Message, frozen=True):
    """The request for the certificate of one of the node's workloads."""

    workload: str
    csr: bytes


class Signed(Message, frozen=True):
    """A certificate chain (PEM, leaf first), and the roots that are trusted now."""

    chain: bytes
    roots: bytes


class Certificate(Message, frozen=True):
    """A certificate that a node uses: its SPIFFE ID, its end (seconds since 1970), and its issuer's key (hex)."""

    identity: str
    not_after: float
    issuer: str = ""


class Report(Message, frozen=True):
    """How a node is, every few seconds: its version of Septum and Envoy, whether Envoy answers, what it has.

    `clock` is the node's own time, since certificates and records depend on it. `records` is how shipping stands,
    `roots` the digest of the roots it trusts the control plane by, `kept` the snapshot it could start from alone.
    `health` are the workloads whose health its Envoy has checked, and whether they passed.
    """

    septum: str = ""
    envoy: str = ""
    envoy_up: bool = False
    envoy_starts: int = 0
    certificates: tuple[Certificate, ...] = ()
    source: str = ""
    roots: str = ""
    kept: str = ""
    clock: float = 0.0
    connections: int = 0
    drained: bool = False
    records: dict[str, str | int | float | bool | None] = {}
    troubles: tuple[str, ...] = ()
    health: dict[str, bool] = {}


class Orders(Message, frozen=True):
    """What the control plane wants of a node beside its snapshot.

    Certificates of another `issuer` than this are renewed now; `roots` (PEM) are there when the node's are others. The
    next report is wanted in `every` seconds, when that is longer than an agent waits by itself.
    """

    drain: bool = False
    issuer: str = ""
    roots: bytes = b""
    every: float = 0.0


M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


def decode(data: bytes, kind: type[M]) -> M:
    """Read a message. Raises msgspec.DecodeError (a ValueError) when it is none of this kind."""
    return msgspec.msgpack.decode(data, type=kind)
