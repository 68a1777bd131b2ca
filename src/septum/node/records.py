"""The node's record keeping: the log that Envoy writes, shipped to the record for as long as the node lives.

A record that takes nothing does not stop anything: decisions wait in Envoy's log, and it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import structlog

from septum.audit.files import LogFiles
from septum.audit.reading import Reading
from septum.audit.ship import Pace, Shipper, Writer
from septum.audit.sink import Sink, SinkUnavailable

_log = structlog.get_logger("septum.records")
_PATIENCE = 5.0  # seconds


class Records:
    """Owns the decision log of one node, below `directory`."""

    def __init__(self, directory: Path, sink: Sink, writer: Writer, pace: Pace | None = None) -> None:
        self._shipper = Shipper(Reading(LogFiles(directory)), sink, writer, pace)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        await self._shipper.run()

    async def finish(self, patience: float = _PATIENCE) -> None:
        """Ship what is left of the log, as far as `patience` seconds allow, and let go of it. The rest stays there."""
        try:
            async with asyncio.timeout(patience):
                await self._shipper.drain()
        except (SinkUnavailable, OSError) as error:  # TimeoutError is one of them
            _log.error("the last records stay in the log", reason=str(error) or "there was no time to ship them")
        await self._shipper.close()

    def status(self) -> Mapping[str, str | int | float | None]:
        """How shipping stands, as JSON values: what is `behind`, why it is `stalled` and `since` when."""
        return asdict(self._shipper.status())
