"""A real Envoy under our xDS server, in front of small backends, for tests that compare it with `decide`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc

from septum.envoy import names
from septum.envoy.bootstrap import Start, bootstrap
from septum.envoy.compile import Compiler, Front
from septum.envoy.reach import Survey
from septum.envoy.shadow import Candidate
from septum.model.mesh import Address, Mesh
from septum.model.policy import Policy
from septum.model.resource_types import SECRET
from septum.model.snapshot import Resource, Snapshot
from septum.node.binary import command, find_envoy
from septum.xds.fleet import Fleet
from septum.xds.server import serve
from septum.xds.status import AllHeld

NODE = "n1"
_DENIALS = (names.DENY, names.HEALTH, names.UPGRADE, names.QUARANTINE, names.MISDIRECTED)
DEADLINE = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Poll a condition until it is true; the tests' one way to wait for what has no event."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if value := condition():
            return value
        threading.Event().wait(0.005)
    raise AssertionError(f"not within {deadline} s: {what}")


class Proxy:
    """One Envoy and the control plane for it. `hold` makes it enforce a policy and returns when it does.

    In a mesh of many nodes, `node` is which one it is, and `secrets` gives what its agent would: the certificates of
    the workloads that it fronts, and what is trusted. `drain` is the seconds after which cut connections are closed.
    """

    def __init__(
        self,
        directory: Path,
        node: str = NODE,
        secrets: Callable[[Mesh, str], Sequence[Resource]] = lambda mesh, node: (),
        survey: Survey | None = None,
        drain: int = 1,
    ) -> None:
        self.directory, self.node = directory, node
        self.decisions = directory / "decisions.jsonl"
        self._secrets, self._drain = secrets, drain
        self._compiler = Compiler(survey or Survey())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._fleet: Fleet
        self._serving: Any
        self._read = 0
        self.lines: list[dict[str, Any]] = []
        self.records: dict[str, dict[str, Any]] = {}

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        self._thread.start()
        with ExitStack() as stack:
            stack.callback(lambda: self._loop.call_soon_threadsafe(self._loop.stop))
            self._serving = self._call(self._serve())
            stack.callback(self._stop_serving)
            start = Start(self.node, "lab", "xds.sock", "admin.sock")
            (self.directory / "envoy.pb").write_bytes(bootstrap(start).SerializeToString())
            process = subprocess.Popen(
                _command(self._drain), cwd=self.directory, env={**os.environ, "SEPTUM_NODE": self.node}
            )
            stack.callback(end, process)
            self.pid = process.pid
            yield self

    async def _serve(self) -> Any:
        self._fleet = Fleet(time.monotonic, lambda _: None)
        self._fleet.expect(self.node)
        serving = serve(str(self.directory / "xds.sock"), self._fleet)
        await serving.__aenter__()
        return serving

    def compiled(
        self,
        policy: Policy,
        cuts: Mapping[tuple[str, str], str] = MappingProxyType({}),
        candidate: Candidate | None = None,
    ) -> Snapshot:
        """What the node should hold, with the secrets that its agent would add."""
        front = Front(self.node, policy.mesh.on(self.node), {}, "decisions.jsonl", cuts, candidate=candidate)
        snapshot = self._compiler.compile(policy, front).for_envoy()
        secrets = {secret.name: secret for secret in self._secrets(policy.mesh, self.node)}
        if not secrets:
            return snapshot
        version = ".".join((snapshot.version, *(secret.version for secret in secrets.values())))
        return Snapshot(version, {**snapshot.resources, SECRET: secrets})

    def hold(
        self,
        policy: Policy,
        cuts: Mapping[tuple[str, str], str] = MappingProxyType({}),
        candidate: Candidate | None = None,
    ) -> None:
        self.publish(self.compiled(policy, cuts, candidate))()

    def publish(self, snapshot: Snapshot) -> Callable[[], None]:
        """Send what differs. What comes back waits until it is held."""

        async def publish() -> Any:
            self._fleet.publish(self.node, snapshot)
            return (await self._fleet.settled([self.node], snapshot.version, DEADLINE))[self.node]

        pending = asyncio.run_coroutine_threadsafe(publish(), self._loop)

        def held() -> None:
            outcome = pending.result(DEADLINE + 5)
            assert isinstance(outcome, AllHeld), outcome

        return held

    def publish_and_die(self, policy: Policy) -> None:
        """Send what differs and take the control plane away at once."""
        snapshot = self.compiled(policy)

        async def publish() -> None:
            self._fleet.publish(self.node, snapshot)

        self._call(publish())
        self._stop_serving()

    def serve_again(self) -> None:
        """A control plane that knows nothing of the one before."""
        self._serving = self._call(self._serve())

    def _stop_serving(self) -> None:
        self._call(self._serving.__aexit__(None, None, None))

    def record(self, request_id: str) -> dict[str, Any]:
        """The decision of a request, once Envoy has written it."""

        def found() -> dict[str, Any] | None:
            self.take_records()
            return self.records.get(request_id)

        record: dict[str, Any] = wait_for(found, f"a record of {request_id}")
        return record

    def take_records(self) -> None:
        """Read what Envoy has written since."""
        if not self.decisions.exists():
            return
        with self.decisions.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            record = json.loads(line)
            with_results(record)
            self.lines.append(record)
            self.records[record.get("id", f"line {len(self.lines)}")] = record

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE + 5)


def with_results(record: dict[str, Any]) -> dict[str, Any]:
    """A line with `er` and `sr`, what the enforced and the shadow action amount to."""
    for action, result in (("ep", "er"), ("sp", "sr")):
        if action in record:
            record[result] = "denied" if record[action] in _DENIALS else "allowed"
    return record


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _command(drain: int) -> list[str]:
    line = command(find_envoy(), 2)
    line[line.index("--drain-time-s") + 1] = str(drain)
    return line if "--disable-hot-restart" in line else [*line, "--disable-hot-restart"]


@contextmanager
def running_proxy() -> Iterator[Proxy]:
    directory = Path(tempfile.mkdtemp(prefix="septum-"))
    try:
        with Proxy(directory).running() as proxy:
            yield proxy
    finally:
        shutil.rmtree(directory)


# Backends: each answers whatever reaches it, and says what that was.


class _Http(asyncio.Protocol):
    """HTTP/1.1 with keep-alive: the request line and headers come back as the body."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, rest = self._data.partition(b"\r\n\r\n")
            length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self._data = rest[length:]
            body = b"" if head.startswith(b"HEAD ") else head
            if b"upgrade: websocket" in head.lower():
                headers = b"upgrade: websocket\r\nconnection: upgrade\r\nx-backend: 1"
                self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n" + headers + b"\r\n\r\n")
                continue
            answer = b"HTTP/1.1 200 OK\r\nx-backend: 1\r\ncontent-length: %d\r\n\r\n" % len(head)
            self._transport.write(answer + body)


class _Greeting(asyncio.Protocol):
    """TCP that speaks first."""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"HELLO\r\n")


class _AnyMethod(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.encode()
        return grpc.unary_unary_rpc_method_handler(lambda request, context: method)


@contextmanager
def backends() -> Iterator[dict[str, Address]]:
    """Addresses of an `http`, a `tcp` and a `grpc` backend."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def listen(protocol: Any) -> Address:
        server = asyncio.run_coroutine_threadsafe(loop.create_server(protocol, "127.0.0.1", 0), loop).result(5)
        return Address("127.0.0.1", server.sockets[0].getsockname()[1])

    methods = grpc.server(futures.ThreadPoolExecutor(4))
    methods.add_generic_rpc_handlers((_AnyMethod(),))
    port = methods.add_insecure_port("127.0.0.1:0")
    methods.start()
    try:
        yield {"http": listen(_Http), "tcp": listen(_Greeting), "grpc": Address("127.0.0.1", port)}
    finally:
        methods.stop(0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
