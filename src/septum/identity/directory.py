"""The authority's directory: files that are there whole or not at all, and that only their owner can read."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

LEDGER = "authority.json"

_OURS = re.compile(r"(root|intermediate)-[0-9a-f]{16}\.(pem|key)|\.new-.*")


class OpenToOthersError(Exception):
    """A key that other users may read or write; the text says what to do."""


class Directory:
    """A directory of mode 0700 with files of mode 0600. Raises OSError where the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Create the directory, if it is not there."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from changing the directory. The lock ends with its holder."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, private from its first byte. After a crash there is the old content or the new one."""
        new = self.path / f".new-{name}"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        new.rename(self.path / name)
        self._sync()

    def read(self, name: str) -> bytes:
        """A file's content."""
        return (self.path / name).read_bytes()

    def read_key(self, name: str) -> bytes:
        """A private key. Raises OpenToOthersError when others than its owner have a right on the file."""
        path = self.path / name
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise OpenToOthersError(f"{path} may be read or written by others than its owner: chmod 600 {path}")
        return path.read_bytes()

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.path / name).exists()

    def sweep(self, keep: Collection[str]) -> None:
        """Remove keys and certificates that are not to be kept, and what a crash left; other files stay."""
        for path in list(self.path.iterdir()):
            if _OURS.fullmatch(path.name) and path.name not in keep:
                path.unlink()
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
