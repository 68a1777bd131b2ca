"""When a rule holds: a grant begins and ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """From `from_time` on, and until before `until`: whole seconds since 1970, UTC. None is no limit on that side."""

    from_time: int | None = None
    until: int | None = None

    def holds(self, time: float | None) -> bool:
        """Whether a moment is inside. One that is not known is not."""
        if time is None:
            return False
        return (self.from_time is None or self.from_time <= time) and (self.until is None or time < self.until)

    def over(self, now: float) -> bool:
        """Whether it has ended, for good."""
        return self.until is not None and self.until <= now


def parse_time(text: str) -> int:
    """Read an RFC 3339 time with its offset, of whole seconds: `2027-01-31T00:00:00Z`. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError("a time has a date, a time of day and an offset")
    return int(datetime.fromisoformat(text).timestamp())


def time_text(time: float) -> str:
    """A moment as it is written in a policy; parts of a second are cut off."""
    return datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
