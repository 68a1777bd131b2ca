"""Envoy's HTTP connection manager, as all of a node's listeners share it: strict, recording, and closed by itself.

What names the caller is filter state. A listener of a workload's own sets it for the connection (`listener`); on the
inbound listener it is read from the certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, HttpProtocolOptions
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
    RequestIDExtension,
    ScopedRds,
    ScopedRoutes,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy.extensions.request_id.uuid.v3.uuid_pb2 import UuidRequestIdConfig
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from septum.envoy import access_log, jwt, names, rbac
from septum.envoy.cluster import http1_options
from septum.envoy.local_reply import local_reply
from septum.envoy.wire import extension, pack, seconds
from septum.model.mesh import Mesh

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
# Headers by which a client could claim to be somebody, or somewhere, that it is not. Envoy strips `x-envoy-*` and
# `x-forwarded-client-cert` by itself.
_CLAIMS = ("x-forwarded-for", "x-real-ip", "forwarded", names.TUNNEL_HEADER)


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connection managers of a node have in common.

    `decisions` is the file that they record to, `spans` says whether there are other nodes, and `tokens` are the
    filters that look at end users' tokens, as bytes.
    """

    decisions: str
    spans: bool = False
    tokens: tuple[bytes, ...] = ()


def terms(mesh: Mesh, decisions: str) -> Terms:
    """The terms of a mesh's nodes."""
    tokens = tuple(made.SerializeToString(deterministic=True) for made in jwt.http_filters(mesh))
    return Terms(decisions, bool(mesh.nodes), tokens)


@lru_cache(maxsize=8)
def outbound(terms: Terms) -> Any:
    """That of outbound sockets."""
    return _filter(_known_by_listener(terms, _way_inside()))


@lru_cache(maxsize=8)
def inside(terms: Terms) -> Any:
    """That of the inside of tunnels, where no way leads further in."""
    return _filter(_known_by_listener(terms, HeaderMutation(remove=names.INSIDE_HEADER)))


def inbound(terms: Terms, target: str) -> Any:
    """That of one target's filter chains on the inbound listener, where the caller is known by its certificate.

    Only the target's own routes are there, so a request for another one finds nothing, whatever it calls itself.
    """
    manager = HttpConnectionManager()
    manager.CopyFrom(_known_by_certificate(terms))
    manager.rds.CopyFrom(Rds(route_config_name=target, config_source=_ADS))
    return _filter(manager)


def _filter(manager: Any) -> Any:
    return Filter(name="http", typed_config=pack(manager))


def _known_by_listener(terms: Terms, inside: Any) -> Any:
    manager = HttpConnectionManager()
    manager.CopyFrom(_common())
    manager.scoped_routes.CopyFrom(_SCOPES)
    manager.http_filters.extend(_filters(terms))
    manager.access_log.extend(access_log.loggers(terms.decisions, spans=terms.spans))
    manager.early_header_mutation_extensions.append(_early(inside))
    # Of a place outside with TLS, HTTP/2 says `https` then, though the caller spoke plain HTTP.
    manager.scheme_header_transformation.match_upstream = True
    return manager


@lru_cache(maxsize=8)
def _known_by_certificate(terms: Terms) -> Any:
    manager = HttpConnectionManager()
    manager.CopyFrom(_common())
    manager.stat_prefix = names.INBOUND
    manager.http_filters.extend([_caller(), *_filters(terms)])
    manager.access_log.extend(access_log.loggers(terms.decisions, spans=terms.spans, caller=access_log.PEER))
    manager.early_header_mutation_extensions.append(_early(HeaderMutation(remove=names.INSIDE_HEADER)))
    # WebSocket and TCP sessions come as extended CONNECT and CONNECT from the caller's node.
    manager.http2_protocol_options.allow_connect = True
    manager.forward_client_cert_details = HttpConnectionManager.SANITIZE_SET
    manager.set_current_client_cert_details.uri = True
    return manager


@lru_cache(maxsize=1)
def _common() -> Any:
    """What all connection managers share. Normalisation and refusals are mirrored by `septum.model.request_path`."""
    manager = HttpConnectionManager(
        stat_prefix="outbound",
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


def _filters(terms: Terms) -> list[Any]:
    return [
        *(HttpFilter.FromString(made) for made in terms.tokens),
        HttpFilter(name=names.RBAC_FILTER, typed_config=pack(rbac.base())),
        HttpFilter(name=names.ROUTER_FILTER, typed_config=pack(Router(suppress_envoy_headers=True))),
    ]


def _caller() -> Any:
    """Several URI SANs come as one text with commas between, which is nobody's ID."""
    source = DataSource(inline_string=access_log.PEER)
    value = FilterStateValue(
        object_key=names.CALLER,
        factory_key="envoy.string",
        format_string=SubstitutionFormatString(text_format_source=source),
    )
    return HttpFilter(name=names.CALLER_FILTER, typed_config=pack(SetFilterState(on_request_headers=[value])))


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


def _early(inside: Any) -> Any:
    removals = [HeaderMutation(remove=name) for name in _CLAIMS]
    return extension("early", EarlyHeaderMutation(mutations=[*removals, inside]))


def _way_inside() -> Any:
    way = HeaderValue(key=names.INSIDE_HEADER, value=f"%FILTER_STATE({names.INSIDE}:PLAIN)%")
    overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return HeaderMutation(append=HeaderValueOption(header=way, append_action=overwrite))
