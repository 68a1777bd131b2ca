"""A real Envoy that takes mTLS with what the authority says is trusted, and tells whom it saw."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septum.identity.authority import Bundle
from septum.node.binary import find_envoy

ORDERS = "spiffe://shop.test/orders"
_TYPE = "type.googleapis.com/"
_TLS = _TYPE + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_RBAC = _TYPE + "envoy.extensions.filters.http.rbac.v3.RBAC"
_ACTION = _TYPE + "envoy.config.rbac.v3.Action"
_MANAGER = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = _TYPE + "envoy.extensions.filters.http.router.v3.Router"
_URI_SAN = _TYPE + "envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput"


@dataclass(frozen=True)
class Server:
    """What one listener proves and trusts."""

    chain: bytes
    key: bytes
    bundle: Bundle
    tickets: bool = False


class Envoy:
    """The running Envoy. `ports` are by the name of a listener."""

    def __init__(self, ports: Mapping[str, int], admin: Path) -> None:
        self._ports = ports
        self._admin = admin

    def stats(self) -> dict[str, int]:
        """Counters of TLS by `<listener>.<name>`."""
        connection = http.client.HTTPConnection("admin", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(self._admin))
        connection.request("GET", "/stats?format=json&filter=ssl")
        read = json.loads(connection.getresponse().read())["stats"]
        connection.close()
        names = {f"listener.{name}.ssl.": f"{name}." for name in self._ports}
        return {
            short + stat["name"].removeprefix(long): stat["value"]
            for stat in read
            for long, short in names.items()
            if stat.get("name", "").startswith(long)
        }

    def call(
        self,
        listener: str,
        own: tuple[bytes, bytes] | None,
        roots: bytes,
        *,
        session: ssl.SSLSession | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        context: ssl.SSLContext | None = None,
    ) -> tuple[int, str, ssl.SSLSession | None, bool]:
        """One request: its status and body, the TLS session, and whether that was resumed. Raises OSError."""
        context = context or client_context(own, roots, version)
        with (
            socket.create_connection(("127.0.0.1", self._ports[listener]), 5) as plain,
            context.wrap_socket(plain, server_hostname="orders.shop.test", session=session) as connection,
        ):
            client = http.client.HTTPConnection("orders")
            client.sock = connection
            client.request("GET", "/")
            answer = client.getresponse()
            return answer.status, answer.read().decode(), connection.session, bool(connection.session_reused)


def client_context(
    own: tuple[bytes, bytes] | None, roots: bytes, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(cadata=roots.decode())
    if own:
        with tempfile.TemporaryDirectory() as directory:
            chain, key = Path(directory) / "chain", Path(directory) / "key"
            chain.write_bytes(own[0])
            key.write_bytes(own[1])
            context.load_cert_chain(chain, key)
    return context


@contextmanager
def running(servers: Mapping[str, Server]) -> Iterator[Envoy]:
    directory = Path(tempfile.mkdtemp(prefix="septum-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        listeners = [_listener(name, server) for name, server in servers.items()]
        admin = {"address": {"pipe": {"path": "admin.sock", "mode": 0o600}}}
        (directory / "envoy.json").write_text(
            json.dumps({"admin": admin, "static_resources": {"listeners": listeners}})
        )
        command = [
            str(find_envoy()),
            "-c",
            "envoy.json",
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "-l",
            "warning",
        ]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, env=dict(os.environ))
        ports = _ports(directory / "admin.sock", list(servers), process, directory / "log")
        yield Envoy(ports, directory / "admin.sock")
    finally:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(directory)


def _ports(admin: Path, names: list[str], process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            connection = http.client.HTTPConnection("admin", timeout=5)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(admin))
            connection.request("GET", "/listeners?format=json")
            statuses = json.loads(connection.getresponse().read()).get("listener_statuses", [])
            found = {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in statuses}
            if set(found) == set(names) and all(found.values()):
                return found
        except OSError:
            pass
        finally:
            connection.close()
    raise AssertionError(f"Envoy does not listen: {log.read_text()}")


def _listener(name: str, server: Server) -> dict[str, Any]:
    return {
        "name": name,
        "stat_prefix": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {
                "transport_socket": {"name": "tls", "typed_config": _tls(server)},
                "filters": [{"name": "http", "typed_config": _http(name)}],
            }
        ],
    }


def _tls(server: Server) -> dict[str, Any]:
    trusted = {
        "trusted_ca": {"inline_string": server.bundle.roots_pem.decode()},
        "crl": {"inline_string": server.bundle.crl_pem.decode()},
        "only_verify_leaf_cert_crl": True,
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://shop.test/"}}],
    }
    certificate = {
        "certificate_chain": {"inline_string": server.chain.decode()},
        "private_key": {"inline_string": server.key.decode()},
    }
    closed = (
        {}
        if server.tickets
        else {"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True}
    )
    return {
        "@type": _TLS,
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [certificate],
            "validation_context": trusted,
        },
        **closed,
    }


def _http(name: str) -> dict[str, Any]:
    """Whoever is exactly `ORDERS` passes; the names of a certificate are read joined by commas."""

    def action(verdict: str) -> dict[str, Any]:
        return {"action": {"name": verdict, "typed_config": {"@type": _ACTION, "name": verdict, "action": verdict}}}

    matcher = {
        "matcher_tree": {
            "input": {"name": "uri", "typed_config": {"@type": _URI_SAN}},
            "exact_match_map": {"map": {ORDERS: action("ALLOW")}},
        },
        "on_no_match": action("DENY"),
    }
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "seen"}}}
    return {
        "@type": _MANAGER,
        "stat_prefix": name,
        "http_filters": [
            {"name": "rbac", "typed_config": {"@type": _RBAC, "matcher": matcher}},
            {"name": "router", "typed_config": {"@type": _ROUTER}},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
