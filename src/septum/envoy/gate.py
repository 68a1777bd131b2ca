"""The gate before a place outside that takes TLS alone: a session has to say the place's name before it gets there.

A CONNECT that the rules allow leads to the caller's own gate. The gate reads the client's first message and opens the
way outside where its server name (SNI) is the host; everything else ends here, without a byte outside, and is recorded.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3.address_pb2 import Address, EnvoyInternalAddress
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.wrappers_pb2 import UInt32Value

from septum.envoy import access_log, names
from septum.envoy.cluster import static
from septum.envoy.wire import pack, seconds
from septum.model.mesh import External, Mesh, Timeouts

# A client that says nothing does not keep its place for longer than this.
_HELLO = 10.0


def gate_cluster(caller: str, place: External) -> Any:
    """The way from a caller's CONNECT to its gate."""
    name = names.gate(caller, place.name)
    internal = EnvoyInternalAddress(server_listener_name=name, endpoint_id=name)
    return static(name, Address(envoy_internal_address=internal), 1.0)


def gate_listener(mesh: Mesh, caller: str, place: External, decisions: str) -> Any:
    """The gate of one caller, so that its records say whose sessions they are of; `decisions` is the file of them."""
    inspector = ListenerFilter(name="tls_inspector", typed_config=pack(TlsInspector()))
    proxy = TcpProxy(
        stat_prefix="gate",
        cluster=names.gated(place.name),
        idle_timeout=seconds(Timeouts().idle),
        max_connect_attempts=UInt32Value(value=1),
    )
    chain = FilterChain(
        filter_chain_match=FilterChainMatch(server_names=[place.host], transport_protocol="tls"),
        filters=[Filter(name="tcp_proxy", typed_config=pack(proxy))],
    )
    return Listener(
        name=names.gate(caller, place.name),
        internal_listener=Listener.InternalListenerConfig(),
        listener_filters=[inspector],
        listener_filters_timeout=seconds(_HELLO),
        filter_chains=[chain],
        access_log=access_log.stopped(decisions, str(mesh.spiffe(caller)), place),
    )
