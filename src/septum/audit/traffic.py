"""Which paths are in use: records of the last seconds, counted by caller, target and operation. Pure.

Memory is bounded by the window and the number of paths, not by the rate of requests: latencies are kept as a histogram.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from septum.audit.latest import Latest
from septum.model.record import Record

# An ID in a path: a number, a UUID, a long run of hex digits, or letters with digits among them.
_ID = re.compile(r"\d+|[0-9a-fA-F-]{16,}|(?=[^/]*\d)(?=[^/]*[A-Za-z])[A-Za-z0-9_-]{6,}")
_OTHERS = "(other operations)"
# Latencies are rounded up by at most this factor.
_STEP = 1.05


def collapsed(record: Record) -> str:
    """The operation of a record, as `kind_of` tells it."""
    return kind_of(record.protocol, record.method, record.path)


def kind_of(protocol: str, method: str, path: str) -> str:
    """The operation with what looks like an ID replaced, so that calls of one kind fall together."""
    if protocol == "tcp":
        return method
    segments = path.split("/")
    path = "/".join("{id}" if _ID.fullmatch(segment) else segment for segment in segments[:8])
    path += "/**" if len(segments) > 8 else ""
    return path.removeprefix("/") if protocol == "grpc" else f"{method} {path}"


@dataclass(slots=True)
class _Bucket:
    """One second of one path."""

    second: int
    allowed: int = 0
    denied: int = 0
    would_be_denied: int = 0
    latencies: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class PathRow:
    """A path over the window: counts, calls per second, latencies in milliseconds (None without an allowed call).

    The rate is over the window, or over the time since the first call when that is shorter.
    """

    caller: str
    target: str
    operation: str
    rule: str
    allowed: int
    denied: int
    would_be_denied: int
    rate: float
    p50: float | None
    p99: float | None
    last: float


@dataclass(slots=True)
class _Path:
    operations: dict[str, None] = field(default_factory=dict)
    buckets: deque[_Bucket] = field(default_factory=deque)
    last: float = 0.0


Key = tuple[str, str, str, str]


class Traffic:
    """The window's paths. A rule's calls are one path; calls that no rule allows are told apart by operation."""

    def __init__(self, window: float, most: int = 500) -> None:
        self._window, self._most = window, most
        self._paths: dict[Key, _Path] = {}
        self._first = math.inf
        self._open = Latest[tuple[float, str], bool](10_000)
        self.policy_version = ""

    def add(self, records: Iterable[Record]) -> None:
        """Count records."""
        for record in records:
            self._add(record)

    def rows(self, now: float) -> list[PathRow]:
        """Every path of the window that ends at `now`, in no particular order."""
        self._forget(now - self._window)
        seconds = max(1.0, min(self._window, now - self._first))
        return [self._row(key, path, seconds) for key, path in self._paths.items()]

    def _add(self, record: Record) -> None:
        operation = collapsed(record)
        key: Key = (record.caller, record.target, record.rule, "" if record.rule else operation)
        if key not in self._paths and len(self._paths) >= self._most:
            key = (record.caller, record.target, "", _OTHERS)
            if key not in self._paths and len(self._paths) >= 2 * self._most:
                key = ("", "", "", _OTHERS)
        path = self._paths.setdefault(key, _Path())
        if len(path.operations) < 100:
            path.operations[operation] = None
        path.last = max(path.last, record.time)
        self._first = min(self._first, record.time)
        self.policy_version = record.policy_version or self.policy_version
        self._count(path, record)

    def _count(self, path: _Path, record: Record) -> None:
        second = int(record.time + record.duration / 1000)
        if not path.buckets or path.buckets[-1].second < second:
            path.buckets.append(_Bucket(second))
        bucket = path.buckets[-1]
        if record.decision != "allow":
            bucket.denied += 1
            return
        if self._counted_when_open(record):
            return
        bucket.allowed += 1
        bucket.would_be_denied += record.would_be != "allow"
        if record.open:
            return
        bucket.latencies[_step(record.duration)] += 1

    def _counted_when_open(self, record: Record) -> bool:
        """Whether this is the end of a call that was counted while it was open."""
        call = (record.time, record.request_id)
        if record.open:
            self._open.put(call, True)
            return False
        return self._open.get(call) is not None

    def _forget(self, start: float) -> None:
        for key, path in list(self._paths.items()):
            while path.buckets and path.buckets[0].second < start:
                path.buckets.popleft()
            if not path.buckets:
                del self._paths[key]

    def _row(self, key: Key, path: _Path, seconds: float) -> PathRow:
        caller, target, rule, operation = key
        latencies: Counter[int] = Counter()
        for bucket in path.buckets:
            latencies.update(bucket.latencies)
        allowed = sum(bucket.allowed for bucket in path.buckets)
        denied = sum(bucket.denied for bucket in path.buckets)
        return PathRow(
            caller=caller,
            target=target,
            operation=operation or _summary(path.operations),
            rule=rule,
            allowed=allowed,
            denied=denied,
            would_be_denied=sum(bucket.would_be_denied for bucket in path.buckets),
            rate=(allowed + denied) / seconds,
            p50=_quantile(latencies, 0.50),
            p99=_quantile(latencies, 0.99),
            last=path.last,
        )


def _summary(operations: dict[str, None]) -> str:
    first = next(iter(operations), "")
    return f"{first} +{len(operations) - 1}" if len(operations) > 1 else first


def _step(milliseconds: float) -> int:
    return math.ceil(math.log(max(milliseconds, 0.001)) / math.log(_STEP))


def _quantile(latencies: Counter[int], share: float) -> float | None:
    """The latency that `share` of the calls did not exceed."""
    wanted, seen = share * latencies.total(), 0
    for step in sorted(latencies):
        seen += latencies[step]
        if seen >= wanted:
            return float(_STEP**step)
    return None
