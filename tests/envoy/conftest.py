"""What the tests against a real Envoy share."""

from __future__ import annotations

import shutil

import pytest

# The Debian package of a program.
DEBIAN = {"node": "nodejs", "curl": "curl"}


@pytest.fixture(scope="session")
def program():
    """Where a program is. One that is missing fails the test, with what installs it."""

    def find(name: str) -> str:
        path = shutil.which(name)
        assert path, (
            f"`{name}` is not here; a client that is not tried is not shown to work: apt-get install {DEBIAN[name]}"
        )
        return path

    return find
