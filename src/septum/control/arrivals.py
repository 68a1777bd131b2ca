"""What came of a publication on each node, in words that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from septum.xds.status import AllHeld, Missing, Outcome, Refused
from septum.xds.types import Refusal


class Arrived(StrEnum):
    """HELD is what a node said it enforces; a MISSING one may enforce it or not, and nobody knows."""

    HELD = "held"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One node: what it did with a version, why not, and after how long (milliseconds from sending)."""

    node: str
    arrived: Arrived
    why: str = ""
    milliseconds: float = 0.0
    refusals: tuple[Refusal, ...] = ()


def arrivals(outcomes: Mapping[str, tuple[Outcome, float]], sent: float) -> tuple[Arrival, ...]:
    """Outcomes with their times, as the fleet gives them, to arrivals; `sent` is by the same clock."""
    return tuple(_arrival(node, outcome, (at - sent) * 1e3) for node, (outcome, at) in outcomes.items())


def _arrival(node: str, outcome: Outcome, milliseconds: float) -> Arrival:
    match outcome:
        case AllHeld():
            return Arrival(node, Arrived.HELD, milliseconds=max(0.0, milliseconds))
        case Refused(refusals):
            return Arrival(node, Arrived.REFUSED, str(refusals[0]), milliseconds, refusals)
        case Missing(why):
            return Arrival(node, Arrived.MISSING, why)
        case _:
            assert_never(outcome)


def slowest(of: Iterable[Arrival]) -> Arrival | None:
    """The node that held it last, among those that hold it."""
    held = [arrival for arrival in of if arrival.arrived is Arrived.HELD]
    return max(held, key=lambda arrival: arrival.milliseconds, default=None)


def why_refused(arrived: Iterable[Arrival]) -> str:
    """Who refused, and why."""
    refused = (arrival for arrival in arrived if arrival.arrived is Arrived.REFUSED)
    return "; ".join(f"{arrival.node}: {arrival.why}" for arrival in refused)
