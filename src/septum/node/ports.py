"""Where the outbound listeners open of workloads that do not say so themselves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from septum.model.mesh import Address, Mesh

FIRST_PORT = 19000
HOST = "127.0.0.1"


def is_free(address: Address) -> bool:
    """Whether something can listen there now."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


def pick_outbound(
    mesh: Mesh, kept: Mapping[str, Address], free: Callable[[Address], bool] = is_free
) -> dict[str, Address]:
    """An address for each workload without `outbound`: the one it had, or the next port that nobody uses.

    No two workloads get the same, also on different nodes: two nodes may be one host. What is used on this host is
    passed over for all of them.
    """
    declared = {address for w in mesh.workloads.values() for address in (w.at, w.outbound, *w.dials.values())}
    picked = {name: address for name, address in kept.items() if name in mesh.workloads and address not in declared}
    taken = set(picked.values())
    port = FIRST_PORT
    for name, workload in mesh.workloads.items():
        if workload.outbound is not None:
            picked.pop(name, None)
            continue
        while name not in picked:
            address = Address(HOST, port)
            if address not in declared and address not in taken and free(address):
                picked[name] = address
                taken.add(address)
            port += 1
    return picked
