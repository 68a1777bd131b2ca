"""Addresses for a run. All of 127/8 is this host, so a run takes a /16 of its own and need not look for free ports."""

from __future__ import annotations

import os

Address = tuple[str, int]

_NET = f"127.{16 + os.getpid() % 224}"
_PORT = 7000
_MEMBERS = 250


def address(group: int, member: int = 0) -> Address:
    """The address of a member of a group; 250 members fill a group, and further ones the groups after it."""
    return f"{_NET}.{group + member // _MEMBERS}.{member % _MEMBERS + 1}", _PORT


def written(group: int, member: int = 0) -> str:
    """The same as a mesh file says it."""
    host, port = address(group, member)
    return f"{host}:{port}"
