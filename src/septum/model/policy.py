"""What may happen: allow rules over a mesh. The parsed form of `septum.yaml` and `policy/*.yaml` together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from septum.model.claims import When
from septum.model.diagnostic import Span
from septum.model.guarantee import Guarantee
from septum.model.mesh import Mesh
from septum.model.operation import HttpPattern
from septum.model.window import Window


@dataclass(frozen=True)
class Rule:
    """One allow rule, with its selectors resolved to workload names.

    `operations` is None for a rule about TCP targets, which opens `connect`; it is never empty. `callers_text` and
    `targets_text` keep the selectors as written.
    """

    id: str
    callers: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[HttpPattern, ...] | None
    because: str = ""
    callers_text: str = ""
    targets_text: str = ""
    when: When | None = None
    window: Window | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def canonical(self) -> bytes:
        """The rule's meaning and wording as bytes, for digests; where it stands plays no part."""
        operations = None if self.operations is None else [pattern.text for pattern in self.operations]
        parts = [self.id, self.callers, self.targets, operations, self.because, self.callers_text, self.targets_text]
        return json.dumps([*parts, *self._condition]).encode() + b"\n"

    @cached_property
    def decisive(self) -> bytes:
        """What decides requests to one of the rule's targets, as bytes: id, callers, operations, `when`, window."""
        operations = None if self.operations is None else [pattern.text for pattern in self.operations]
        return json.dumps([self.id, self.callers, operations, *self._condition]).encode() + b"\n"

    @property
    def _condition(self) -> list[object]:
        """The conditions, for digests; nothing where there is none."""
        parts: list[object] = [] if self.when is None else [self.when.canonical]
        if self.window is not None:
            parts.append({"from_time": self.window.from_time, "until": self.window.until})
        return parts


@dataclass(frozen=True)
class Policy:
    """A mesh and its rules, in the order in which they are read; `version` is the digest of all of it (SHA-256, hex).

    `quarantined` names those of whom all allows are taken away, as callers and as targets, whatever their mode.
    `guarantees` decide nothing; they are what `septum.verify` holds the rules to.
    """

    mesh: Mesh
    rules: tuple[Rule, ...]
    version: str
    quarantined: frozenset[str] = frozenset()
    guarantees: tuple[Guarantee, ...] = ()

    @cached_property
    def rules_to(self) -> Mapping[str, tuple[Rule, ...]]:
        """Target name → the rules that open something on it, in policy order. Every target has an entry."""
        found: dict[str, list[Rule]] = {name: [] for name in self.mesh.targets}
        for rule in self.rules:
            for target in rule.targets:
                found[target].append(rule)
        return {name: tuple(rules) for name, rules in found.items()}
