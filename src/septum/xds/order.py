"""In which order a snapshot's resources travel, and which of them differ from the snapshot before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from septum.model.snapshot import MANIFEST, Resource, Snapshot
from septum.xds.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, SCOPE, SECRET, Key

NOTHING = Snapshot("", {})

# Every type there is, in the order of `make_before_break`.
TYPES = (CLUSTER, ENDPOINT, SECRET, EXTENSION, ROUTE, LISTENER, SCOPE, MANIFEST)
_RANK = {type_url: rank for rank, type_url in enumerate(TYPES)}


def make_before_break(type_urls: Iterable[str]) -> list[str]:
    """The types in the order in which additions and changes are sent; removals go the other way round.

    What is referred to goes before what refers to it: clusters before the routes to them, routes before the scopes
    that select them. A route that Envoy does not know yet cannot go first: its scope makes Envoy ask for it, and it
    is sent in answer. Routes that change go before listeners, because a changed listener ends the live calls that a
    changed route does not allow any more: a call that began in between would be allowed by the one and live on by the
    other. Types without a place go last.
    """
    return sorted(type_urls, key=lambda type_url: (_RANK.get(type_url, len(_RANK)), type_url))


@dataclass(frozen=True, slots=True)
class Difference:
    """What one snapshot has that another does not: `changed` is new or has another version, `gone` is not there."""

    changed: tuple[Key, ...]
    gone: tuple[Key, ...]


def difference(old: Snapshot, new: Snapshot) -> Difference:
    """What has to change for a node that holds `old` to hold `new`."""
    changed: list[Key] = []
    gone: list[Key] = []
    for type_url in make_before_break({*old.resources, *new.resources}):
        before, after = old.of(type_url), new.of(type_url)
        if before is not after:
            changed += [(type_url, name) for name, resource in after.items() if _differs(before.get(name), resource)]
            gone += [(type_url, name) for name in before if name not in after]
    return Difference(tuple(changed), tuple(gone))


def _differs(old: Resource | None, new: Resource) -> bool:
    return old is not new and (old is None or old.version != new.version)


class Differ:
    """`difference`, remembering the last one: most nodes of a fleet make the same step at the same time."""

    def __init__(self) -> None:
        self._last: tuple[Snapshot, Snapshot, Difference] | None = None

    def __call__(self, old: Snapshot, new: Snapshot) -> Difference:
        """The same value as `difference(old, new)`."""
        if self._last is None or self._last[0] is not old or self._last[1] is not new:
            self._last = (old, new, difference(old, new))
        return self._last[2]
