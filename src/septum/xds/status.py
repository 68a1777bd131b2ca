"""What is known about nodes: status values, outcomes of a publication, and what happens to a fleet."""

from __future__ import annotations

from dataclasses import dataclass

from septum.xds.types import Refusal


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node, as `septum status` shows it.

    `held_version` is the snapshot of which the node holds everything and nothing else; None while it holds a mixture or
    nothing. Of the `resources` that it should hold, `held` are acknowledged; `sent` are on their way (removals
    included). For a node that is not connected this is what was known last. `changed` is in seconds of the
    fleet's clock.
    """

    node: str
    connected: bool
    desired_version: str | None
    held_version: str | None
    resources: int
    sent: int
    held: int
    rejected: tuple[Refusal, ...]
    changed: float


@dataclass(frozen=True, slots=True)
class AllHeld:
    """The node holds the snapshot."""

    version: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The node answered everything it was sent, and refused some of it."""

    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """It is not known that the node holds the snapshot."""

    why: str


Outcome = AllHeld | Refused | Missing


@dataclass(frozen=True, slots=True)
class Connected:
    """A node opened its stream."""

    node: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A node's stream ended. Its Envoy goes on with what it holds."""

    node: str


@dataclass(frozen=True, slots=True)
class Displaced:
    """A node opened a second stream, and the first was ended; when it repeats, two Envoys use one name."""

    node: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Somebody asked for the snapshot of a node that is not known."""

    node: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A node holds a snapshot that it did not hold before."""

    node: str
    version: str


@dataclass(frozen=True, slots=True)
class NodeRefused:
    """A node refused a resource."""

    node: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class AskedForAbsent:
    """A node asked for resources that its snapshot does not have."""

    node: str
    type_url: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StaleAnswer:
    """A node answered a response that awaits no answer."""

    node: str
    type_url: str
    nonce: str


Happening = Connected | Disconnected | Displaced | TurnedAway | Settled | NodeRefused | AskedForAbsent | StaleAnswer
