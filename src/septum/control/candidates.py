"""The candidate as it is kept, so that a restart goes on asking it, and as the compiler takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from septum.control.state import State, Statement
from septum.envoy.shadow import Candidate
from septum.model.policy import Policy
from septum.policy.quarantine import quarantined

_SCHEMA = """CREATE TABLE IF NOT EXISTS candidate (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version TEXT NOT NULL, files TEXT NOT NULL, targets TEXT, author TEXT NOT NULL, since REAL NOT NULL,
    base TEXT NOT NULL
)"""


@dataclass(frozen=True)
class Proposed:
    """The files of a candidate, the targets about which it is asked (None: all), and who proposed it when.

    `version` is that of its files, and `base` that of the files which were enforced when it came.
    """

    version: str
    files: Mapping[str, bytes]
    targets: frozenset[str] | None
    author: str
    since: float
    base: str


@dataclass(frozen=True)
class Beside:
    """A candidate beside what is enforced: `base` is its policy as it was read, `candidate` what proxies are asked."""

    proposed: Proposed
    base: Policy
    candidate: Candidate

    @classmethod
    def of(cls, proposed: Proposed, base: Policy) -> Beside:
        """With nobody in quarantine."""
        return cls(proposed, base, Candidate(base, proposed.version, proposed.targets))

    def under(self, quarantine: frozenset[str]) -> Beside:
        """The same where these are in quarantine, which a candidate does not change; itself while that stays."""
        policy = quarantined(self.base, quarantine)
        if policy.version == self.candidate.policy.version:
            return self
        return replace(self, candidate=replace(self.candidate, policy=policy))


class Candidates:
    """The table, in the state's file. Raises StateError as the state does."""

    def __init__(self, state: State) -> None:
        self._state = state
        state.write((_SCHEMA, ()))

    def kept(self) -> Proposed | None:
        """The candidate that was asked last, if it was not stopped."""
        rows = self._state.rows("SELECT version, files, targets, author, since, base FROM candidate")
        if not rows:
            return None
        version, files, targets, author, since, base = rows[0]
        contents = {path: text.encode("utf-8") for path, text in json.loads(files).items()}
        about = None if targets is None else frozenset(json.loads(targets))
        return Proposed(version, contents, about, author, since, base)

    def keep(self, proposed: Proposed | None) -> None:
        """Keep a candidate in place of the one before; None keeps none."""
        forget: Statement = ("DELETE FROM candidate", ())
        if proposed is None:
            self._state.write(forget)
            return
        files = json.dumps({path: content.decode("utf-8") for path, content in proposed.files.items()})
        targets = None if proposed.targets is None else json.dumps(sorted(proposed.targets))
        row = (1, proposed.version, files, targets, proposed.author, proposed.since, proposed.base)
        self._state.write(forget, ("INSERT INTO candidate VALUES (?, ?, ?, ?, ?, ?, ?)", row))


def summary(beside: Beside | None, enforced: Policy | None) -> dict[str, Any] | None:
    """A candidate in short; `moved` says that something else is enforced than when it came."""
    if beside is None or enforced is None:
        return None
    proposed = beside.proposed
    return {
        "version": proposed.version,
        "targets": None if proposed.targets is None else sorted(proposed.targets),
        "author": proposed.author,
        "since": proposed.since,
        "base": proposed.base,
        "moved": proposed.base != enforced.version,
        "rules": len(beside.base.rules),
    }
