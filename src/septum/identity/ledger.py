"""What the authority's directory holds: which issuers, where a rotation stands, what is revoked. One JSON file.

It names the files beside it, and is replaced as a whole: a change of the authority is made when this file is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec


class Origin(StrEnum):
    """Where an issuing certificate comes from."""

    OWN = "own"  # signed by a root that we made
    UPSTREAM = "upstream"  # signed by another PKI's certificate
    GIVEN = "given"  # another PKI's certificate itself


class Stage(StrEnum):
    """Where a rotation stands; between `activated` and the next `prepared` lies `retired`."""

    STEADY = "steady"
    PREPARED = "prepared"  # both are trusted, the old one signs
    ACTIVATED = "activated"  # both are trusted, the new one signs
    RETIRED = "retired"  # only the new one is there


class What(StrEnum):
    """What a rotation replaces; a new root brings its own intermediate."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


@dataclass(frozen=True, slots=True)
class Line:
    """One issuing certificate with what is above it. `id` is in the names of its files; `root` in its root key's."""

    id: str
    origin: Origin
    root: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """A refused certificate: since when, and when it would have ended anyway."""

    since: float
    ends: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """`issuing` signs. `other` is trusted as well: the next one when `prepared`, the last one when `activated`.

    `sequence` counts the changes; `revoked` is by serial number in hex.
    """

    trust_domain: str
    issuing: Line
    other: Line | None = None
    stage: Stage = Stage.STEADY
    what: What = What.ROOT
    sequence: int = 1
    revoked: Mapping[str, Revoked] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every issuer that is trusted, the signing one first."""
        return (self.issuing, self.other) if self.other else (self.issuing,)

    def prepared(self, what: What, next: Line) -> Ledger:
        """Trust a new issuer too."""
        return self._changed(other=next, stage=Stage.PREPARED, what=what)

    def activated(self) -> Ledger:
        """Sign with the new issuer; trust the old one too."""
        assert self.other is not None
        return self._changed(issuing=self.other, other=self.issuing, stage=Stage.ACTIVATED)

    def retired(self) -> Ledger:
        """Trust the new issuer alone."""
        return self._changed(other=None, stage=Stage.RETIRED)

    def with_revoked(self, serials: Mapping[int, float], now: float) -> Ledger:
        """Refuse these too (serial number → its end), and forget those that have ended."""
        added = {f"{serial:x}": Revoked(now, ends) for serial, ends in serials.items()}
        live = {serial: entry for serial, entry in (added | dict(self.revoked)).items() if entry.ends > now}
        return self if live == self.revoked else self._changed(revoked=live)

    def _changed(self, **changes: object) -> Ledger:
        return replace(self, sequence=self.sequence + 1, **changes)  # type: ignore[arg-type]


def read(data: bytes) -> Ledger:
    """Parse the file. Raises ValueError."""
    return msgspec.json.decode(data, type=Ledger)


def write(ledger: Ledger) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(ledger), indent=2) + b"\n"
