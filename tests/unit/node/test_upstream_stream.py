"""The agent's stream to a real port of a control plane: opened again, and clear about why it is not there."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from fakes.waiting import WITHIN, until
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import ControlId, Identity, NodeId
from septum.model.snapshot import Resource, Snapshot
from septum.node.upstream import PAUSES, Upstream
from septum.rpc.client import Tls, control_name, open_channel
from septum.rpc.server import CallRefused, Peer, serve
from septum.xds import server as xds
from septum.xds.fleet import Fleet
from septum.xds.protocol import Ack, Send, Subscribe
from septum.xds.status import AllHeld
from septum.xds.types import CLUSTER

TD = "up.test"


@dataclass
class Asker:
    """A client that asks for all clusters and takes what it gets."""

    say: Callable[..., None] = lambda message: None
    events: list[object] = field(default_factory=list)

    def open(self) -> None:
        self.events.append("open")
        self.say(Subscribe(CLUSTER, ("*",)))

    def arrive(self, send: Send) -> None:
        self.events.append([made.name for made in send.resources])
        self.say(Ack(send.type_url, send.nonce))

    def close(self) -> None:
        self.events.append("close")


@dataclass
class World:
    """A fleet, an upstream and its client, on the clock of this machine."""

    upstream: Upstream
    asker: Asker
    fleet: Fleet

    async def failed(self, why: str) -> str:
        """Wait until it fails for this reason; the whole of it."""
        await until(lambda: why in self.upstream.status.error)
        return self.upstream.status.error


@asynccontextmanager
async def running(channel: Callable[[], object], node: str = "alpha") -> AsyncIterator[World]:
    upstream = Upstream(node, channel, time.monotonic)
    asker = Asker(upstream.say)
    fleet = Fleet(time.monotonic, lambda happening: None)
    fleet.publish("alpha", snapshot("s1"))
    task = asyncio.create_task(upstream.run(asker))
    try:
        yield World(upstream, asker, fleet)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), "it ends when it is cancelled, and not before"


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority.create(tmp_path / "ca", TD, time.time())


def snapshot(version: str) -> Snapshot:
    return Snapshot(version, {CLUSTER: {"a": Resource("a", version, b"")}})


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_what_the_control_plane_sends_arrives_and_is_answered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with running(lambda: open_channel("unix:control.sock", None)) as world:
            async with xds.serve("control.sock", world.fleet):
                assert await world.fleet.settled(["alpha"], "s1", WITHIN) == {"alpha": AllHeld("s1")}
                status = world.upstream.status
                assert status.since is not None
                assert (status.error, status.seen >= status.since) == ("", True)
                world.fleet.publish("alpha", snapshot("s2"))
                assert await world.fleet.settled(["alpha"], "s2", WITHIN) == {"alpha": AllHeld("s2")}
                assert world.upstream.status.since == status.since
            await until(lambda: world.upstream.status.since is None)
            events = [event for event in world.asker.events if isinstance(event, list)]
            assert events == [["a"], ["a"]]
            assert world.asker.events[-1] == "close"

    asyncio.run(main())


def test_it_is_back_within_a_second_of_the_control_plane_however_long_that_was_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        attempts = []

        def channel() -> object:
            attempts.append(time.monotonic())
            return open_channel("unix:control.sock", None)

        async with running(channel) as world:
            await until(lambda: len(attempts) > len(PAUSES) + 1)  # the pauses are as long as they get
            for _ in range(2):
                began = time.monotonic()
                async with xds.serve("control.sock", world.fleet):
                    await until(lambda: world.upstream.status.since is not None, within=1.0)
                    assert time.monotonic() - began < 1.0
                await until(lambda: world.upstream.status.since is None)

    asyncio.run(main())


def test_a_control_plane_that_is_not_there_is_said_to_be_out_of_reach(authority):
    async def main() -> None:
        address, tls = free_address(), proof(authority, NodeId(TD, "alpha"))
        async with running(lambda: open_channel(address, tls)) as world:
            error = await world.failed("the control plane cannot be reached: ")
            assert "Connection refused" in error
            assert "does `septum control` run there?" in error
            assert "open" not in world.asker.events

    asyncio.run(main())


def test_a_way_on_which_nothing_comes_back_is_given_up_and_tried_again(authority):
    async def main() -> None:
        tls = proof(authority, NodeId(TD, "alpha"))
        with socket.socket() as silent:  # takes connections, and says nothing
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            async with running(lambda: open_channel(address, tls)) as world:
                await world.failed("the control plane does not answer")

    asyncio.run(main())


def test_a_node_that_nobody_knows_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        stranger = running(lambda: open_channel("unix:control.sock", None), node="stranger")
        async with stranger as world, xds.serve("control.sock", world.fleet):
            error = await world.failed("refuses this node: no node is called 'stranger'")
            assert "`septum nodes`" in error
            assert world.upstream.status.since is None

    asyncio.run(main())


def test_a_second_agent_of_one_name_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        first = running(lambda: open_channel("unix:control.sock", None))
        second = running(lambda: open_channel("unix:control.sock", None))
        async with first as world, xds.serve("control.sock", world.fleet):
            await until(lambda: world.upstream.status.since is not None)
            async with second:
                await world.failed("two agents use one node's name")

    asyncio.run(main())


def proof(authority: Authority, identity: Identity, roots: bytes | None = None) -> Tls:
    key, now = new_key(), time.time()
    issued = authority.issue(csr(key), identity, 600, now)
    return Tls(roots or authority.bundle(now).roots_pem, issued.chain_pem, key, control_name(TD))


@asynccontextmanager
async def tls_port(authority: Authority, fleet: Fleet) -> AsyncIterator[str]:
    own = proof(authority, ControlId(TD))

    def recognise(certificate: bytes) -> Peer:
        identity = authority.verify(certificate, time.time())
        if not isinstance(identity, NodeId):
            raise CallRefused("not a node")
        return Peer("node", identity.name, certificate)

    address = free_address()
    credentials = lambda: (own.key, own.chain, own.roots)  # noqa: E731
    async with serve(fleet, {}, address=address, credentials=credentials, recognise=recognise):
        yield address


@asynccontextmanager
async def proven_by(authority: Authority, tls: Tls) -> AsyncIterator[World]:
    """A node that proves itself in this way to the TLS port of a control plane."""
    fleet = Fleet(time.monotonic, lambda happening: None)
    fleet.publish("alpha", snapshot("s1"))
    async with tls_port(authority, fleet) as address, running(lambda: open_channel(address, tls)) as world:
        yield world


def refused(authority: Authority, tls: Tls, why: str) -> str:
    """The reason why such a node has no stream."""

    async def main() -> str:
        async with proven_by(authority, tls) as world:
            error = await world.failed(why)
            assert world.upstream.status.since is None
            return error

    return asyncio.run(main())


def test_a_node_that_proves_itself_has_its_stream(authority):
    async def main() -> None:
        async with proven_by(authority, proof(authority, NodeId(TD, "alpha"))) as world:
            await until(lambda: world.upstream.status.since is not None)
            assert world.upstream.status.error == ""

    asyncio.run(main())


def test_another_nodes_certificate_is_refused(authority):
    tls = proof(authority, NodeId(TD, "beta"))
    assert "`septum nodes`" in refused(authority, tls, "refuses this node: this is not the certificate of 'alpha'")


def test_a_control_plane_of_another_authority_is_not_trusted(authority, tmp_path):
    other = Authority.create(tmp_path / "other", TD, time.time())
    error = refused(authority, proof(other, NodeId(TD, "alpha")), "CERTIFICATE_VERIFY_FAILED")
    assert error.startswith("no TLS with the control plane: ")
    assert "are both clocks right?" in error


def test_a_server_of_the_mesh_that_is_not_the_control_plane_is_not_trusted(authority):
    own = proof(authority, NodeId(TD, "alpha"))
    tls = Tls(own.roots, own.chain, own.key, "front.up.test")
    assert "Hostname Verification" in refused(authority, tls, "no TLS with the control plane: ")


def test_a_node_of_another_authority_is_not_let_in(authority, tmp_path):
    other = Authority.create(tmp_path / "other", TD, time.time())
    tls = proof(other, NodeId(TD, "alpha"), roots=authority.bundle(time.time()).roots_pem)
    assert refused(authority, tls, "the control plane")
