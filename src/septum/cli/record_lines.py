"""Records as aligned lines for people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from textwrap import wrap

from septum.cli.output import style
from septum.model.record import Record

_GAP = "  "
_COLOURS = {"allow": "green", "deny": "red", "would deny": "yellow"}
# No column but the last grows beyond this, so that one long name does not push everything out of sight.
_MOST_WHO, _MOST_OPERATION = 36, 48
# What is left for a rule's name where the terminal is narrow.
_RULE = 16
_LEAST_OPERATION = 16


def visible(text: str) -> str:
    """The text without characters that would act on a terminal: callers choose what stands in a path."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def outcome(record: Record) -> str:
    """`allow`, `deny`, or `would deny` for what only passed because the target is observed."""
    return "would deny" if record.decision == "allow" and record.would_be == "deny" else record.decision


def operation(record: Record) -> str:
    """What was asked, as rules write it."""
    match record.protocol:
        case "tcp":
            return record.method
        case "grpc":
            return visible(record.path.removeprefix("/"))
        case "websocket":
            return visible(f"{record.method} {record.path} (websocket)")
        case _:
            return visible(f"{record.method} {record.path}".strip())


def why(record: Record) -> str:
    """The rule that allows, or what did not match of the nearest one; and the end user, if a token named one."""
    near = f" (nearest: {record.nearest})" if record.nearest else ""
    reason = record.rule + (" " if record.rule and record.reason else "") + record.reason
    return visible(reason + near + user(record) + beside(record))


def beside(record: Record) -> str:
    """What a candidate says, where it is something else."""
    if record.candidate in ("", record.would_be):
        return ""
    by = f" by {record.candidate_rule}" if record.candidate_rule else ""
    return f" [the candidate would {record.candidate} it{by}]"


def user(record: Record) -> str:
    """Whose verified token the request had."""
    if not (record.jwt_subject or record.jwt_issuer):
        return ""
    return f" [{record.jwt_subject or 'somebody'} of {record.jwt_issuer or 'an issuer without a name'}]"


class Layout:
    """Lines within `width`; None leaves everything as long as it is. Columns grow with what comes."""

    def __init__(self, width: int | None, now: float) -> None:
        self._width = width
        self._today = time.localtime(now)[:3]
        self._date = False
        self._who = self._operation = 0

    def lines(self, records: Sequence[Record]) -> list[str]:
        """The records' lines; a reason that does not fit beside its record stands below it."""
        rows = [(record, _who(record), operation(record)) for record in records]
        self._date = self._date or any(time.localtime(record.time)[:3] != self._today for record in records)
        room = self._room(_LEAST_OPERATION, _MOST_WHO)
        self._who = max([self._who, *(min(len(who), room) for _, who, _ in rows)])
        room = max(_LEAST_OPERATION, self._room(self._who + _RULE, _MOST_OPERATION))
        self._operation = max([self._operation, *(min(len(asked), room) for _, _, asked in rows)])
        return [line for row in rows for line in self._lines(*row)]

    def _room(self, beside: int, most: int) -> int:
        """How wide a column may be beside the fixed ones and `beside` more."""
        if self._width is None:
            return most
        fixed = (18 if self._date else 12) + 10 + 3 + 8 + 5 * len(_GAP)
        return max(1, min(most, self._width - fixed - beside))

    def _lines(self, record: Record, who: str, asked: str) -> list[str]:
        what = outcome(record)
        plain = [
            self._time(record.time),
            f"{what:10}",
            self._cut(who, self._who),
            self._cut(asked, self._operation),
            f"{record.status or '-':>3}",
            f"{'open' if record.open else _milliseconds(record.duration):>8}",
        ]
        used = len(_GAP.join(plain))
        plain[0] = style(plain[0], dim=True)
        plain[1] = style(plain[1], fg=_COLOURS.get(what))
        line, reason = _GAP.join(plain), why(record)
        if self._width is None or used + len(_GAP) + len(reason) <= self._width:
            return [f"{line}{_GAP}{reason}".rstrip()]
        if not (record.reason or beside(record)):  # only a rule's name, which may be cut
            return [f"{line}{_GAP}{cut(reason, self._width - used - len(_GAP))}".rstrip()]
        indent = " " * 4
        below = wrap(reason, max(20, self._width - len(indent)), break_on_hyphens=False)
        return [line, *(indent + style(part, dim=True) for part in below)]

    def _time(self, seconds: float) -> str:
        local = time.localtime(seconds)
        text = f"{time.strftime('%H:%M:%S', local)}.{int(seconds % 1 * 1000):03d}"
        return f"{time.strftime('%m-%d', local)} {text}" if self._date else text

    def _cut(self, text: str, width: int) -> str:
        return text.ljust(width) if self._width is None else cut(text, width).ljust(width)


def cut(text: str, width: int) -> str:
    """The text, or as much of it as fits."""
    return text if len(text) <= width else text[: width - 1] + "…" if width > 1 else ""


def _who(record: Record) -> str:
    return visible(f"{record.caller or '?'} → {record.target or '?'}")


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.1f} s"
