"""How an authority is, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from septum.identity.ledger import Stage, What
from septum.identity.templates import DAY

# Before its end: long enough to plan the rotation.
_ROOT_NOTICE, _INTERMEDIATE_NOTICE = 180 * DAY, 60 * DAY


class Use(StrEnum):
    """What an issuer is there for."""

    SIGNS = "signs"
    NEXT = "next"
    PREVIOUS = "previous"


class KeyPlace(StrEnum):
    """Where the private key of a certificate is."""

    HERE = "here"
    ENCRYPTED = "here, encrypted"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Part:
    """One certificate of the authority; times are seconds since 1970."""

    role: str
    use: Use
    id: str
    subject: str
    not_before: float
    not_after: float
    key: KeyPlace


@dataclass(frozen=True, slots=True)
class Standing:
    """The authority's certificates, where a rotation of `what` stands, and how many certificates are refused."""

    trust_domain: str
    stage: Stage
    what: What
    parts: tuple[Part, ...]
    revoked: int

    def warnings(self, now: float) -> list[str]:
        """What will have to be done soon, or should have been."""
        return [warning for part in self.parts if part.use is not Use.PREVIOUS if (warning := _near_end(part, now))]


def _near_end(part: Part, now: float) -> str:
    notice = _INTERMEDIATE_NOTICE if part.role == What.INTERMEDIATE else _ROOT_NOTICE
    if part.not_after - now > notice:
        return ""
    day = f"{datetime.fromtimestamp(part.not_after, UTC):%F}"
    when = f"ends on {day}, in {int((part.not_after - now) / DAY)} days" if part.not_after > now else f"ended on {day}"
    what = f" --what {part.role}" if part.role == What.INTERMEDIATE else ""
    return f"the {part.role} {part.id} {when}: septum ca rotate{what}"
