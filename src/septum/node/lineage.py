"""Envoys that hand their listeners to one another: what their hot restart keeps outside of the processes.

They share 104 bytes of memory and talk over datagram sockets in the state directory. A lineage is named by its base
id; the sockets and the memory are named by ten times that, the sockets by the epoch modulo three as well.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - where shm_open(3) puts it
_SOCKET = "hot"
_SINK = "hot_sink"
# Size, version, two mutexes of 40 bytes each, flags: the memory of `--hot-restart-version` 11.104.
_LAYOUT = struct.Struct("<QQ80sQ")
_VERSION = 11
_INITIALIZING = 1
# Ten times a base id must fit in 31 bits: beyond, Envoy names the sockets by another number.
_BASES = 1 << 27


@dataclass(frozen=True, slots=True)
class Epoch:
    """One Envoy's place in its lineage."""

    base: int
    number: int

    def next(self) -> Epoch:
        """The place of the one that takes over."""
        return Epoch(self.base, self.number + 1)

    def arguments(self, run: str, patience: float) -> list[str]:
        """What Envoy is told of it. The one before it is ended after `patience` seconds, if it is still there then.

        Counters start from zero, as each run's decisions are accounted for by themselves. The run is told to the
        control plane too. The listeners of the one before it are closed only after the first configuration has come,
        however long that takes: without it there is nothing to take over with.
        """
        source = {"initial_fetch_timeout": "0s"}
        override = {
            "node": {"metadata": {"run": run, "epoch": self.number}},
            "dynamic_resources": {"lds_config": source, "cds_config": source},
        }
        return [
            "--base-id", str(self.base),
            "--restart-epoch", str(self.number),
            "--socket-path", _SOCKET,
            "--skip-hot-restart-parent-stats",
            "--parent-shutdown-time-s", str(max(1, round(patience))),
            "--config-yaml", json.dumps(override),
        ]  # fmt: skip

    def socket(self, directory: Path) -> Path:
        """Where the one that takes over tells this one what to do."""
        return directory / f"{_SOCKET}_parent_{10 * self.base + self.number % 3}"

    def initializing(self) -> bool:
        """Whether one of the lineage has begun to start and has not taken over yet."""
        with self._flags() as flags:
            return bool(flags[0] & _INITIALIZING)

    def forget_failed(self) -> bool:
        """Let the next one start after one died before it took over. False when this memory is not understood.

        Envoy leaves the mark of a start for ever when the start fails, and refuses every later one.
        """
        try:
            with self._flags() as flags:
                flags[0] &= ~_INITIALIZING
        except (OSError, ValueError):
            return False
        return True

    @contextmanager
    def _flags(self) -> Iterator[memoryview]:
        with _memory(self.base).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            if len(memory) != _LAYOUT.size or _LAYOUT.unpack(memory)[:2] != (_LAYOUT.size, _VERSION):
                raise ValueError(f"{file.name} is not the memory of hot restart {_VERSION}.{_LAYOUT.size}")
            with memoryview(memory)[-8:] as tail, tail.cast("Q") as flags:
                yield flags


def begin() -> Epoch:
    """The first place of a new lineage, whose name nobody on this host has."""
    while True:
        base = secrets.randbelow(_BASES)
        if not _memory(base).exists():
            return Epoch(base, 0)


def end(directory: Path, base: int | None) -> None:
    """Clean up after a lineage of which no process is left."""
    for left in directory.glob(f"{_SOCKET}_*"):
        left.unlink(missing_ok=True)
    if base is not None:
        with suppress(OSError):
            _memory(base).unlink(missing_ok=True)


def make_sink(directory: Path) -> socket.socket:
    """A socket that the next Envoy is given to keep open, and never reads."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        (directory / _SINK).unlink(missing_ok=True)
        sink.bind(f"/proc/self/fd/{descriptor}/{_SINK}")
        (directory / _SINK).chmod(0o600)
    finally:
        os.close(descriptor)
    return sink


def put_sink(directory: Path, epoch: Epoch) -> None:
    """Put the sink where the Envoy of this epoch was told things, before or after that one ends.

    Its successor tells it to end once its time is up. When it has ended before, there would be nobody to hear, and the
    successor would stand still for ten seconds, and die.
    """
    with suppress(FileNotFoundError):
        (directory / _SINK).rename(epoch.socket(directory))


def _memory(base: int) -> Path:
    return _MEMORY / f"envoy_shared_memory_{10 * base}"
