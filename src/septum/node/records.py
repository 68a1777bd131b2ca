"""The node's record keeping: the log that Envoy writes, read into the record file for as long as the node lives.

A record file that cannot be opened does not stop anything: decisions wait in Envoy's log, and it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from septum.audit.explain import Explainer, Policies
from septum.audit.files import LogFiles
from septum.audit.ingest import Ingest
from septum.audit.parse import Recorder
from septum.audit.schema import FILE, StoreUnavailable
from septum.audit.store import Store
from septum.audit.tail import Tail, Writer

_log = structlog.get_logger("septum.records")
_AGAIN = 1.0  # seconds


class Records:
    """Owns the record file of one node. `trust_domain` is asked when the file is opened."""

    def __init__(self, directory: Path, trust_domain: Callable[[], str], policies: Policies, writer: Writer) -> None:
        self._directory, self._trust_domain = directory, trust_domain
        self._policies, self._writer = policies, writer
        self._store: Store | None = None
        self._tail: Tail | None = None
        self._unopened = ""

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while self._tail is None:
            try:
                self._open()
            except (StoreUnavailable, OSError) as error:
                if not self._unopened:
                    _log.error("records cannot be stored; they wait in the log", reason=str(error))
                self._unopened = str(error)
                await asyncio.sleep(_AGAIN)
        self._unopened = ""
        await self._tail.run()

    async def finish(self) -> None:
        """Take in what is left of the log, and let go of it."""
        if self._tail is None or self._store is None:
            return
        try:
            await self._tail.drain()
        except StoreUnavailable as error:
            _log.error("the last records stay in the log", reason=str(error))
        await self._tail.close()
        self._store.close()

    def status(self) -> Mapping[str, Any]:
        """How the record stands, as JSON values."""
        if self._tail is None:
            return {"stalled": self._unopened or "not opened yet"} if self._unopened else {}
        return asdict(self._tail.status())

    def _open(self) -> None:
        self._store = Store(self._directory / FILE)
        recorder = Recorder(self._trust_domain(), Explainer(self._policies))
        self._tail = Tail(Ingest(LogFiles(self._directory), self._store, recorder), self._store, self._writer)
