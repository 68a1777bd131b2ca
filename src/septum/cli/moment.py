"""A moment as an option takes it: `10m` ago, or a date and time."""

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
