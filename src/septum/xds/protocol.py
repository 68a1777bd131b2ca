"""What happens on one node's delta stream, and what its session wants done. Two closed unions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from septum.model.snapshot import Resource, Snapshot
from septum.xds.types import Refusal


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Envoy asks for resources, or no longer wants some.

    `initial_versions` is what it kept from an earlier stream; it says so in the first request of each type.
    """

    type_url: str
    names: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ack:
    """Envoy took the response of this nonce."""

    type_url: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Nack:
    """Envoy refused the response of this nonce, or a part of it."""

    type_url: str
    nonce: str
    reason: str


@dataclass(frozen=True, slots=True)
class Defer:
    """An agent says that Envoy cannot have what is in this response while something else is refused.

    No refusal: when Envoy has it after all, the agent asks for it by name.
    """

    type_url: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Published:
    """The node should hold this snapshot. What was refused before is tried again."""

    snapshot: Snapshot


Event = Subscribe | Ack | Nack | Defer | Published


@dataclass(frozen=True, slots=True)
class Send:
    """One response for the stream."""

    type_url: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    nonce: str


@dataclass(frozen=True, slots=True)
class Held:
    """Envoy holds these versions by name now; None: it holds nothing of that name."""

    type_url: str
    versions: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Envoy refused a resource; whoever publishes decides what follows."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Absent:
    """Envoy asked for names that the snapshot does not have, and was told so."""

    type_url: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """Envoy answered a nonce that awaits no answer; nothing follows from it."""

    type_url: str
    nonce: str


Command = Send | Held | Rejected | Absent | Stale
