"""What stands behind the proxy: an Envoy of its own that answers by itself, so that its CPU is not counted."""

from __future__ import annotations

from collections.abc import Iterator
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
def backend(directory: Path, at: Address) -> Iterator[None]:
    """A backend at an address while the block runs."""
    place = directory / "backend"
    place.mkdir()
    (place / "envoy.pb").write_bytes(_bootstrap(at).SerializeToString())
    with processes.envoy(place, at):
        yield


def _bootstrap(at: Address) -> Any:
    answer = DirectResponseAction(status=200, body=DataSource(inline_string="ok\n"))
    routes = [Route(match=RouteMatch(prefix="/"), direct_response=answer)]
    manager = HttpConnectionManager(
        stat_prefix="backend",
        route_config=RouteConfiguration(virtual_hosts=[VirtualHost(name="all", domains=["*"], routes=routes)]),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))],
    )
    address = EnvoyAddress(socket_address=SocketAddress(address=at[0], port_value=at[1]))
    chain = FilterChain(filters=[Filter(name="http", typed_config=pack(manager))])
    listener = Listener(name="backend", address=address, filter_chains=[chain])
    return Bootstrap(static_resources=Bootstrap.StaticResources(listeners=[listener]))
