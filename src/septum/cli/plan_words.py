"""The words of a plan that its renderings share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from septum.cli.moment import ago
from septum.model.diagnostic import Span
from septum.model.window import time_text
from septum.plan.plan import Change, Plan, Row, Shift, Side, Witness
from septum.plan.replayed import Replay

# How the kinds of things are called when there are several; rules come first.
_PLURALS = {
    "rule": "rules", "guarantee": "guarantees", "mesh": "mesh", "segment": "segments", "node": "nodes",
    "workload": "workloads", "external": "places outside", "issuer": "issuers",
}  # fmt: skip
SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def number(count: int, what: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def side_text(side: Side) -> str:
    """What a side is called, with its version."""
    return f"{side.name}, version {side.version[:12]}" if side.version else side.name


def kinds(changes: Iterable[Change]) -> list[tuple[str, list[Change]]]:
    """The changes by kind: `rules: 1 added, 2 changed` and which they are."""
    by_kind: dict[str, list[Change]] = {}
    for change in changes:
        by_kind.setdefault(change.kind, []).append(change)
    order = [kind for kind in _PLURALS if kind in by_kind]
    return [(f"{_PLURALS[kind]}: {_counted(by_kind[kind])}", by_kind[kind]) for kind in order]


def _counted(changes: list[Change]) -> str:
    counts = Counter(change.what for change in changes)
    return ", ".join(f"{counts[what]} {what}" for what in SIGNS if counts[what])


def conditions(row: Row) -> list[str]:
    """Under which conditions a row is so, and whether it is carried out."""
    found = [f"with a token whose {row.when}"] if row.when else []
    found += [row.window] if row.window else []
    return found + (["recorded only: the targets are observed"] if row.observed else [])


def parts(row: Row, *, allowed: bool) -> list[str]:
    """What of a row's pattern is not in the row, and why."""
    before = "allowed before" if allowed else "still allowed"
    found = [f"but for {', '.join(row.other)}: {before}"] if row.other else []
    return found + ([f"but for {', '.join(row.above)}: shown above"] if row.above else [])


def witness_text(witness: Witness, created: float) -> str:
    """`storefront → orders  GET /orders/1`, with the token's claims, and when it is asked if that is not now."""
    text = f"{witness.caller} → {witness.target}  {witness.text}"
    if witness.claims:
        text += f"  with {json.dumps(dict(witness.claims), ensure_ascii=False)}"
    return text + (f"  at {time_text(witness.time)}" if witness.time > created else "")


def shift_text(shift: Shift) -> str:
    """What passes or stops as a whole, in a sentence."""
    said = {
        "observed": "is observed now: what no rule allows passes too, and is recorded",
        "enforced": "is enforced now: what no rule allows is denied",
        "gone": "is gone, and whatever was asked of it passed",
        "quarantined": "is in quarantine: nothing passes to it or from it",
        "released": "is out of quarantine: its rules count again",
    }[shift.kind]
    return f"{shift.name} {said}" + ("" if shift.witness else " (which changes nothing)")


def place_text(place: Span | None) -> str:
    """`policy/orders.yaml:9`, or nothing."""
    return place.place if place else ""


def verdicts_text(plan: Plan) -> str:
    """`2 hold, 1 is broken`."""
    broken, overridden = len(plan.broken), sum(one.overridden and not one.holds for one in plan.guarantees)
    holding = len(plan.guarantees) - broken - overridden
    counts = ((holding, "hold"), (overridden, "overridden"), (broken, "broken"))
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def touched_text(plan: Plan, most: int = 12) -> str:
    """Which workloads and nodes the change is about."""
    names, nodes = plan.touched.workloads, [node for node in plan.touched.nodes if node]
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    on = f", on {number(len(nodes), 'node')}: {', '.join(nodes)}" if nodes else ""
    return f"{number(len(names), 'workload')}: {', '.join(names[:most])}{more}{on}"


def looked_text(replay: Replay, now: float) -> str:
    """How many records were looked at, and how far back they go."""
    if replay.oldest is None:
        return "the record is empty"
    since = f"{number(replay.records, 'record')} since {time_text(replay.since)}"
    short = ", and it goes back no further" if replay.oldest > replay.since else ""
    return f"{since}; the oldest on record is of {time_text(replay.oldest)} ({ago(replay.oldest, now)}){short}"
