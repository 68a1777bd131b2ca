"""On what the figures were made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from septum.node.binary import find_envoy


def machine() -> list[str]:
    """The machine and the versions, one line each."""
    return [
        f"Processor: {_processor()}, {os.cpu_count()} cores",
        f"Memory: {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB",
        f"Kernel: {platform.system()} {platform.release()}",
        f"Python: {platform.python_implementation()} {platform.python_version()}",
        f"Envoy: {_envoy()}",
        f"Started: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average {busy()}",
    ]


def busy() -> str:
    """The load average: the figures of a machine that does other things are the worse for it."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _envoy() -> str:
    answer = subprocess.run([str(find_envoy()), "--version"], capture_output=True, text=True, check=True).stdout
    return answer.strip().rpartition("version:")[2].strip()
