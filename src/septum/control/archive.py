"""The versions as the control plane stores them: signed, with who made them and why, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog

from septum.control.applied import PLAIN, Terms
from septum.control.signing import BadSignature, Signer
from septum.control.state import (
    Baseline,
    End,
    Fate,
    State,
    StateError,
    Statement,
    UnreadableVersion,
    Version,
    baseline_statement,
)
from septum.model.policy import Policy
from septum.policy.digest import slice_of

_log = structlog.get_logger("septum.control")


class NothingAwaits(ValueError):
    """There is no version to confirm, or it is another one; the text says which."""


class Archive:
    """`enforced` is the version that a restart takes up; `unused` is why the one that is stored was not taken up.

    `healthy` tells the workloads whose health checks pass now.

    Each call that writes raises StateError, and has changed nothing then.
    """

    def __init__(
        self, state: State, signer: Signer, healthy: Callable[[], frozenset[str]], clock: Callable[[], float]
    ) -> None:
        self._state, self._signer, self._healthy, self._clock = state, signer, healthy, clock
        self.enforced: Version | None = None
        self.unused = ""

    def take_up(self) -> Version | None:
        """The version that was enforced last. Raises BadSignature or UnreadableVersion when it was tampered with."""
        try:
            version = self._state.enforced()
            if version is not None:
                # Those after it are on record as refused: that is signed too.
                for stored in (version, *self._state.since(version.number)):
                    self._signer.expect(stored)
        except (BadSignature, UnreadableVersion) as error:
            self.unused = str(error)
            raise
        return version

    def expect(self, version: Version) -> None:
        """Raise BadSignature unless a version is what was stored."""
        self._signer.expect(version)

    def note(self, author: str, terms: Terms) -> Version:
        """A version of which only who, why and on what terms is known; `keep` and `refuse` fill in the rest."""
        now, before = self._clock(), self.enforced
        confirm_by = falls_back = None
        if terms.confirm is not None and before is not None:
            confirm_by = now + terms.confirm
            falls_back = before.falls_back if before.awaits else before.number
        return Version(
            0, "", now, author, {}, {}, message=terms.message, commit=terms.commit, restores=terms.restores,
            confirm_by=confirm_by, falls_back=falls_back,
        )  # fmt: skip

    def continued(self, author: str) -> Version:
        """The note of a change beside the files, which go on as they are: also to be confirmed, if they are."""
        note, before = self.note(author, PLAIN), self.enforced
        if before is None:
            return note
        note = replace(note, commit=before.commit, restores=before.restores)
        return replace(note, confirm_by=before.confirm_by, falls_back=before.falls_back) if before.awaits else note

    def keep(self, note: Version, policy: Policy, files: Mapping[str, bytes], also: Iterable[Statement]) -> Version:
        """Make a version the enforced one, and carry out what else must happen with it or not at all."""
        version = self._filled(note, policy, files)
        self._state.enforce(version, [*also, *self._baseline(version)])
        self.enforced, self.unused = version, ""
        return version

    def refuse(self, note: Version, policy: Policy, files: Mapping[str, bytes], why: str) -> None:
        """Put a version on record that nodes refused. The one before stays enforced, whether that succeeds or not."""
        end = End(Fate.REFUSED, self._clock(), why)
        try:
            self._state.enforce(self._filled(replace(note, end=end), policy, files))
        except StateError as error:
            _log.error("a refused version is not in the history, because it cannot be stored", reason=str(error))

    def take_back(self, version: Version, why: str) -> None:
        """Note that nodes refused the enforced version after all; the one before is the enforced one again."""
        end = End(Fate.REFUSED, self._clock(), why)
        self._state.end((version.number, self._signer.signed_end(version, end)))
        self.enforced = self._state.enforced()

    def confirm(self, author: str, digest: str) -> Version:
        """Let the enforced version stay. `digest`, unless it is empty, begins its own. Raises NothingAwaits."""
        enforced = self.enforced
        if enforced is None or not enforced.awaits:
            raise NothingAwaits("no version awaits its confirmation")
        if not enforced.digest.startswith(digest):
            raise NothingAwaits(f"version {enforced.digest[:12]} awaits its confirmation, and not {digest[:12]}")
        end = End(Fate.CONFIRMED, self._clock(), author)
        # Several, when something beside the files changed meanwhile.
        tried = [one for one in self._state.since(enforced.falls_back or 0) if one.awaits]
        same = [one for one in tried if one.confirm_by == enforced.confirm_by]
        self._state.end(*((one.number, self._signer.signed_end(one, end)) for one in same))
        self.enforced = replace(enforced, end=self._signer.signed_end(enforced, end))
        return self.enforced

    def _filled(self, note: Version, policy: Policy, files: Mapping[str, bytes]) -> Version:
        version = replace(
            note,
            number=self._state.next_number(),
            digest=policy.version,
            applied=self._clock(),
            files=files,
            slices={name: slice_of(policy, name) for name in policy.mesh.targets},
            quarantined=policy.quarantined,
            previous=self.enforced.digest if self.enforced else "",
        )
        return self._signer.signed(version)

    def _baseline(self, version: Version) -> list[Statement]:
        """With what a version is compared that awaits its confirmation: how things were before the change began."""
        if not version.awaits:
            return []
        before = self.enforced
        continues = before is not None and before.awaits and before.confirm_by == version.confirm_by
        known = self._state.baseline(before.number) if before is not None and continues else None
        return [baseline_statement(version.number, known or Baseline(version.applied, self._healthy()))]
