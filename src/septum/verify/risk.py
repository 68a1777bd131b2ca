"""What a change can do to what passes, in one word; and where the files alone cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from septum.model.mesh import External, Issuer, Mode
from septum.model.policy import Policy


class Word(StrEnum):
    """The risk of a change in one word."""

    WIDENS = "widens"
    NARROWS = "narrows"
    BOTH = "widens and narrows"
    NEITHER = "neither widens nor narrows"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Risk:
    """Whether more passes and whether less does, and why that may not be all of it."""

    widens: bool
    narrows: bool
    unknown: tuple[str, ...] = ()

    @property
    def word(self) -> Word:
        """Unless it cannot be told, what the change does."""
        if self.unknown:
            return Word.CANNOT_TELL
        if self.widens:
            return Word.BOTH if self.narrows else Word.WIDENS
        return Word.NARROWS if self.narrows else Word.NEITHER

    def __str__(self) -> str:
        if not self.unknown:
            return str(self.word)
        known = replace(self, unknown=())
        seen = f" (by what can be told, it {known.word})" if known.word is not Word.NEITHER else ""
        return f"{self.word}: {'; '.join(self.unknown)}{seen}"


def unknown(old: Policy, new: Policy) -> tuple[str, ...]:
    """Why the same request may be another one after the change: who signs tokens, what is behind a name, who is who."""
    return (*_domain(old, new), *_issuers(old, new), *_places(old, new))


def _domain(old: Policy, new: Policy) -> Iterator[str]:
    if old.mesh.workloads and new.mesh.workloads and old.mesh.trust_domain != new.mesh.trust_domain:
        yield f"the trust domain was {old.mesh.trust_domain}, so every workload has another identity"


def _issuers(old: Policy, new: Policy) -> Iterator[str]:
    """Of the issuers on which rules of both policies rely, those whose tokens may be others."""
    relied = _relied(old) & _relied(new)
    before = {issuer.issuer: issuer for issuer in old.mesh.issuers.values()}
    for issuer in new.mesh.issuers.values():
        known = before.get(issuer.issuer)
        if known is not None and issuer.issuer in relied and (what := _differs(known, issuer)):
            yield f"{what} of issuer {issuer.name} changed, so other tokens are taken"


def _relied(policy: Policy) -> set[str]:
    return {issuer for rule in policy.rules if rule.when for issuer in rule.when.issuers}


def _differs(before: Issuer, after: Issuer) -> str:
    parts = (
        ("the keys", before.jwks != after.jwks or before.jwks_url != after.jwks_url),
        ("the audiences", set(before.audiences) != set(after.audiences)),
    )
    return " and ".join(name for name, differs in parts if differs)


def _places(old: Policy, new: Policy) -> Iterable[str]:
    before = old.mesh.external or {}
    for name, place in (new.mesh.external or {}).items():
        known = before.get(name)
        if known is not None and _place(known) != _place(place):
            yield f"{name} is another place outside, or is reached otherwise"


def _place(external: External) -> External:
    return replace(external, mode=Mode.ENFORCE)
