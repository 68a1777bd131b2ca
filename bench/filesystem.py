"""A compiled snapshot as the files of filesystem xDS, and what is left of it without policy.

An Envoy that reads files runs what ours runs, and needs no control plane beside it while CPU is counted. As with ADS,
one route configuration is shared by all listeners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.config_source_pb2 import ApiVersion, ConfigSource, PathConfigSource
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.bootstrap.internal_listener.v3.internal_listener_pb2 import InternalListener
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from septum.envoy.names import RBAC_FILTER, ROUTER_FILTER
from septum.envoy.wire import extension, pack
from septum.model import resource_types as compiled
from septum.model.snapshot import Snapshot


@dataclass
class Resources:
    """The messages of one node by name, to be changed and written."""

    listeners: dict[str, Any]
    clusters: dict[str, Any]
    routes: dict[str, Any]
    scopes: dict[str, Any]


def resources(snapshot: Snapshot, target: str) -> Resources:
    """The messages of a snapshot, with the routes to one target: Envoy refuses a file of several."""

    def read(type_url: str, message: Callable[[], Any]) -> dict[str, Any]:
        return {name: _parsed(message(), resource.body) for name, resource in snapshot.of(type_url).items()}

    scopes = read(compiled.SCOPE, ScopedRouteConfiguration)
    return Resources(
        read(compiled.LISTENER, Listener),
        read(compiled.CLUSTER, Cluster),
        {target: read(compiled.ROUTE, RouteConfiguration)[target]},
        {name: scope for name, scope in scopes.items() if scope.route_configuration_name == target},
    )


def without_policy(made: Resources) -> Resources:
    """The same listeners and routes without the RBAC filter: records, scopes and normalisation stay."""
    for route in _routes(made):
        route.typed_per_filter_config.clear()

    def drop(manager: Any) -> None:
        kept = [http_filter for http_filter in manager.http_filters if http_filter.name != RBAC_FILTER]
        del manager.http_filters[:]
        manager.http_filters.extend(kept)

    _each_manager(made, drop)
    return made


def without_records(made: Resources) -> Resources:
    """The same, and nothing is written of it."""
    _each_manager(made, lambda manager: manager.ClearField("access_log"))
    return made


def without_token_cache(made: Resources) -> Resources:
    """The same, and each token is verified each time."""

    def change(manager: Any) -> None:
        for http_filter in manager.http_filters:
            config = JwtAuthentication()
            if http_filter.typed_config.Unpack(config):
                for provider in config.providers.values():
                    provider.ClearField("jwt_cache_config")
                http_filter.typed_config.CopyFrom(pack(config))

    _each_manager(made, change)
    return made


def with_rbac(made: Resources, per_route: Any) -> Resources:
    """The same with another RBAC on every route to a target."""
    for route in _routes(made):
        if route.route.cluster:
            route.typed_per_filter_config[RBAC_FILTER].CopyFrom(pack(per_route))
    return made


def bare(made: Resources, target: str) -> Resources:
    """A plain reverse proxy to the target on the same addresses: no policy, no records, no scopes, no options."""
    without_policy(made)
    router = HttpFilter(name=ROUTER_FILTER, typed_config=pack(Router()))
    rds = Rds(config_source=ConfigSource(), route_config_name=target)
    for listener in made.listeners.values():
        chain = listener.filter_chains[0]
        manager = HttpConnectionManager(stat_prefix="bare", rds=rds, http_filters=[router])
        chain.filters[-1].typed_config.CopyFrom(pack(manager))
        del chain.filters[:-1]
    made.listeners = {name: listener for name, listener in made.listeners.items() if listener.HasField("address")}
    return made


def write(made: Resources, directory: Path) -> None:
    """The files, and the `envoy.pb` that leads to them."""
    _each_manager(made, lambda manager: _read_files(manager, directory))
    parts: Mapping[str, Mapping[str, Any]] = {
        "listeners": made.listeners, "clusters": made.clusters, "routes": made.routes, "scopes": made.scopes,
    }  # fmt: skip
    for name, messages in parts.items():
        response = DiscoveryResponse(version_info="1", resources=[pack(message) for message in messages.values()])
        (directory / f"{name}.pb").write_bytes(response.SerializeToString())
    dynamic = Bootstrap.DynamicResources(
        lds_config=_file(directory, "listeners"), cds_config=_file(directory, "clusters")
    )
    inside = extension("internal_listener", InternalListener())
    bootstrap = Bootstrap(
        node=Node(id="bench", cluster="bench"), dynamic_resources=dynamic, bootstrap_extensions=[inside]
    )
    (directory / "envoy.pb").write_bytes(bootstrap.SerializeToString())


def _read_files(manager: Any, directory: Path) -> None:
    if manager.HasField("rds"):
        manager.rds.config_source.CopyFrom(_file(directory, "routes"))
    else:
        manager.scoped_routes.rds_config_source.CopyFrom(_file(directory, "routes"))
        manager.scoped_routes.scoped_rds.scoped_rds_config_source.CopyFrom(_file(directory, "scopes"))


def _file(directory: Path, name: str) -> Any:
    path = PathConfigSource(path=str(directory / f"{name}.pb"))
    return ConfigSource(path_config_source=path, resource_api_version=ApiVersion.V3)


def _routes(made: Resources) -> list[Any]:
    return [route for routes in made.routes.values() for host in routes.virtual_hosts for route in host.routes]


def _each_manager(made: Resources, change: Callable[[Any], None]) -> None:
    for listener in made.listeners.values():
        for chain in listener.filter_chains:
            manager = HttpConnectionManager()
            if chain.filters[-1].typed_config.Unpack(manager):
                change(manager)
                chain.filters[-1].typed_config.CopyFrom(pack(manager))


def _parsed(message: Any, body: bytes) -> Any:
    message.ParseFromString(body)
    return message
