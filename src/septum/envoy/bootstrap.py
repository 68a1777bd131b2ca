"""What Envoy starts from: who it is, where its control plane listens, and an admin that no network reaches."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Admin, Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, Pipe
from envoy.config.core.v3.backoff_pb2 import BackoffStrategy
from envoy.config.core.v3.base_pb2 import Node, RetryPolicy
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.bootstrap.internal_listener.v3.internal_listener_pb2 import InternalListener
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions

from septum.envoy.names import CONTROL_CLUSTER
from septum.envoy.wire import extension, pack, seconds


@dataclass(frozen=True, slots=True)
class Start:
    """What a node's Envoy is started with. Socket paths may be relative to its working directory."""

    node: str
    mesh: str
    control_socket: str
    admin_socket: str


def bootstrap(start: Start) -> Any:
    """The bootstrap of one node."""
    ads = ApiConfigSource(
        api_type=ApiConfigSource.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        grpc_services=[GrpcService(envoy_grpc=_control())],
        set_node_on_first_message_only=True,
    )
    dynamic = Bootstrap.DynamicResources(lds_config=_ads(), cds_config=_ads(), ads_config=ads)
    return Bootstrap(
        node=Node(id=start.node, cluster=start.mesh),
        static_resources=Bootstrap.StaticResources(clusters=[_control_cluster(start.control_socket)]),
        dynamic_resources=dynamic,
        admin=Admin(address=_pipe(start.admin_socket, 0o600)),
        bootstrap_extensions=[extension("internal_listener", InternalListener())],
    )


def _control() -> Any:
    """Envoy's own back-off reaches half a minute; a second keeps a restarted control plane in touch."""
    back_off = BackoffStrategy(base_interval=seconds(0.1), max_interval=seconds(1))
    return GrpcService.EnvoyGrpc(cluster_name=CONTROL_CLUSTER, retry_policy=RetryPolicy(retry_back_off=back_off))


def _control_cluster(socket: str) -> Any:
    endpoint = LbEndpoint(endpoint=Endpoint(address=_pipe(socket)))
    load = ClusterLoadAssignment(cluster_name=CONTROL_CLUSTER, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])])
    http2 = UpstreamOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return Cluster(
        name=CONTROL_CLUSTER,
        type=Cluster.STATIC,
        connect_timeout=seconds(1),
        load_assignment=load,
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(UpstreamOptions(explicit_http_config=http2))
        },
    )


def _ads() -> Any:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def _pipe(path: str, mode: int = 0) -> Any:
    return Address(pipe=Pipe(path=path, mode=mode))


def main(arguments: list[str]) -> None:
    """Write the bootstrap of a node: NODE, MESH and the file."""
    node, mesh, file = arguments
    start = Start(node, mesh, "xds.sock", "admin.sock")
    Path(file).write_bytes(bootstrap(start).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(sys.argv[1:])
