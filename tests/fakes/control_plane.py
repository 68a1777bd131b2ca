"""A control plane that answers the commands of a mesh with what a test puts into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from septum.control import api


class FakeControlPlane:
    """Listens on the control socket of a mesh while its block runs. `answers` are by the request's `op`.

    `asked` keeps the requests. An answer that is an exception is raised by the handler.
    """

    def __init__(self, mesh: Path, answers: Mapping[str, Mapping[str, Any] | Exception]) -> None:
        self.answers = dict(answers)
        self.asked: list[Mapping[str, Any]] = []
        self._state = mesh / ".septum"
        self._up = threading.Event()

    async def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        answer = self.answers[request["op"]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with api.serve(self._state, dict.fromkeys(self.answers, self._answer)):
            self._up.set()
            await self._stop.wait()

    def __enter__(self) -> FakeControlPlane:
        self._state.mkdir(exist_ok=True)
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def node(**differs: Any) -> dict[str, Any]:
    """The status of a node that holds what it should, but for what `differs`."""
    return {
        "node": "here",
        "standing": "joined",
        "connected": True,
        "held": True,
        "version": "0123456789abcdef",
        "desired": "0123456789abcdef",
        "resources": 26,
        "resources_held": 26,
        "resources_sent": 0,
        "rejected": [],
        "joined": None,
        "last_seen": 1_790_000_000.0,
        "certificate_end": None,
        "certificates": [],
        "septum": "0",
        "envoy": "",
        "envoy_up": True,
        "connections": 0,
        "drained": False,
        "health": {},
        "records": {"ingested": 7, "behind": 0},
        "troubles": [],
    } | differs


def arrival(node: str = "here", arrived: str = "held", why: str = "", milliseconds: float = 1.0) -> dict[str, Any]:
    """What came of a version on a node."""
    return {"node": node, "arrived": arrived, "why": why, "milliseconds": milliseconds, "refusals": []}


def applied(outcome: str = "held", *nodes: Mapping[str, Any], **differs: Any) -> dict[str, Any]:
    """What came of a change, on one node that holds it unless others are given."""
    return {
        "outcome": outcome,
        "version": "b" * 64,
        "previous": "a" * 64,
        "diagnostics": [],
        "nodes": list(nodes) or [arrival()],
        "resources_changed": [],
        "milliseconds": {"check": 1.0, "compile": 2.0, "held": 3.0},
        "lockouts": [],
        "number": 4,
        "confirm_by": None,
    } | differs


def status(**differs: Any) -> dict[str, Any]:
    """The answer to `status` of a mesh in which all is well, but for what `differs`."""
    workloads = [
        {
            "name": "front",
            "segment": "edge",
            "protocol": "http",
            "at": "127.0.0.1:9101",
            "node": "",
            "mode": "observe",
            "outbound": "127.0.0.1:9151",
            "dials": {"big-store": "127.0.0.1:9201"},
        },
        {
            "name": "big-store",
            "segment": "data",
            "protocol": "tcp",
            "at": "127.0.0.1:9102",
            "node": "",
            "mode": "enforce",
            "outbound": "127.0.0.1:9152",
            "dials": {},
        },
    ]
    return {
        "mesh": "shop",
        "version": "0123456789abcdef",
        "applied": 1_790_000_000.0,
        "author": "ada",
        "rules": 3,
        "quarantined": [],
        "nodes": [node()],
        "workloads": workloads,
        "external": False,
        "records": {"ingested": 7, "unreadable": 0, "lost": 0, "behind": 0, "stalled": "", "disagreements": 0},
    } | differs
