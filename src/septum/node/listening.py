"""What listens on this host, so that `init` need not ask."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, order=True)
class Listening:
    """One listening TCP port; `process` is empty when it belongs to somebody else."""

    port: int
    host: str
    process: str
    pid: int


def listening_ports() -> tuple[Listening, ...]:
    """Every listening TCP port of this host with its process, by port."""
    found: dict[int, Listening] = {}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            host, port = connection.laddr[0], connection.laddr[1]
            entry = Listening(port, host, _name(connection.pid), connection.pid or 0)
            found.setdefault(port, entry)
    return tuple(sorted(found.values()))


def _name(pid: int | None) -> str:
    try:
        return psutil.Process(pid).name() if pid else ""
    except psutil.Error:
        return ""
