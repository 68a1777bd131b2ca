"""Hosts of a test as network namespaces: each with loopback and one interface, joined by a bridge.

with Lan("control", "a", "b") as lan, lan.inside("a"):
    socket.create_connection((lan.address("b"), 80))

The namespaces have no names and live as long as this process or what runs in them, so two runs cannot meet, and nothing
is left behind, not even by a run that was killed.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

_NEWNET = 0x40000000  # CLONE_NEWNET, unshare(2)
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)
# Ports of a bridge of this kind do not see each other (bridge(8), `isolated`).
_APART = ("type", "bridge_slave", "isolated")
_ALL = 3  # ETH_P_ALL, if_ether.h


class Lan:
    """Hosts by name. Their addresses are alike in each run, since no other run sees them."""

    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts
        self._namespaces: dict[str, int] = {}

    def address(self, host: str) -> str:
        """Where a host is reached by the others."""
        return f"10.77.0.{self._hosts.index(host) + 1}"

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """What this thread opens and starts in the block is on that host, and stays there."""
        with Path(_OWN).open() as own:
            _enter(self._namespaces[host])
            try:
                yield
            finally:
                _enter(own.fileno())

    @contextmanager
    def away(self, *hosts: str) -> Iterator[None]:
        """Nothing gets to these hosts, or from them, while the block runs; nobody is told."""
        self._each(hosts, "down")
        try:
            yield
        finally:
            self._each(hosts, "up")

    @contextmanager
    def parted(self, *hosts: str) -> Iterator[None]:
        """These hosts reach all the others and not each other, while the block runs."""
        self._each(hosts, *_APART, "on")
        try:
            yield
        finally:
            self._each(hosts, *_APART, "off")

    def listening(self, host: str) -> set[str]:
        """The addresses, as `10.77.0.1:80`, at which something on a host takes TCP connections, loopback aside."""
        shown = self._run(host, "ss", "-Htln").splitlines()
        found = (line.split()[3] for line in shown)
        # gRPC opens IPv6 sockets for IPv4 addresses.
        plain = (re.sub(r"^\[::ffff:([\d.]+)\]", r"\1", at) for at in found)
        return {at for at in plain if not at.startswith(("127.", "[::1]"))}

    def tap(self, host: str) -> socket.socket:
        """A socket that gets every frame to and from a host."""
        with self.inside(""):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
            made.bind((host, _ALL))
        made.settimeout(0.2)
        return made

    def _each(self, hosts: tuple[str, ...], *change: str) -> None:
        """Change the bridge's end of each host's wire."""
        for host in hosts:
            self._run("", "ip", "link", "set", "dev", host, *change)

    def _run(self, host: str, *command: str) -> str:
        with self.inside(host):
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"`{' '.join(command)}`: {ran.stderr}"
        return ran.stdout

    def __enter__(self) -> Lan:
        try:
            for host in ("", *self._hosts):  # the one without a name holds the bridge
                self._namespaces[host] = _new_namespace()
                self._run(host, "ip", "link", "set", "dev", "lo", "up")
            self._run("", "ip", "link", "add", "name", "bridge", "type", "bridge")
            self._run("", "ip", "link", "set", "dev", "bridge", "up")
            for host in self._hosts:
                self._plug_in(host)
        except BaseException:
            self._close()
            raise
        return self

    def _plug_in(self, host: str) -> None:
        there = f"/proc/{os.getpid()}/fd/{self._namespaces[host]}"
        self._run("", "ip", "link", "add", "name", host, "type", "veth", "peer", "name", "eth0", "netns", there)
        self._run("", "ip", "link", "set", "dev", host, "master", "bridge", "up")
        self._run(host, "ip", "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        self._run(host, "ip", "link", "set", "dev", "eth0", "up")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for namespace in self._namespaces.values():
            os.close(namespace)
        self._namespaces.clear()


def _new_namespace() -> int:
    """A descriptor of a new network namespace. It is made in a thread, which leaves it at once by ending."""
    made: list[int | OSError] = []

    def make() -> None:
        try:
            if _libc.unshare(_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(os.open(_OWN, os.O_RDONLY))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (found,) = made
    assert isinstance(found, int), (
        f"a network namespace cannot be made ({found}), and hosts that are none show nothing: run this as root, or in "
        "a user namespace with `unshare --map-root-user`"
    )
    return found


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
