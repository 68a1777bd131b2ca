"""What an author asks of a change, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from septum.control.arrivals import Arrival
from septum.control.guard import Lockout
from septum.model.diagnostic import Diagnostic
from septum.xds.types import Refusal


class Outcome(StrEnum):
    """What came of an apply. SENT means just that: some node does not hold it yet.

    MOVED: something else is enforced than what the change was made against. AWAITS: the enforced version is to be
    confirmed or rolled back first. LOCKOUT: it would deny what probes a workload's health or reads its metrics.
    """

    HELD = "held"
    SENT = "sent"
    UNCHANGED = "unchanged"
    INVALID = "invalid"
    REJECTED = "rejected"
    MOVED = "moved"
    AWAITS = "awaits"
    LOCKOUT = "lockout"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a change is wanted. `message` and `commit` say why and from where, and are kept with the version.

    `base` is the version that has to be enforced, when it matters (empty: none). With `confirm` the change is rolled
    back by itself after so many seconds, unless it was confirmed. `supersede` takes the place of a version that awaits
    its confirmation. `allow_lockout` skips the lock-out guard. `restores` is the number of the version that a rollback
    goes to, and `unconditional` a way back that nothing but the nodes may refuse.
    """

    message: str = ""
    commit: str = ""
    base: str | None = None
    confirm: float | None = None
    supersede: bool = False
    allow_lockout: bool = False
    restores: int | None = None
    unconditional: bool = False


PLAIN = Terms()


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of an apply, with how long each step took (milliseconds) and what each node made of it.

    `version` is what was asked for, `number` what it is called if it was stored; `previous` was enforced before, and
    still is where nothing changed. `nodes` are all nodes of the mesh; `resources_changed` are (node, type, name) of
    what was sent. `confirm_by` is when the enforced version is rolled back unless it was confirmed.
    """

    outcome: Outcome
    version: str = ""
    previous: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    nodes: tuple[Arrival, ...] = ()
    resources_changed: tuple[tuple[str, str, str], ...] = ()
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    lockouts: tuple[Lockout, ...] = ()
    number: int = 0
    confirm_by: float | None = None

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every resource that some node refused."""
        return tuple(refusal for arrival in self.nodes for refusal in arrival.refusals)
