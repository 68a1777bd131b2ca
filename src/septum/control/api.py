"""The socket on which commands reach the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from septum.control.state import StateError
from septum.rpc import local
from septum.rpc.local import Handler, NotRunningError

__all__ = ["SOCKET", "Handler", "NotRunningError", "call", "serve"]

SOCKET = "control.sock"


@asynccontextmanager
async def serve(state: Path, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer commands in a state directory until the block ends."""
    async with local.serve(state, SOCKET, {name: _telling(handler) for name, handler in handlers.items()}):
        yield


def _telling(handler: Handler) -> Handler:
    """A state that cannot be written is told to who asked, and ends nothing."""

    async def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await handler(request)
        except StateError as error:
            return {"error": f"nothing changed: {error}"}

    return answer


def call(state: Path, op: str, timeout: float = 30.0, **arguments: Any) -> dict[str, Any]:
    """Ask the control plane whose state directory this is. Raises NotRunningError when none answers."""
    try:
        return local.call(state, SOCKET, op, timeout, **arguments)
    except NotRunningError as error:
        raise NotRunningError(f"no control plane answers in {state.parent}: {error}") from error
