"""A version on trial: it goes back by itself when nobody confirms it in time, or when it does harm before.

Harm is what the record and the health checks show. `docs/operating.md` and `septum apply --help` state the thresholds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from septum.audit.schema import StoreUnavailable, WrongVersion
from septum.control.api import Handler
from septum.control.applied import Outcome, Terms
from septum.control.archive import NothingAwaits
from septum.control.membership import Health
from septum.control.plane import Plane
from septum.control.signing import BadSignature
from septum.control.since import Asked, Since
from septum.control.state import Baseline, State, StateError, Version
from septum.control.versions import AUTOMATIC, Versions

_log = structlog.get_logger("septum.confirm")

# How far the record is looked at before the change: seconds, and records where there are more.
BEFORE, MOST = 15 * 60.0, 1_000_000
# A pair was talking when it had so many requests allowed. It lost something when it had so many denied since, and when
# the share of its requests that are denied has grown by more than this.
TALKING, DENIED, GROWN = 5, 5, 0.20
# Seconds between two looks, before a way back that failed is tried again, and until nodes that are away are left be.
_LOOK, _AGAIN, _PATIENCE = 0.5, 5.0, 2.0


@dataclass(slots=True)
class _Counts:
    """The requests of one pair before a change, and since."""

    allowed_before: int = 0
    denied_before: int = 0
    allowed: int = 0
    denied: int = 0

    def add(self, since: bool, denied: bool, number: int) -> None:
        match since, denied:
            case True, True:
                self.denied += number
            case True, False:
                self.allowed += number
            case False, True:
                self.denied_before += number
            case _:
                self.allowed_before += number

    @property
    def lost(self) -> bool:
        """Whether a pair that was talking is denied more than before."""
        if self.allowed_before < TALKING or self.denied < DENIED:
            return False
        before = self.denied_before / (self.allowed_before + self.denied_before)
        return self.denied / (self.allowed + self.denied) > before + GROWN


class Denials:
    """The pairs that lost something since a moment, by the record, which is read on from where it was left."""

    def __init__(self, records: Path, began: float) -> None:
        self._since = Since(records)
        groups = "caller, target, time >= :began, decision = 'deny'"
        values = {"began": began, "oldest": began - BEFORE}
        # A call that was on record while it was open is counted when it has ended.
        self._asked = Asked(f"{groups}, count(*)", "+time >= :oldest AND NOT open", f"GROUP BY {groups}", values)
        self._pairs: dict[tuple[str, str], _Counts] = {}

    def look(self, shut: frozenset[str]) -> str:
        """What the change does to those who were talking, or nothing. Raises StoreUnavailable and WrongVersion.

        Who is in quarantine (`shut`) is denied by that, and not by the change.
        """
        for caller, target, since, denied, number in self._since.read(self._asked, MOST):
            self._pairs.setdefault((caller, target), _Counts()).add(bool(since), bool(denied), number)
        lost = {pair: counts for pair, counts in self._pairs.items() if counts.lost and shut.isdisjoint(pair)}
        return _told(lost) if lost else ""


def _told(lost: Mapping[tuple[str, str], _Counts]) -> str:
    (caller, target), counts = max(lost.items(), key=lambda one: one[1].denied)
    since = f"{counts.denied} of its {counts.denied + counts.allowed} requests since"
    before = f"{counts.denied_before} of {counts.denied_before + counts.allowed_before} before"
    others = f"; and {len(lost) - 1} other pairs" if len(lost) > 1 else ""
    return f"{caller} is denied at {target}: {since}, {before}{others}"


class Illness:
    """The workloads that were healthy and are not any more. Two reports in a row have to say so."""

    def __init__(self, before: Baseline) -> None:
        self._before = before
        self._first: dict[str, float] = {}

    def look(self, health: Mapping[str, Health]) -> str:
        """Who is ill since the change, or nothing."""
        ill = {name: one.heard for name, one in health.items() if name in self._before.healthy and not one.passes}
        ill = {name: heard for name, heard in ill.items() if heard > self._before.began}
        self._first = {name: self._first.get(name, heard) for name, heard in ill.items()}
        names = sorted(name for name, heard in ill.items() if heard > self._first[name])
        return f"the health check of {', '.join(names)} fails" if names else ""


class Trial:
    """Looks after the version that awaits its confirmation. `health` tells how workloads are, as far as it is known."""

    def __init__(
        self,
        plane: Plane,
        state: State,
        records: Path,
        health: Callable[[], Mapping[str, Health]],
        clock: Callable[[], float],
    ) -> None:
        self._plane, self._state, self._versions = plane, state, Versions(state.rows)
        self._records, self._health, self._clock = records, health, clock
        self._looks: tuple[float | None, Denials, Illness] | None = None
        self._said = ""

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        return {"confirm": self.confirm}

    async def confirm(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let the enforced version stay; with `version`, only if it is this one. `author` says who wants it."""
        try:
            confirmed = await self._plane.confirm(str(request["author"]), str(request.get("version", "")))
        except NothingAwaits as error:
            return {"error": str(error)}
        _log.info("confirmed", version=confirmed.digest, number=confirmed.number, author=request["author"])
        return {"version": confirmed.digest, "number": confirmed.number}

    def status(self) -> dict[str, Any]:
        """The version that awaits its confirmation, and the last way back that was taken by itself, if it still counts.

        It counts until something else is applied.
        """
        version, back = self._plane.stored, self._versions.last_rollback()
        counts = back is not None and version is not None and version.restores == back.restores
        return {
            "provisional": self._provisional(version) if version is not None and version.awaits else None,
            "rolled_back": _rolled_back(back) if back is not None and counts else None,
        }

    def _provisional(self, version: Version) -> dict[str, Any]:
        assert version.confirm_by is not None
        left = max(0.0, version.confirm_by - self._clock())
        return {
            "number": version.number,
            "version": version.digest,
            "confirm_by": version.confirm_by,
            "seconds_left": left,
            "falls_back": version.falls_back,
            "trouble": self._said,
        }

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                pause = _LOOK if await self.look() else _AGAIN
            except StateError as error:
                self._say("the state cannot be read, so a version on trial is not looked after", str(error))
                pause = _AGAIN
            await asyncio.sleep(pause)

    async def look(self) -> bool:
        """Look once, and go back when that is due. False when it is due and was not possible."""
        version = self._plane.stored
        if version is None or not version.awaits:
            self._looks, self._said = None, ""
            return True
        assert version.confirm_by is not None
        if self._clock() >= version.confirm_by:
            return await self._go_back(version, "it was not confirmed in time")
        harm = await self._harm(version)
        return await self._go_back(version, harm) if harm else True

    async def _harm(self, version: Version) -> str:
        if self._looks is None or self._looks[0] != version.confirm_by:
            before = self._state.baseline(version.number) or Baseline(version.applied, frozenset())
            self._looks = version.confirm_by, Denials(self._records, before.began), Illness(before)
        _, denials, illness = self._looks
        try:
            denied = await asyncio.to_thread(denials.look, version.quarantined)
            self._said = ""
        except (StoreUnavailable, WrongVersion) as error:
            self._say("the record cannot be read, so denials are not noticed", str(error))
            denied = ""
        return denied or illness.look(self._health())

    async def _go_back(self, version: Version, why: str) -> bool:
        """Enforce what was enforced before. What keeps that from happening is said once, and it is tried again."""
        try:
            to = self._versions.find(str(version.falls_back))
            if to is None:
                raise StateError(f"version {version.falls_back} is not stored any more")
            terms = Terms(why, to.commit, base=version.digest, unconditional=True)
            applied = await self._plane.rollback(to, AUTOMATIC, _PATIENCE, terms)
        except (StateError, BadSignature) as error:
            self._say("a version should be rolled back, and cannot be", str(error), due=why)
            return False
        if applied.outcome is Outcome.MOVED:
            return True  # something else happened first; the next look sees it
        if applied.outcome not in (Outcome.HELD, Outcome.SENT):
            self._say("a version should be rolled back, and cannot be", _refusal(asdict(applied)), due=why)
            return False
        _log.error(
            "a version was rolled back by itself", version=version.digest, number=version.number, reason=why,
            to=applied.version, to_number=to.number, outcome=str(applied.outcome),
        )  # fmt: skip
        return True

    def _say(self, event: str, reason: str, **more: str) -> None:
        if reason != self._said:
            _log.error(event, reason=reason, **more)
        self._said = reason


def _rolled_back(back: Version) -> dict[str, Any]:
    return {"at": back.applied, "from": back.previous, "to": back.restores, "number": back.number, "why": back.message}


def _refusal(applied: Mapping[str, Any]) -> str:
    refused = [f"{node['node']}: {node['why']}" for node in applied["nodes"] if node["arrived"] == "refused"]
    said = [one["message"] for one in applied["diagnostics"]]
    return "; ".join([*refused, *said]) or str(applied["outcome"])
