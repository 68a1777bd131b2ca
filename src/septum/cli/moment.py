"""Moments and spans of time, as options take them and as people read them."""

from __future__ import annotations

import re
import time
from datetime import datetime

import click

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.ParamType[float]):
    """Seconds since 1970. A date and time without an offset is local."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read `30s`, `10m`, `2h`, `7d` or ISO 8601."""
        if isinstance(value, (int, float)):
            return float(value)
        text = str(value).strip()
        if ago := _AGO.fullmatch(text):
            return time.time() - float(ago[1]) * _SECONDS[ago[2]]
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"`{text}` is no moment: write 30s, 10m, 2h, 7d, or 2026-11-24T17:04", param, ctx)


MOMENT = Moment()


def span_of(text: str) -> float:
    """Seconds of `30s`, `10m`, `2h` or `7d`. Raises click.BadParameter."""
    span = _AGO.fullmatch(text.strip())
    if span is None or float(span[1]) == 0:
        raise click.BadParameter(f"`{text}` is no span of time: write 30s, 10m, 2h or 7d")
    return float(span[1]) * _SECONDS[span[2]]


def spoken(seconds: float) -> str:
    """A span in its largest unit: `90 s`, `14 min`, `6 h`, `20 d`."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def ago(moment: float | None, now: float) -> str:
    """How long ago a moment was."""
    return "never" if moment is None else f"{spoken(max(0.0, now - moment))} ago"


def until(moment: float | None, now: float) -> str:
    """How long it is to a moment."""
    if moment is None:
        return "-"
    return spoken(moment - now) if moment > now else f"ended {ago(moment, now)}"
