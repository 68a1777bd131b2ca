"""Ports that stay free until somebody of the test listens on them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

FIRST = 22000


class Port:
    """A free TCP port on 127.0.0.1, held by a socket on the same port of 127.0.0.2.

    It lies below the ports that the kernel gives away, so that nobody gets it by chance; other test processes see the
    held one.
    """

    def __init__(self) -> None:
        self.number = 0
        for number in _candidates():
            self._held = socket.socket()
            try:
                self._held.bind(("127.0.0.2", number))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                self._held.close()
                continue
            self.number = number
            return
        raise AssertionError("no port is free")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.number}"

    def __enter__(self) -> Port:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()


def _candidates() -> Iterator[int]:
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, count = FIRST, end - FIRST
    start = random.randrange(count)
    yield from (first + (start + step) % count for step in range(count))
