"""Where requests go: one pooled, health-checked cluster a workload, and one that leads back inside."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address as EnvoyAddress
from envoy.config.core.v3.address_pb2 import EnvoyInternalAddress, SocketAddress
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.http.header_formatters.preserve_case.v3.preserve_case_pb2 import PreserveCaseFormatterConfig
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions
from envoy.type.v3.percent_pb2 import Percent
from google.protobuf.wrappers_pb2 import UInt32Value

from septum.envoy import names
from septum.envoy.wire import extension, pack, seconds
from septum.model.mesh import Address, Protocol, Workload

UPSTREAM_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def socket_address(address: Address) -> Any:
    """An address as Envoy writes it."""
    return EnvoyAddress(socket_address=SocketAddress(address=address.host, port_value=address.port))


def workload_cluster(target: Workload) -> Any:
    """The connections to one workload, with its own limits and time-outs."""
    cluster = static(target.name, socket_address(target.at), target.timeouts.connect)
    cluster.circuit_breakers.CopyFrom(limits(target))
    if target.protocol is not Protocol.TCP:
        cluster.typed_extension_protocol_options[UPSTREAM_OPTIONS].CopyFrom(pack(_http_options(target)))
    if target.health:
        cluster.health_checks.append(_health_check(target))
        # Envoy's panic mode would go on sending to a workload whose probe fails, so that the probe meant nothing.
        cluster.common_lb_config.healthy_panic_threshold.CopyFrom(Percent(value=0))
    return cluster


def inside_cluster(workload: str) -> Any:
    """The way from a caller's tunnels to its own internal listener.

    TCP sessions go in by HTTP/2, where a side can end its half of a tunnel and still receive; by HTTP/1.1 that would
    cut off the answer. What may be open at once is for the target to limit, not for the way there.
    """
    internal = EnvoyInternalAddress(server_listener_name=names.inside(workload), endpoint_id=workload)
    cluster = static(names.inside(workload), EnvoyAddress(envoy_internal_address=internal), 1.0)
    http2 = UpstreamOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    options = pack(UpstreamOptions(explicit_http_config=http2))
    cluster.typed_extension_protocol_options[UPSTREAM_OPTIONS].CopyFrom(options)
    most = UInt32Value(value=(1 << 32) - 1)
    threshold = CircuitBreakers.Thresholds(max_connections=most, max_pending_requests=most, max_requests=most)
    cluster.circuit_breakers.thresholds.append(threshold)
    return cluster


def http1_options() -> Any:
    """HTTP/1.1 as old services expect it: header case and trailers kept, HTTP/1.0 answered."""
    preserve = extension("preserve_case", PreserveCaseFormatterConfig())
    header_format = Http1ProtocolOptions.HeaderKeyFormat(stateful_formatter=preserve)
    return Http1ProtocolOptions(accept_http_10=True, enable_trailers=True, header_key_format=header_format)


def static(name: str, address: Any, connect: float) -> Any:
    """A cluster of one address; `connect` is in seconds."""
    endpoint = LbEndpoint(endpoint=Endpoint(address=address))
    load = ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])])
    return Cluster(name=name, type=Cluster.STATIC, connect_timeout=seconds(connect), load_assignment=load)


def limits(target: Workload) -> Any:
    """What may be open towards a workload at once."""
    threshold = CircuitBreakers.Thresholds(
        max_connections=UInt32Value(value=target.limits.connections),
        max_pending_requests=UInt32Value(value=target.limits.pending),
        max_requests=UInt32Value(value=target.limits.requests),
    )
    return CircuitBreakers(thresholds=[threshold])


def _http_options(target: Workload) -> Any:
    explicit = UpstreamOptions.ExplicitHttpConfig(http_protocol_options=http1_options())
    if target.protocol is Protocol.GRPC:
        explicit = UpstreamOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    common = HttpProtocolOptions(idle_timeout=seconds(60), max_headers_count=UInt32Value(value=1000))
    return UpstreamOptions(common_http_protocol_options=common, explicit_http_config=explicit)


def _health_check(target: Workload) -> Any:
    """The node's own probe: it goes to the workload directly and needs no rule."""
    check = HealthCheck(
        timeout=seconds(1),
        interval=seconds(5),
        no_traffic_interval=seconds(5),
        unhealthy_interval=seconds(1),
        unhealthy_threshold=UInt32Value(value=2),
        healthy_threshold=UInt32Value(value=1),
    )
    if target.protocol is Protocol.GRPC:
        check.grpc_health_check.SetInParent()
    else:
        check.http_health_check.CopyFrom(HealthCheck.HttpHealthCheck(host=target.name, path=target.health))
    return check
