"""Grants of the enforced policy: what they are, and the end of the live calls that one of them had opened.

The proxies deny by themselves from the second on at which a grant ends. What they let through before goes on, until the
control plane ends it here: at once when it runs, and otherwise when it is back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from septum.control.api import Handler
from septum.control.plane import Plane
from septum.control.registry import Pair
from septum.control.state import StateError
from septum.model.policy import Policy
from septum.policy.grants import described, ends, grants, losing

_log = structlog.get_logger("septum.grants")
# Seconds after which it is looked at the latest whether another policy, with other ends, is enforced.
_LOOK = 0.5


class Grants:
    """Ends what grants had opened. `clock` is seconds since 1970, as everywhere in the control plane."""

    def __init__(self, plane: Plane, clock: Callable[[], float]) -> None:
        self._plane, self._clock = plane, clock
        self._of: Policy | None = None
        self._ends: tuple[int, ...] = ()
        # Up to here it was looked at what ended.
        self._seen: float | None = None
        self._unstored = False

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        return {"grants": self.listed}

    async def listed(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """The grants of the enforced policy, those that end first before the others."""
        policy = self._plane.policy
        return {"grants": [] if policy is None else list(map(described, grants(policy)))}

    async def keep(self) -> None:
        """End live calls whenever a grant ends that had opened them, until cancelled."""
        while True:
            wait = await self.look()
            await asyncio.sleep(wait)

    async def look(self) -> float:
        """End the live calls of what ended since the last look; the seconds after which to look again."""
        now, policy = self._clock(), self._plane.policy
        if policy is None:
            return _LOOK
        if policy is not self._of:
            self._of, self._ends = policy, ends(policy)
        since = self._before() if self._seen is None else self._seen
        due = [end for end in self._ends if since < end <= now]
        cut = frozenset[Pair]().union(*(losing(policy, end) for end in due))
        if not cut or await self._cut(cut):
            self._seen = self._plane.ended = now
        following = next((end for end in self._ends if end > now), math.inf)
        return max(0.0, min(_LOOK, following - self._clock()))

    def _before(self) -> float:
        """Until when an earlier process saw to it: each end of live calls is a version of its own."""
        stored = self._plane.stored
        return stored.applied if stored else 0.0

    async def _cut(self, pairs: frozenset[Pair]) -> bool:
        try:
            await self._plane.refresh("the end of a grant", cut=pairs)
        except StateError as error:
            if not self._unstored:
                _log.error("live calls of a grant that ended go on, because it cannot be stored", reason=str(error))
            self._unstored = True
            return False
        self._unstored = False
        _log.info("live calls of a grant that ended were ended", pairs=sorted(f"{a} -> {b}" for a, b in pairs))
        return True
