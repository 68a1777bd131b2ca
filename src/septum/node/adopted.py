"""An Envoy that outlived its supervisor: found again, and watched without being a child."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import psutil


def note(directory: Path, name: str, pid: int, run: str) -> None:
    """Remember a process and the name of its run. Its start time tells it from a later one with the same pid."""
    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        return
    (directory / f"{name}.pid").write_text(json.dumps({"pid": pid, "started": started, "run": run}))


def run_of(directory: Path, name: str) -> str | None:
    """The name of the run of the process that was remembered last."""
    try:
        return str(json.loads((directory / f"{name}.pid").read_text())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find(directory: Path, name: str) -> int | None:
    """The pid of the remembered process if it still runs."""
    try:
        noted = json.loads((directory / f"{name}.pid").read_text())
        process = psutil.Process(noted["pid"])
        alive = process.create_time() == noted["started"] and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return int(noted["pid"]) if alive else None


async def ended(pid: int) -> None:
    """Wait until a process that is not ours has ended (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
