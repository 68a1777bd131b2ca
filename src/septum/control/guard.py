"""The lock-out guard: what probes health or reads metrics must not be denied by accident.

A probe that is denied makes a workload look ill, and a scrape that is denied makes it look gone. Nobody notices before
something is restarted over it. So a change that would deny what was allowed of late is refused, unless it is meant.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from septum.audit.schema import StoreUnavailable, WrongVersion
from septum.control.since import Asked, Since
from septum.model.decision import Request
from septum.model.operation import HttpOperation
from septum.model.policy import Policy
from septum.policy.decide import decide, goes_through, opens
from septum.policy.revoked import Pair

_log = structlog.get_logger("septum.guard")
# How far back the guard looks: seconds, and records where there are more.
WINDOW, MOST = 24 * 3600.0, 2_000_000
# Where health is asked for and metrics are read, by what is customary; a workload's own `health` path comes on top.
PATHS = (
    "/healthz", "/readyz", "/livez", "/startupz", "/health", "/ready", "/live", "/healthcheck",
    "/health/live", "/health/ready", "/healthz/live", "/healthz/ready", "/-/healthy", "/-/ready",
    "/actuator/health", "/q/health",
    "/metrics", "/actuator/prometheus", "/stats/prometheus", "/q/metrics",
)  # fmt: skip
BELOW = ("/actuator/health/", "/q/health/", "/grpc.health.v1.Health/")
_LOOK = 2.0  # seconds
# Paths differ in what the prefixes leave open; nobody probes more of them than this.
_KEPT = 20_000

# Caller, target, protocol, method, path.
_Asked = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Lockout:
    """What was allowed of late and would be denied: by which rule it was allowed, when last, and why no more."""

    caller: str
    target: str
    operation: str
    rule: str
    last_seen: float
    why: str


class Probes:
    """What probed and scraped of late, kept in step with the record, so that asking costs an apply next to nothing."""

    def __init__(self, records: Path, clock: Callable[[], float]) -> None:
        self._since, self._clock = Since(records), clock
        self._seen: dict[_Asked, tuple[float, str]] = {}
        self._paths: frozenset[str] = frozenset()
        self._turn, self._trouble = asyncio.Lock(), ""

    async def run(self, enforced: Callable[[], Policy | None]) -> None:
        """Follow the record, with the health paths of what is enforced, until cancelled."""
        while True:
            if (policy := enforced()) is not None:
                await self._follow(policy)
            await asyncio.sleep(_LOOK)

    async def lockouts(self, old: Policy, new: Policy, pairs: frozenset[Pair]) -> tuple[Lockout, ...]:
        """What probes and scrapes `new` would deny, of those that `old` allowed. `pairs` are those that lose something.

        A record that cannot be read keeps nobody from changing the policy; that it was not asked is logged.
        """
        gone = old.mesh.workloads.keys() - new.mesh.workloads.keys() if old.mesh is not new.mesh else frozenset()
        if not pairs and not gone:
            return ()
        await self._follow(old)
        now = self._clock()
        lost = (
            _lost(asked, seen, old, new, now)
            for asked, seen in self._seen.items()
            if seen[0] >= now - WINDOW and (asked[:2] in pairs or asked[0] in gone)
        )
        return tuple(sorted(filter(None, lost), key=lambda one: (one.target, one.caller, one.operation)))

    async def _follow(self, policy: Policy) -> None:
        async with self._turn:
            trouble = ""
            try:
                await asyncio.to_thread(self._read, _paths_of(policy))
            except (StoreUnavailable, WrongVersion) as error:
                trouble = str(error)
            if trouble and trouble != self._trouble:
                _log.warning("the record cannot be read, so the lock-out guard knows nothing new", reason=trouble)
            self._trouble = trouble

    def _read(self, paths: frozenset[str]) -> None:
        """In a thread. Other paths than before mean that all has to be looked at again."""
        if paths != self._paths:
            self._since.start_over()
            self._paths, self._seen = paths, {}
        oldest = self._clock() - WINDOW
        seen = dict(self._seen)
        for *asked, last, rule in self._since.read(_asked(paths, oldest), MOST):
            key = (asked[0], asked[1], asked[2], asked[3], asked[4])
            seen[key] = max((last, rule), seen.get(key, (0.0, "")))
        if len(seen) > _KEPT or any(at < oldest for at, _ in seen.values()):
            newest = sorted(seen.items(), key=lambda one: one[1], reverse=True)[:_KEPT]
            seen = {asked: last for asked, last in newest if last[0] >= oldest}
        self._seen = seen


def _paths_of(policy: Policy) -> frozenset[str]:
    health = (workload.health for workload in policy.mesh.workloads.values())
    return frozenset(PATHS) | frozenset(path for path in health if path)


def _asked(paths: frozenset[str], oldest: float) -> Asked:
    """The last time that each was allowed, and by which rule (SQLite takes it from the row of the maximum)."""
    begins = " OR ".join(f"substr(path, 1, {len(path)}) = :below_{n}" for n, path in enumerate(BELOW))
    at = f"(path IN (SELECT value FROM json_each(:paths)) OR {begins})"  # noqa: S608 - own numbers
    # The index on time would be slower than the few rows that are new.
    condition = f"+time >= :oldest AND decision = 'allow' AND {at}"
    values = {"oldest": oldest, "paths": json.dumps(sorted(paths))}
    values |= {f"below_{n}": path for n, path in enumerate(BELOW)}
    asked = "caller, target, protocol, method, path"
    return Asked(f"{asked}, max(time), rule", condition, f"GROUP BY {asked}", values)


def _lost(asked: _Asked, seen: tuple[float, str], old: Policy, new: Policy, now: float) -> Lockout | None:
    """A probe that the new policy would deny, or None."""
    caller, name, protocol, method, path = asked
    if new.mesh.target(name) is None:
        return None  # nobody need ask for the health of what is gone
    request = Request(caller, name, HttpOperation(method, path, websocket=protocol == "websocket"), time=now)
    if goes_through(new, request):
        return None
    if not goes_through(old, request) and (not _with_a_token(old, request) or _with_a_token(new, request)):
        return None
    nearest = decide(new, request).nearest
    why = f"{nearest.rule.id}: {nearest.mismatch}" if nearest and nearest.rule else nearest.mismatch if nearest else ""
    return Lockout(caller, name, f"{method} {path}", seen[1], seen[0], why)


def _with_a_token(policy: Policy, request: Request) -> bool:
    """Whether some token opens it. Tokens are not on record, so what needed one before is held to have a good one."""
    target = policy.mesh.target(request.target)
    return target is not None and any(
        request.caller in rule.callers
        and opens(rule, target, request.operation)
        and (rule.window is None or rule.window.holds(request.time))
        for rule in policy.rules_to[target.name]
    )
