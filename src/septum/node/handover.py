"""`septum node upgrade`, `restart` and `ps`: what the supervisor of a node is asked, and its answers for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septum.node.binary import find_envoy
from septum.node.supervisor import SOCKET
from septum.rpc import local

PATIENCE = 60.0  # seconds that calls are given to end
_SERVES_WITHIN = 30.0


class RefusedError(Exception):
    """Nothing has changed; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """Another Envoy took over. `seconds` until it served, `drained` more until the old one ended.

    `left` are the connections that the old one still had then: they were closed. None: it could not be asked.
    """

    old_pid: int
    new_pid: int
    old_version: str
    new_version: str
    seconds: float
    drained: float
    left: int | None

    def __str__(self) -> str:
        versions = f" ({self.old_version} → {self.new_version})" if self.old_version != self.new_version else ""
        return (
            f"Envoy {self.old_pid} handed over to {self.new_pid}{versions} in {self.seconds:.2f} s; "
            f"the old one finished its calls in {self.drained:.1f} s, {_left(self.left)}"
        )


@dataclass(frozen=True, slots=True)
class Restarted:
    """An Envoy was ended and another one started; `seconds` without one lie between."""

    old_pid: int
    new_pid: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"Envoy {self.old_pid} was ended and {self.new_pid} started after {self.seconds:.2f} s; "
            "what was open was cut"
        )


def upgrade(
    state: Path,
    envoy: str | None = None,
    patience: float = PATIENCE,
    environment: Mapping[str, str] = os.environ,
) -> Upgraded:
    """Have another Envoy take over without a dropped request: the binary `envoy`, or the one that is installed.

    Returns when the old one has ended. Raises RefusedError, MissingEnvoyError and NotRunningError; nothing has changed
    then.
    """
    binary = str(find_envoy({"SEPTUM_ENVOY": envoy} if envoy else environment))
    timeout = patience + _SERVES_WITHIN + 90
    return Upgraded(**_ask(state, "upgrade", timeout, envoy=binary, patience=patience, within=_SERVES_WITHIN))


def restart(state: Path, envoy: str | None = None, environment: Mapping[str, str] = os.environ) -> Restarted:
    """End Envoy and start the binary `envoy`, or the one that is installed; what is open is cut.

    Raises as `upgrade` does.
    """
    binary = str(find_envoy({"SEPTUM_ENVOY": envoy} if envoy else environment))
    return Restarted(**_ask(state, "restart", 90, envoy=binary))


def ps(state: Path) -> dict[str, Any]:
    """The supervisor's `pid` and its `processes`; see `supervisor`. Raises NotRunningError."""
    return _ask(state, "ps", 30)


def _ask(state: Path, op: str, timeout: float, **arguments: Any) -> dict[str, Any]:
    answer = local.call(state, SOCKET, op, timeout, **arguments)
    if "refused" in answer or "error" in answer:
        raise RefusedError(f"nothing has changed: {answer.get('refused') or answer['error']}")
    return answer


def _left(connections: int | None) -> str:
    match connections:
        case None:
            return "and could not be asked what it had left"
        case 0:
            return "with no connection left"
        case 1:
            return "and 1 connection was closed that was still open"
        case _:
            return f"and {connections} connections were closed that were still open"
