"""Statements about a policy that must hold, whatever its rules are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from septum.model.diagnostic import Span
from septum.model.operation import HttpPattern


class Kind(StrEnum):
    """What is stated of calls from some to others: none is allowed, none by anyone else, all of them are."""

    NEVER = "never"
    ONLY = "only"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Override:
    """Leave to break a guarantee for a while: who gave it or for what (`name`), why, and until when (seconds, UTC)."""

    name: str
    because: str
    until: int


@dataclass(frozen=True)
class Guarantee:
    """A statement about all rules together.

    `through` counts calls through others too: chains of calls that are each allowed. `operations` None is whatever can
    be asked; otherwise it is about these operations of the targets, at the last step of a chain.
    """

    name: str
    kind: Kind
    callers: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[HttpPattern, ...] | None = None
    through: bool = False
    override: Override | None = None
    callers_text: str = ""
    targets_text: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def canonical(self) -> bytes:
        """The statement as bytes, for digests; where it stands plays no part."""
        operations = None if self.operations is None else [pattern.text for pattern in self.operations]
        override = self.override and [self.override.name, self.override.because, self.override.until]
        texts = [self.callers_text, self.targets_text]
        parts = [self.name, self.kind, self.callers, self.targets, operations, self.through, override, *texts]
        return json.dumps(parts).encode() + b"\n"
