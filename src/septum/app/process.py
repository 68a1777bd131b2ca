"""What both processes do first: a structured log, an end with their supervisor, a clean end on SIGTERM."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TextIO, cast

import structlog

from septum.node.lock import AlreadyRunningError, hold


def begin() -> None:
    """Set the process up. Its log goes to standard output, one JSON line an event."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Output())),
    )
    # Records are read in a thread of their own. At Python's 5 ms a change would wait for it that long, again and again.
    sys.setswitchinterval(0.0005)


class _Output:
    """Standard output, for the log alone: a disk that is full costs its lines and nothing else."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stdout.flush()


async def locked(stack: AsyncExitStack, path: Path) -> None:
    """Hold the lock of a process; one that is just ending is waited for."""
    async with asyncio.timeout(5):
        while True:
            try:
                stack.enter_context(hold(path))
            except AlreadyRunningError:
                await asyncio.sleep(0.05)
            else:
                return


def end_with_parent() -> None:
    """SIGTERM when the supervisor dies (prctl(2), PR_SET_PDEATHSIG): the next one starts a process of its own."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def stopping() -> asyncio.Event:
    """Set once the process is told to end."""
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event
