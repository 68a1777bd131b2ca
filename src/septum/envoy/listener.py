"""The listeners of one workload as a caller: its outbound socket, the inside of its tunnels, and raw TCP dials.

On each of them the caller is known by the listener alone: nothing a client sends can change it. `cut` names the filter
chain: under another name it is another chain, and Envoy ends the connections of the one before (`cuts`).
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from septum.envoy import http_connection, names
from septum.envoy.cluster import socket_address
from septum.envoy.http_connection import Terms
from septum.envoy.wire import pack, seconds
from septum.model.mesh import Address, External, Mesh, Target, Timeouts, Workload

# With SO_REUSEPORT a second mesh (or anything else of this user) could bind the same port and take part of the calls,
# with nobody told. Without it the second bind fails, and the refusal is reported.
ALONE = BoolValue(value=False)


def outbound_listener(mesh: Mesh, caller: Workload, address: Address, terms: Terms, cut: str = "") -> Any:
    """Where the workload's own calls enter, as forward proxy (absolute URI, CONNECT) or by `Host`."""
    chain = [_caller(mesh, caller), http_connection.outbound(terms)]
    return Listener(
        name=names.outbound(caller.name),
        address=socket_address(address),
        enable_reuse_port=ALONE,
        filter_chains=[FilterChain(name=cut, filters=chain)],
    )


def inside_listener(mesh: Mesh, caller: Workload, terms: Terms, cut: str = "") -> Any:
    """Where what the workload's tunnels carry is read again, so that each request in them is decided."""
    chain = [_caller(mesh, caller), http_connection.inside(terms)]
    return Listener(
        name=names.inside(caller.name),
        internal_listener=Listener.InternalListenerConfig(),
        filter_chains=[FilterChain(name=cut, filters=chain)],
    )


def dial_listener(caller: Workload, target: Target, address: Address) -> Any:
    """Where the workload finds a TCP target: every session is a CONNECT that is decided inside."""
    port, times = (target.port, Timeouts()) if isinstance(target, External) else (target.at.port, target.timeouts)
    proxy = TcpProxy(
        stat_prefix="dial",
        cluster=names.inside(caller.name),
        tunneling_config=TcpProxy.TunnelingConfig(hostname=f"{target.name}:{port}"),
        idle_timeout=seconds(times.idle),
        max_connect_attempts=UInt32Value(value=1),
    )
    chain = FilterChain(filters=[Filter(name="tcp_proxy", typed_config=pack(proxy))])
    return Listener(
        name=names.dial(caller.name, target.name),
        address=socket_address(address),
        enable_reuse_port=ALONE,
        filter_chains=[chain],
    )


def _caller(mesh: Mesh, caller: Workload) -> Any:
    """The one filter in which a workload's listeners differ from those of another."""
    state = {names.CALLER: str(mesh.spiffe(caller.name)), names.INSIDE: names.inside(caller.name)}
    values = [
        FilterStateValue(
            object_key=key,
            factory_key="envoy.string",
            format_string=SubstitutionFormatString(text_format_source=DataSource(inline_string=value)),
        )
        for key, value in state.items()
    ]
    return Filter(name="caller", typed_config=pack(SetFilterState(on_new_connection=values)))
