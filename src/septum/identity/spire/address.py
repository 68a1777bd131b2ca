"""Where the Workload API is: a Unix socket (SPIFFE Workload Endpoint, section 4)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

VARIABLE = "SPIFFE_ENDPOINT_SOCKET"
# unix(7): sun_path is 108 bytes, with a NUL at its end.
_LONGEST = 107


class WorkloadApiError(Exception):
    """The Workload API cannot be used, and asking it again will not help; the text says what to do."""


def socket_path(address: str, environment: Mapping[str, str] = os.environ) -> str:
    """The path of the socket that `unix:///path` names, or else the environment does. Raises WorkloadApiError."""
    given = address or environment.get(VARIABLE, "")
    if not given:
        raise WorkloadApiError(
            f"where is SPIRE's Workload API? name its socket, unix:///run/spire/sockets/agent.sock, or set {VARIABLE}"
        )
    try:
        uri = urlsplit(given)
    except ValueError as error:
        raise WorkloadApiError(f"{given!r} is not the address of a Workload API: {error}") from error
    if uri.scheme == "tcp":
        raise WorkloadApiError(f"{given!r}: private keys are taken from a Unix socket only, unix:///path")
    if uri.scheme != "unix" or uri.netloc or uri.query or uri.fragment or not uri.path.startswith("/"):
        raise WorkloadApiError(f"{given!r} is not the address of a Workload API: write unix:///absolute/path")
    if len(os.fsencode(uri.path)) > _LONGEST:
        raise WorkloadApiError(f"{given!r} is too long: the path of a socket has at most {_LONGEST} bytes")
    return uri.path


def why_away(path: str, said: str = "no answer came") -> str:
    """Why nobody answers on a socket, and what to do about it. `said`: what was seen, when the socket is in order."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    match code:
        case errno.ENOENT:
            return f"there is no socket {path}: is the SPIRE agent running, and is this its `socket_path`?"
        case errno.ECONNREFUSED:
            return f"nobody listens on {path}: start the SPIRE agent"
        case errno.EACCES:
            return f"this user may not use {path}: give user {os.geteuid()} access to the socket and its directory"
        case 0:
            return f"what listens on {path} gives nothing now ({said}): look into the SPIRE agent's log"
        case _:
            return f"{path} cannot be used: {os.strerror(code)}"
