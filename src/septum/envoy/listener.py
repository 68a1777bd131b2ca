"""The listeners of one workload as a caller: its outbound socket, the inside of its tunnels, and raw TCP dials.

On each of them the caller is known by the listener alone: nothing a client sends can change it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, HttpProtocolOptions
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    RequestIDExtension,
    ScopedRds,
    ScopedRoutes,
)
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy.extensions.request_id.uuid.v3.uuid_pb2 import UuidRequestIdConfig
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from septum.envoy import access_log, names, rbac
from septum.envoy.cluster import http1_options, socket_address
from septum.envoy.local_reply import local_reply
from septum.envoy.wire import extension, pack, seconds
from septum.model.mesh import Address, Mesh, Workload

_ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
_SCOPES = ScopedRoutes(
    name="septum",
    scope_key_builder=ScopedRoutes.ScopeKeyBuilder(
        fragments=[
            ScopedRoutes.ScopeKeyBuilder.FragmentBuilder(
                header_value_extractor=ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor(
                    name=":authority", index=0
                )
            )
        ]
    ),
    rds_config_source=_ADS,
    scoped_rds=ScopedRds(scoped_rds_config_source=_ADS),
)
_LOG_OPTIONS = HttpConnectionManager.HcmAccessLogOptions(access_log_flush_interval=seconds(access_log.STILL_OPEN))
# With SO_REUSEPORT a second mesh (or anything else of this user) could bind the same port and take part of the calls,
# with nobody told. Without it the second bind fails, and the refusal is reported.
_ALONE = BoolValue(value=False)
# Headers by which a client could claim to be somebody, or somewhere, that it is not. Envoy strips `x-envoy-*` and
# `x-forwarded-client-cert` by itself.
_CLAIMS = ("x-forwarded-for", "x-real-ip", "forwarded", names.TUNNEL_HEADER)


def outbound_listener(mesh: Mesh, caller: Workload, address: Address, decisions: str) -> Any:
    """Where the workload's own calls enter, as forward proxy (absolute URI, CONNECT) or by `Host`."""
    chain = [_caller(mesh, caller), _manager(decisions, inside=False)]
    return Listener(
        name=names.outbound(caller.name),
        address=socket_address(address),
        enable_reuse_port=_ALONE,
        filter_chains=[FilterChain(filters=chain)],
    )


def inside_listener(mesh: Mesh, caller: Workload, decisions: str) -> Any:
    """Where what the workload's tunnels carry is read again, so that each request in them is decided."""
    chain = [_caller(mesh, caller), _manager(decisions, inside=True)]
    return Listener(
        name=names.inside(caller.name),
        internal_listener=Listener.InternalListenerConfig(),
        filter_chains=[FilterChain(filters=chain)],
    )


def dial_listener(caller: Workload, target: Workload, address: Address) -> Any:
    """Where the workload finds a TCP target: every session is a CONNECT that is decided inside."""
    proxy = TcpProxy(
        stat_prefix="dial",
        cluster=names.inside(caller.name),
        tunneling_config=TcpProxy.TunnelingConfig(hostname=f"{target.name}:{target.at.port}"),
        idle_timeout=seconds(target.timeouts.idle),
        max_connect_attempts=UInt32Value(value=1),
    )
    chain = FilterChain(filters=[Filter(name="tcp_proxy", typed_config=pack(proxy))])
    return Listener(
        name=names.dial(caller.name, target.name),
        address=socket_address(address),
        enable_reuse_port=_ALONE,
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


@lru_cache(maxsize=8)
def _manager(decisions: str, *, inside: bool) -> Any:
    """The connection manager of outbound sockets, or of the inside of tunnels, where no way leads further in."""
    manager = HttpConnectionManager()
    manager.CopyFrom(_common(decisions))
    manager.early_header_mutation_extensions.append(extension("early", _early(inside=inside)))
    return Filter(name="http", typed_config=pack(manager))


@lru_cache(maxsize=8)
def _common(decisions: str) -> Any:
    """What all connection managers share. Normalisation and refusals are mirrored by `septum.model.request_path`."""
    manager = HttpConnectionManager(
        stat_prefix="outbound",
        scoped_routes=_SCOPES,
        http_filters=[
            HttpFilter(name=names.RBAC_FILTER, typed_config=pack(rbac.base())),
            HttpFilter(name=names.ROUTER_FILTER, typed_config=pack(Router(suppress_envoy_headers=True))),
        ],
        access_log=access_log.loggers(decisions),
        access_log_options=_LOG_OPTIONS,
        local_reply_config=local_reply(),
        normalize_path=BoolValue(value=True),
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManager.REJECT_REQUEST,
        strip_trailing_host_dot=True,
        use_remote_address=BoolValue(value=True),
        skip_xff_append=True,
        server_header_transformation=HttpConnectionManager.PASS_THROUGH,
        upgrade_configs=[
            HttpConnectionManager.UpgradeConfig(upgrade_type="CONNECT"),
            HttpConnectionManager.UpgradeConfig(upgrade_type="websocket", enabled=BoolValue(value=False)),
        ],
    )
    _limits(manager)
    _request_id(manager)
    return manager


def _limits(manager: Any) -> None:
    options = HttpProtocolOptions(
        idle_timeout=seconds(3600),
        max_headers_count=UInt32Value(value=1000),
        headers_with_underscores_action=HttpProtocolOptions.REJECT_REQUEST,
    )
    http2 = Http2ProtocolOptions(
        max_concurrent_streams=UInt32Value(value=1024),
        initial_stream_window_size=UInt32Value(value=1 << 20),
        initial_connection_window_size=UInt32Value(value=16 << 20),
        override_stream_error_on_invalid_http_message=BoolValue(value=True),
    )
    manager.common_http_protocol_options.CopyFrom(options)
    manager.http_protocol_options.CopyFrom(http1_options())
    manager.http2_protocol_options.CopyFrom(http2)
    manager.max_request_headers_kb.CopyFrom(UInt32Value(value=96))
    manager.request_headers_timeout.CopyFrom(seconds(30))
    manager.stream_idle_timeout.CopyFrom(seconds(300))


def _request_id(manager: Any) -> None:
    """Kept when the caller sends one, made otherwise, and told to both sides; its bits are left alone."""
    packing = UuidRequestIdConfig(
        pack_trace_reason=BoolValue(value=False), use_request_id_for_trace_sampling=BoolValue(value=False)
    )
    manager.generate_request_id.CopyFrom(BoolValue(value=True))
    manager.preserve_external_request_id = True
    manager.always_set_request_id_in_response = True
    manager.request_id_extension.CopyFrom(RequestIDExtension(typed_config=pack(packing)))


def _early(*, inside: bool) -> Any:
    mutations = [HeaderMutation(remove=name) for name in _CLAIMS]
    if inside:
        mutations.append(HeaderMutation(remove=names.INSIDE_HEADER))
    else:
        way = HeaderValue(key=names.INSIDE_HEADER, value=f"%FILTER_STATE({names.INSIDE}:PLAIN)%")
        overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        mutations.append(HeaderMutation(append=HeaderValueOption(header=way, append_action=overwrite)))
    return EarlyHeaderMutation(mutations=mutations)
