from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_world import World


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as everything does."""
    return "asyncio"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A control plane with one node, that of its own machine."""
    made = World(tmp_path)
    yield made
    made.state.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[World]:
    """A control plane of many nodes, none of them on its own machine."""
    made = World(tmp_path, local="", listen="127.0.0.1:7400")
    yield made
    made.state.close()
