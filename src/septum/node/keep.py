"""The last good snapshot on disk, for a start without the control plane. No key is in it.

One file: a line with the format and a digest of all that follows, then MessagePack with the resources as they came.
"""

from __future__ import annotations

import asyncio
import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import msgspec

from septum.model.snapshot import Resource, Snapshot

FORMAT = 1
_MAGIC = b"septum-snapshot"
# Seconds between two stored snapshots (a burst of changes is stored once), and until a failure is tried again.
_EVERY, _AGAIN = 0.1, 5.0


class KeepError(Exception):
    """The snapshot cannot be stored, or the stored one cannot be used; the text says why."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    node: str
    version: str
    # Type URL → (name, version, body) of each resource.
    resources: dict[str, list[tuple[str, str, bytes]]]


def save(path: Path, node: str, snapshot: Snapshot) -> None:
    """Put a snapshot in the place of the one before, in one step that survives a power cut. Raises KeepError.

    When it fails, the one before is still there.
    """
    resources = {
        type_url: [(made.name, made.version, made.body) for made in names.values()]
        for type_url, names in snapshot.resources.items()
    }
    content = msgspec.msgpack.encode(_Kept(node, snapshot.version, resources))
    head = b"%s %d %s\n" % (_MAGIC, FORMAT, sha256(content).hexdigest().encode())
    new = path.with_name(path.name + ".new")
    try:
        _write(new, head, content)
        new.replace(path)
        _sync(path.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise KeepError(f"the last good snapshot is not stored in {path}: {error.strerror or error}") from error


def load(path: Path, node: str) -> Snapshot | None:
    """The snapshot that was stored for a node, or None if there is none. Raises KeepError for one not to be used."""
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeepError(f"{path} cannot be read: {error.strerror or error}") from error
    _check(path, head.split(b" "), content)
    try:
        kept = msgspec.msgpack.decode(content, type=_Kept)
    except msgspec.MsgspecError as error:
        raise KeepError(f"{path} does not hold a snapshot: {error}") from error
    if kept.node != node:
        raise KeepError(f"{path} is of the node {kept.node!r}, and this node is {node!r}")
    found = {kind: {name: Resource(name, v, body) for name, v, body in made} for kind, made in kept.resources.items()}
    return Snapshot(kept.version, found)


def _check(path: Path, head: list[bytes], content: bytes) -> None:
    if len(head) != 3 or head[0] != _MAGIC or not head[1].isdigit():
        raise KeepError(f"{path} is not a snapshot that Septum stored")
    if int(head[1]) != FORMAT:
        raise KeepError(f"{path} has the format {int(head[1])}, and this version of Septum reads {FORMAT}")
    if sha256(content).hexdigest().encode() != head[2]:
        raise KeepError(f"{path} is damaged: its content has another digest than was stored")


def _write(path: Path, *parts: bytes) -> None:
    path.unlink(missing_ok=True)  # one that was left behind may have another mode
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Keeper:
    """Stores the newest good snapshot of a node, beside everything else that the agent does.

    `version` is of the one on disk, or empty. `error` says why none is there or why it is not the newest, or is empty.
    """

    def __init__(self, path: Path, node: str) -> None:
        self.version = ""
        self.error = ""
        self._path, self._node = path, node
        self._newest: Snapshot | None = None
        self._due = asyncio.Event()
        self._disk = threading.Lock()

    def load(self) -> Snapshot | None:
        """What was stored before, if it can be used."""
        try:
            kept = load(self._path, self._node)
        except KeepError as error:
            self.refuse(str(error))
            return None
        self.version = kept.version if kept else ""
        return kept

    def refuse(self, why: str) -> None:
        """What was stored cannot be used."""
        self.version, self.error = "", f"{why}; the node waits for the control plane"

    def keep(self, snapshot: Snapshot) -> None:
        """Store this one, soon."""
        self._newest = snapshot
        self._due.set()

    async def run(self) -> NoReturn:
        """Store what there is to store until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            stored = await asyncio.to_thread(self.finish)
            if not stored:
                self._due.set()
            await asyncio.sleep(_EVERY if stored else _AGAIN)

    def finish(self) -> bool:
        """Store now what waits; whether all is stored."""
        with self._disk:
            newest = self._newest
            if newest is None:
                return True
            try:
                save(self._path, self._node, newest)
            except KeepError as error:
                self.error = str(error)
                return False
            self.version, self.error = newest.version, ""
            if self._newest is newest:
                self._newest = None
            return True
