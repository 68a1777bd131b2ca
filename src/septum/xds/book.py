"""What one Envoy was sent, holds and refused, beside what it should hold."""

from __future__ import annotations

from collections.abc import Iterable

from septum.model.snapshot import Snapshot
from septum.xds.order import Difference
from septum.xds.types import ON_DEMAND, Key, Refusal


class Book:
    """The accounts of one stream. Every entry costs the same, however large the snapshot is.

    Invariant: `held` has only what Envoy acknowledged on this stream, or said it kept when the stream began.
    Invariant: once there is a snapshot, `unheld` has its resources that are not held at its version (of a type that is
    served on demand: those that were sent), and `surplus` the resources that Envoy has or may have and the snapshot
    does not.
    """

    def __init__(self) -> None:
        self.desired: Snapshot | None = None
        # The version sent last. None: Envoy may have any or no version. No entry: Envoy has nothing.
        self.sent: dict[Key, str | None] = {}
        self.held: dict[Key, str] = {}
        self.rejected: dict[Key, Refusal] = {}
        self.unheld: set[Key] = set()
        self.surplus: set[Key] = set()
        # The version of the snapshot of which everything, and nothing else, is held.
        self.held_version: str | None = None

    def wanted(self, key: Key) -> str | None:
        """The version that should be held, or None."""
        resource = self.desired.of(key[0]).get(key[1]) if self.desired else None
        return resource.version if resource else None

    def aim(self, snapshot: Snapshot, difference: Difference) -> list[Key]:
        """Take a snapshot as what should be held. The resources that may have to be sent for it."""
        first, self.desired = self.desired is None, snapshot
        # A refused removal is tried again, as everything refused is.
        self.rejected = {key: refusal for key, refusal in self.rejected.items() if refusal.version is not None}
        self._judge(difference.changed)
        self._judge(self.sent if first else difference.gone)
        self._judge(self.rejected)
        return list(dict.fromkeys((*difference.changed, *self.rejected)))

    def keep(self, key: Key, version: str) -> None:
        """Envoy says that it kept this version from an earlier stream."""
        self.sent[key] = self.held[key] = version
        self._judge([key])

    def forget(self, key: Key) -> None:
        """Envoy dropped what it had under this name."""
        for account in (self.sent, self.held, self.rejected):
            account.pop(key, None)
        self.held_version = None
        self._judge([key])

    def send(self, key: Key, version: str | None) -> None:
        """This version is on its way to Envoy, or the removal if None."""
        if version is None:
            self.sent.pop(key, None)
        else:
            self.sent[key] = version
        self._judge([key])

    def acknowledge(self, key: Key, version: str | None, *, last: bool = True) -> None:
        """Envoy took this version, or the removal if None.

        When it is not the `last` that was sent under the name, what is held is known again once that is answered: an
        agent answers for an Envoy that may never have seen what was in between.
        """
        if last and version is not None and key in self.sent:
            self.held[key] = version
        else:
            self.held.pop(key, None)
        self.rejected.pop(key, None)
        self.held_version = None
        self._judge([key])

    def doubt(self, key: Key, version: str | None) -> None:
        """Envoy refused a response with this version, or with the removal if None, and may have taken a part of it."""
        if version is None:
            self.sent.setdefault(key, None)
            self.held.pop(key, None)
            self.held_version = None
        elif self.sent.get(key) == version:
            self.sent[key] = None
        self._judge([key])

    def refuse(self, refusal: Refusal) -> None:
        """Keep a refusal, until Envoy takes something else under that name, or no longer wants it."""
        key = (refusal.type_url, refusal.name)
        if key in self.sent:
            self.rejected[key] = refusal

    def refusals(self) -> tuple[Refusal, ...]:
        """What stands between the node and its snapshot: refusals of what the snapshot asks for."""
        return tuple(refusal for key, refusal in self.rejected.items() if refusal.version == self.wanted(key))

    def removable(self) -> list[Key]:
        """What may be removed: nothing before the whole snapshot is held, and nothing of which removal was refused."""
        if self.unheld:
            return []
        return [key for key in self.surplus if key not in self.rejected or self.rejected[key].version is not None]

    def settle(self) -> None:
        """Nothing is on its way any more: the snapshot is held if nothing is missing, too much or refused."""
        if self.desired and not (self.unheld or self.surplus or self.rejected):
            self.held_version = self.desired.version

    def _judge(self, keys: Iterable[Key]) -> None:
        if self.desired is None:
            return
        for key in keys:
            wanted = self.wanted(key)
            due = key in self.sent or key[0] not in ON_DEMAND
            _put(self.unheld, key, due and wanted is not None and self.held.get(key) != wanted)
            _put(self.surplus, key, wanted is None and key in self.sent)


def _put(keys: set[Key], key: Key, present: bool) -> None:
    if present:
        keys.add(key)
    else:
        keys.discard(key)
