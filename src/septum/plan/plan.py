"""A plan: one policy to be enforced in the place of another, and all that is known of what that does.

It holds texts and numbers only, so that what is shown is what was planned, on whatever machine it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from septum.model.diagnostic import Diagnostic, Span
from septum.plan.replayed import Replay


class Value(msgspec.Struct, frozen=True):
    """A part of a plan."""


class Side(Value, frozen=True):
    """One of the two policies: as whoever planned called it, and its version. Both empty: no policy at all."""

    name: str
    version: str


class Part(Value, frozen=True):
    """One part of a thing that differs; empty where it is not there."""

    name: str
    before: str
    after: str


class Change(Value, frozen=True):
    """A thing that is `added`, `removed` or `changed`. `kind` is its word in the language; a place may be missing."""

    kind: str
    name: str
    what: str
    parts: tuple[Part, ...] = ()
    place: Span | None = None


class Witness(Value, frozen=True):
    """One request that is decided differently. `text` is the operation, `time` in seconds since 1970."""

    caller: str
    target: str
    text: str
    claims: Mapping[str, Any]
    time: float


class Row(Value, frozen=True):
    """Requests that are newly allowed, or newly denied: one pattern of one rule.

    `other` names what of it is decided as before, `above` what earlier rows show. `observed`: all of its targets are
    observed after the change, so that it says what is recorded and not what passes.
    """

    rule: str
    operation: str
    callers_text: str
    targets_text: str
    callers: tuple[str, ...]
    targets: tuple[str, ...]
    witness: Witness
    when: str = ""
    window: str = ""
    because: str = ""
    other: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    observed: bool = False
    place: Span | None = None


class Shift(Value, frozen=True):
    """A target or a workload of which everything passes now, or nothing. Without a witness it changes nothing."""

    kind: str
    name: str
    widens: bool
    narrows: bool
    witness: Witness | None = None


class Verdict(Value, frozen=True):
    """What became of a guarantee; `held` is whether it held before, None where it is new."""

    name: str
    holds: bool
    overridden: bool
    held: bool | None = None
    place: Span | None = None


class Touched(Value, frozen=True):
    """The workloads and places outside that the change is about, and the nodes that front them."""

    workloads: tuple[str, ...]
    nodes: tuple[str, ...]


class Risk(Value, frozen=True):
    """Whether more passes and whether less does; `unknown` says why that may not be all. `text` is it in one line."""

    text: str
    widens: bool
    narrows: bool
    unknown: tuple[str, ...] = ()


class Plan(Value, frozen=True):
    """From `base` to `wanted`. `created` is in seconds since 1970.

    `files` are those of `wanted`, by their paths in the mesh directory, and `quarantined` who is in quarantine and
    stays there; together they make its version.
    """

    base: Side
    wanted: Side
    files: Mapping[str, str]
    quarantined: tuple[str, ...]
    message: str
    commit: str
    created: float
    changes: tuple[Change, ...]
    allowed: tuple[Row, ...]
    denied: tuple[Row, ...]
    shifts: tuple[Shift, ...]
    guarantees: tuple[Verdict, ...]
    findings: tuple[Diagnostic, ...]
    touched: Touched
    risk: Risk
    replay: Replay | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether both are one version."""
        return self.base.version == self.wanted.version

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The guarantees that are broken and may not be: the policy is refused as it stands."""
        return tuple(one for one in self.guarantees if not one.holds and not one.overridden)
