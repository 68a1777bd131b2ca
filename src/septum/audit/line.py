"""One line of Envoy's decision log, typed. The keys are the ones `envoy/access_log.py` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

# What SQLite can hold; larger numbers are no measurements.
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Line(msgspec.Struct, frozen=True, gc=False):
    """The line's fields under Envoy's short keys; docs/records.md says what each becomes. `run` names the process."""

    t: str | float
    type: str | None = None
    id: str | None = None
    tp: str | None = None
    node: str | None = None
    caller: str | None = None
    target: str | None = None
    authority: str | None = None
    proto: str | None = None
    method: str | None = None
    path: str | None = None
    ctype: str | None = None
    upgrade: str | None = None
    mode: str | None = None
    slice: str | None = None
    ep: str | None = None
    sp: str | None = None
    cv: str | None = None
    iss: str | None = None
    sub: str | None = None
    code: Count | None = None
    flags: str | None = None
    details: str | None = None
    grpc: Count | None = None
    in_: Count | None = msgspec.field(name="in", default=None)
    out: Count | None = None
    us: Count | None = None
    ms: Count | None = None
    up: str | None = None
    uus: Count | None = None
    tls: str | None = None
    sni: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    claimed: str | None = None
    run: str | None = None

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return float(self.t)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no decision as far as can be told, kept as it is."""

    line: bytes
    reason: str


_YEAR_10000 = 253_402_300_800
# More braces than this stand in no line's values.
_TRIES = 16
_decoder = msgspec.json.Decoder(Line, strict=False)


def read_lines(raw: bytes) -> list[Line | Unreadable]:
    """Read what stands in one line. After a crash of the writer that is two: a torn line and the next run's first.

    `{"` stands only where a line begins, or where a value ends in a brace, and from there nothing is readable.
    """
    line = read_line(raw)
    if isinstance(line, Unreadable):
        start = len(raw)
        for _ in range(_TRIES):
            start = raw.rfind(b'{"', 1, start)
            if start < 0:
                break
            rest = read_line(raw[start:])
            if not isinstance(rest, Unreadable):
                return [Unreadable(raw[:start], "the line was not finished"), rest]
    return [line]


def read_line(raw: bytes) -> Line | Unreadable:
    """Read one line without its newline; anything that does not fit comes back as it was."""
    try:
        # Envoy writes `-` for what it does not have; inside a value the quotes would be escaped.
        line = _decoder.decode(raw.replace(b':"-"', b":null"))
        if not 0 <= line.time < _YEAR_10000:
            return Unreadable(raw, "the time is none that a calendar has")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Unreadable(raw, str(error))
    return line
