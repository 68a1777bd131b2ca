"""What the control plane has sent to a node: the snapshot so far, and its digest, at a cost of what changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from septum.model.snapshot import MANIFEST, Resource, Snapshot, whole
from septum.xds.types import SECRET, Key

_MODULUS = 1 << 128  # that of `snapshot.whole`


class Received:
    """The resources by type and name, and beside them the node's own secrets, which go before those received.

    Invariant: a mapping that was handed out never changes, and is handed out again while nothing in it differs, since
    what differs between two snapshots is found by identity first.
    """

    def __init__(self) -> None:
        self._resources: dict[str, Mapping[str, Resource]] = {}
        self._sum = 0
        self._locals: Mapping[str, Resource] = {}
        self._locals_sum = 0
        self._secrets: Mapping[str, Resource] = {}

    @property
    def whole(self) -> str:
        """`snapshot.whole` of what was received."""
        return f"{self._sum:032x}"

    def of(self, key: Key) -> Resource | None:
        """The resource that was received under a name."""
        return self._resources.get(key[0], {}).get(key[1])

    def wanted(self, key: Key) -> Resource | None:
        """The resource that Envoy should have under a name."""
        return self._secrets.get(key[1]) if key[0] == SECRET else self.of(key)

    def own(self, key: Key) -> bool:
        """Whether the node has a secret of its own under this name."""
        return key[0] == SECRET and key[1] in self._locals

    def keys(self) -> Iterator[Key]:
        """What was received, but for the manifest."""
        for type_url, names in self._resources.items():
            if type_url != MANIFEST:
                yield from ((type_url, name) for name in names)

    def differs(self, type_url: str, resources: Iterable[Resource]) -> bool:
        """Whether any of these is new, or has another version."""
        have = self._resources.get(type_url, {})
        return any(have.get(made.name, _NOTHING).version != made.version for made in resources)

    def take(self, type_url: str, resources: Iterable[Resource], removed: Iterable[str]) -> bool:
        """Put resources in and take others out; whether anything that Envoy should have may differ by it."""
        before = self._resources.get(type_url, {})
        new = {made.name: made for made in resources if before.get(made.name, _NOTHING).version != made.version}
        gone = [name for name in removed if name in before]
        if not (new or gone):
            return False
        after = {**before, **new}
        for name in gone:
            del after[name]
        self._resources[type_url] = after
        if type_url == MANIFEST:
            return False
        replaced = [before[name] for name in (*new, *gone) if name in before]
        self._sum = (self._sum + _sum(type_url, new.values()) - _sum(type_url, replaced)) % _MODULUS
        if type_url == SECRET:
            self._secrets = {**after, **self._locals}
        return True

    def put(self, secrets: Mapping[str, Resource]) -> bool:
        """Take these as all of the node's own secrets; whether anything differs by it."""
        if _versions(secrets) == _versions(self._locals):
            return False
        self._locals, self._locals_sum = dict(secrets), _sum(SECRET, secrets.values())
        self._secrets = {**self._resources.get(SECRET, {}), **self._locals}
        return True

    def published(self) -> Snapshot:
        """What Envoy should hold. Its version is a digest of it."""
        shown = {type_url: names for type_url, names in self._resources.items() if type_url != MANIFEST}
        version = f"{self._sum:032x}+{self._locals_sum:032x}" if self._locals else self.whole
        return Snapshot(version, shown | ({SECRET: self._secrets} if self._secrets else {}))

    def kept(self) -> Snapshot:
        """What was received, the manifest too, and none of the node's own secrets."""
        return Snapshot(self.whole, dict(self._resources))


_NOTHING = Resource("", "", b"")


def _sum(type_url: str, resources: Iterable[Resource]) -> int:
    return int(whole({type_url: resources}), 16)


def _versions(resources: Mapping[str, Resource]) -> dict[str, str]:
    return {name: made.version for name, made in resources.items()}
