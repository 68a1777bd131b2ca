"""What became of recorded requests, were they asked again now."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Now(StrEnum):
    """What would become of a request. `would`: its target is observed, so it passes and only its record differs."""

    DENIED = "denied"
    ALLOWED = "allowed"
    WOULD_BE_DENIED = "would be denied"
    WOULD_BE_ALLOWED = "would be allowed"
    UNKNOWN = "depends on the token"


class Group(msgspec.Struct, frozen=True):
    """Recorded requests of a kind. `first` and `last` are times in seconds, `example` is the path of the last one."""

    caller: str
    target: str
    operation: str
    now: Now
    count: int
    first: float
    last: float
    example: str


class Replay(msgspec.Struct, frozen=True):
    """What became of the records from `since` on: what is denied first, and the most frequent.

    `oldest` is when the oldest record of all was made, None without records: the record looks back no further, whatever
    was asked. `records` counts those that were looked through.
    """

    since: float
    oldest: float | None
    records: int
    groups: tuple[Group, ...] = ()

    def count(self, now: Now) -> int:
        """How many requests something would become of."""
        return sum(group.count for group in self.groups if group.now is now)
