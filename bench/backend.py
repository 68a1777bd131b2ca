"""What stands behind the proxy: an Envoy of its own that answers by itself, so that its CPU is not counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.core.v3.address_pb2 import Address as EnvoyAddress
from envoy.config.core.v3.address_pb2 import SocketAddress
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)

from bench import processes
from bench.network import Address
from septum.envoy.wire import pack


@contextmanager
def backend(directory: Path, *at: Address) -> Iterator[None]:
    """A backend at these addresses while the block runs."""
    place = directory / "backend"
    place.mkdir()
    (place / "envoy.pb").write_bytes(_bootstrap(at).SerializeToString())
    with processes.envoy(place, at[0]):
        yield


def _bootstrap(at: Sequence[Address]) -> Any:
    answer = DirectResponseAction(status=200, body=DataSource(inline_string="ok\n"))
    routes = [Route(match=RouteMatch(prefix="/"), direct_response=answer)]
    manager = HttpConnectionManager(
        stat_prefix="backend",
        route_config=RouteConfiguration(virtual_hosts=[VirtualHost(name="all", domains=["*"], routes=routes)]),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))],
    )
    chain = FilterChain(filters=[Filter(name="http", typed_config=pack(manager))])
    listeners = [
        Listener(
            name=f"backend-{host}",
            address=EnvoyAddress(socket_address=SocketAddress(address=host, port_value=port)),
            filter_chains=[chain],
        )
        for host, port in at
    ]
    return Bootstrap(static_resources=Bootstrap.StaticResources(listeners=listeners))
