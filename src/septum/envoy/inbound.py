"""The one listener of a node for calls from elsewhere: mutual TLS, and a filter chain by server name.

`T.<trust domain>` is a target's chain for whoever has a certificate of the trust domain. Each pair of a caller on
another node and a target that a rule names has a chain of its own, `C.T.<trust domain>`, so that its calls can be
ended without touching those of others. There is no default chain: what asks for nobody here is closed, and recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from envoy.config.listener.v3.listener_components_pb2 import FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector

from septum.envoy import access_log, http_connection, names, tls
from septum.envoy.cluster import socket_address
from septum.envoy.http_connection import Terms
from septum.envoy.listener import ALONE
from septum.envoy.wire import pack, seconds
from septum.model.mesh import Address, Mesh

# A client that says nothing does not keep its place for longer than this.
_HELLO = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """A target, as the listener leads to it: the cut of its open chain, and its pairs, each as a caller and a cut.

    A cut tells a chain from the one before it, of which Envoy then ends the connections. Empty: there was none.
    """

    target: str
    cut: str
    pairs: tuple[tuple[str, str], ...]


def inbound_listener(mesh: Mesh, address: Address, doors: Iterable[Door], terms: Terms) -> Any:
    """The listener of a node that fronts at least one workload."""
    inspector = ListenerFilter(name="tls_inspector", typed_config=pack(TlsInspector()))
    return Listener(
        name=names.INBOUND,
        address=socket_address(address),
        enable_reuse_port=ALONE,
        listener_filters=[inspector],
        listener_filters_timeout=seconds(_HELLO),
        filter_chains=[chain for door in doors for chain in _chains(mesh, door, terms)],
        access_log=access_log.turned_away(terms.decisions),
    )


def _chains(mesh: Mesh, door: Door, terms: Terms) -> Iterator[Any]:
    """The open chain takes any caller of the trust domain, for the rules to decide; the others one caller each."""
    target, manager = door.target, http_connection.inbound(terms, door.target)
    name = tls.server_name(mesh, target)
    yield _chain(f"{target}{_after(door.cut)}", [name, f"*.{name}"], tls.accepting(mesh, target), manager)
    for caller, cut in door.pairs:
        of_pair = [tls.server_name(mesh, target, caller)]
        yield _chain(f"{caller}/{target}{_after(cut)}", of_pair, tls.accepting(mesh, target, caller), manager)


def _after(cut: str) -> str:
    return f"/{cut}" if cut else ""


def _chain(name: str, server_names: list[str], socket: Any, manager: Any) -> Any:
    return FilterChain(
        name=name,
        filter_chain_match=FilterChainMatch(server_names=server_names, transport_protocol="tls"),
        transport_socket=socket,
        transport_socket_connect_timeout=seconds(_HELLO),
        filters=[manager],
    )
