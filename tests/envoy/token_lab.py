"""A proxy that verifies tokens, and ways to ask it with one."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h1
import h2raw
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from proxy import Proxy, backends, free_port
from tokens import ISSUER

from judges import Judges
from septum.envoy import jwt
from septum.envoy.compile import Compiler, Front
from septum.envoy.wire import pack, resource, seconds
from septum.model.claims import Equals, Test, When
from septum.model.decision import Request
from septum.model.mesh import Address, Issuer, Mesh, Mode, Protocol, Segment, Workload
from septum.model.operation import GrpcOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.resource_types import CLUSTER, LISTENER
from septum.model.snapshot import Resource, Snapshot
from septum.policy.ask import http_operation


class Keys(Compiler):
    """A compiler by which keys are kept for as long as a test wants, and their servers are vouched for by its roots."""

    roots = jwt.SYSTEM_ROOTS
    kept = jwt.KEYS_KEPT

    def compile(self, policy: Policy, front: Front) -> Snapshot:
        made = super().compile(policy, front)
        resources = {type_url: dict(of_type) for type_url, of_type in made.resources.items()}
        for name, cluster in jwt.clusters(policy.mesh, self.roots):
            assert name in resources[CLUSTER]
            resources[CLUSTER][name] = resource(name, cluster)
        for name, found in resources[LISTENER].items():
            resources[LISTENER][name] = self._listener(found)
        return Snapshot(made.version, resources)

    def _listener(self, found: Resource) -> Resource:
        listener = Listener.FromString(found.body)
        last = listener.filter_chains[0].filters[-1].typed_config
        manager = HttpConnectionManager()
        if last.Unpack(manager):
            for one in manager.http_filters:
                config = JwtAuthentication()
                if one.typed_config.Unpack(config):
                    self._shorten(config)
                    one.typed_config.CopyFrom(pack(config))
            last.CopyFrom(pack(manager))
        return resource(found.name, listener)

    def _shorten(self, config: Any) -> None:
        for provider in config.providers.values():
            if provider.HasField("remote_jwks"):
                provider.remote_jwks.cache_duration.CopyFrom(seconds(self.kept))


@dataclass(frozen=True)
class Asked:
    """A call of `caller`, with the `authorization` headers as they are sent."""

    caller: str
    target: str
    path: str
    authorization: tuple[str, ...] = ()
    method: str = "GET"
    more: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [*(("authorization", value) for value in self.authorization), *self.more]


@dataclass(frozen=True)
class Case:
    """A call, and the claims that its headers amount to; `about` says what is tried."""

    about: str
    asked: Asked
    claims: dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """Whether a call passed, and what came back."""

    passed: bool
    body: bytes
    request_id: str


@dataclass
class Lab:
    proxy: Proxy
    mesh: Mesh
    asked: int = 0

    def ask(self, asked: Asked, protocol: str = "h1") -> Answered:
        """A call; `protocol` is h1, h2 or grpc."""
        self.asked += 1
        request_id = f"token-{self.asked}"
        outbound = self.mesh.workloads[asked.caller].outbound
        assert outbound is not None
        send = {"h1": _http1, "h2": _http2, "grpc": _grpc}[protocol]
        passed, body = send(outbound.port, asked, request_id)
        return Answered(passed, body, request_id)

    def request(self, asked: Asked, claims: dict[str, Any], protocol: str = "h1") -> Request:
        service, _, method = asked.path[1:].rpartition("/")
        operation = GrpcOperation(service, method) if protocol == "grpc" else http_operation(asked.method, asked.path)
        return Request(asked.caller, asked.target, operation, claims)

    @contextmanager
    def connect(self, caller: str, authority: str, *authorization: str) -> Iterator[tuple[int, Any]]:
        """The status of a CONNECT, and the session as a file."""
        outbound = self.mesh.workloads[caller].outbound
        assert outbound is not None
        lines = [f"CONNECT {authority} HTTP/1.1", f"host: {authority}"]
        lines += [*(f"authorization: {value}" for value in authorization), "", ""]
        with socket.create_connection(("127.0.0.1", outbound.port), 10) as wire, wire.makefile("rwb") as file:
            file.write("\r\n".join(lines).encode())
            file.flush()
            status = int(file.readline().split()[1])
            while file.readline().strip():
                pass
            yield status, file


def agree(lab: Lab, policy: Policy, cases: Iterable[Case], protocol: str = "h1") -> int:
    """For each call the verdict, the record of it and the rule it names are those of `decide`; how many it allows.

    The set algebra and z3 agree. Raises Difference where they do not.
    """
    answers = [(case, lab.ask(case.asked, protocol)) for case in cases]
    requests = [lab.request(case.asked, case.claims, protocol) for case, _ in answers]
    judges, allowed = Judges(policy, requests), 0
    for (case, answered), request in zip(answers, requests, strict=True):
        asked, decision = case.asked, judges.agreed(request)
        allowed += decision.allowed
        record = lab.proxy.record(answered.request_id)
        observed = policy.mesh.mode(policy.mesh.workloads[asked.target]) is Mode.OBSERVE
        shown = f"{case.about}, {asked} by {protocol}: {decision}\n{record}"
        assert answered.passed == (decision.allowed or observed), shown
        named = record["ep"]
        assert named == decision.rule.id if decision.rule else named.startswith("septum."), shown
        if answered.body and protocol != "grpc":  # passed on as they came, whatever they are worth
            assert not answered.passed or all(it.strip().encode() in answered.body for it in asked.authorization), shown
    return allowed


def bearer(token: str) -> tuple[str, ...]:
    return (f"Bearer {token}",)


def _http1(port: int, asked: Asked, request_id: str) -> tuple[bool, bytes]:
    headers = [("host", asked.target), ("x-request-id", request_id), *asked.headers]
    lines = [f"{asked.method} {asked.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    connection = h1.Connection(port)
    answer = connection.send("\r\n".join(lines).encode("latin-1"), head=asked.method == "HEAD")
    connection.close()
    assert answer.from_backend or answer.status == 403, answer
    return answer.from_backend, answer.body


def _pseudo(asked: Asked, request_id: str, method: str) -> list[tuple[bytes, bytes]]:
    pseudo = {":method": method, ":scheme": "http", ":authority": asked.target, ":path": asked.path}
    headers = [*pseudo.items(), ("x-request-id", request_id), *asked.headers]
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


def _http2(port: int, asked: Asked, request_id: str) -> tuple[bool, bytes]:
    answer = h2raw.send(port, _pseudo(asked, request_id, asked.method))
    assert answer.from_backend or answer.status == 403, answer
    return answer.from_backend, answer.body


def _grpc(port: int, asked: Asked, request_id: str) -> tuple[bool, bytes]:
    headers = _pseudo(asked, request_id, "POST")
    headers += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    answer = h2raw.send(port, headers, b"\0\0\0\0\0")
    passed = answer.body[5:] == asked.path.encode()
    assert passed or answer.headers["grpc-status"] == "7", answer  # PERMISSION_DENIED
    return passed, answer.body


@contextmanager
def token_lab(*issuers: Issuer, keys_kept: float = jwt.KEYS_KEPT, roots: Path | None = None) -> Iterator[Lab]:
    """`web` and `other` as callers; `api`, `rpc`, `store` and (observed) `seen` as targets."""
    keys = Keys()
    keys.kept, keys.roots = keys_kept, str(roots or jwt.SYSTEM_ROOTS)
    with tempfile.TemporaryDirectory(prefix="septum-") as directory, backends() as at:
        proxy = Proxy(Path(directory))
        proxy._compiler = keys
        with proxy.running():
            yield Lab(proxy, _mesh(at, issuers))


def _mesh(at: dict[str, Address], issuers: tuple[Issuer, ...]) -> Mesh:
    def workload(name: str, protocol: Protocol, segment: str = "core", **more: Any) -> Workload:
        outbound = Address("127.0.0.1", free_port())
        return Workload(name, segment, at[protocol.value], protocol, outbound=outbound, **more)

    workloads = [
        workload("web", Protocol.HTTP),
        workload("other", Protocol.HTTP),
        workload("api", Protocol.HTTP, health="/healthz"),
        workload("folding", Protocol.HTTP, health="/healthz", ignore_case=True),
        workload("rpc", Protocol.GRPC),
        workload("store", Protocol.TCP),
        workload("seen", Protocol.HTTP, "edge"),
        workload("seen-store", Protocol.TCP, "edge"),
    ]
    segments = {name: Segment(name) for name in ("core", "edge")}
    mesh = Mesh("lab", "lab.test", segments, {one.name: one for one in workloads}, frozenset({"core"}))
    return replace(mesh, issuers={issuer.name: issuer for issuer in issuers})


def policy_of(mesh: Mesh, *rules: Rule, quarantined: frozenset[str] = frozenset()) -> Policy:
    return Policy(mesh, rules, "v", quarantined)


def asking(*tests: tuple[str, Test], iss: str = ISSUER) -> When:
    """What a rule asks, of a token of the issuer."""
    return When((("iss", Equals(iss)), *tests))


def rule(id: str, operation: str, when: When | None = None, target: str = "api", callers: tuple[str, ...] = ()) -> Rule:
    """A rule that opens one HTTP operation, gRPC method or `connect` to `web`, or to the callers."""
    opened: tuple[HttpPattern, ...] | None = None
    if operation != "connect":
        parse = HttpPattern.parse if " " in operation else HttpPattern.parse_grpc
        opened = (parse(operation),)
    return Rule(id, callers or ("web",), (target,), opened, when=when)
