"""The port for agents: who calls is who its certificate names, and nothing is answered without one."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import ControlId, Identity, NodeId, WorkloadId
from septum.model.spiffe import SpiffeId
from septum.rpc.client import Calls, ControlRefuses, ControlUnavailable, Tls, control_name, open_channel
from septum.rpc.messages import NODE_KEY, PROTOCOL_KEY, SERVICE, Orders, Report, encode
from septum.rpc.server import CallRefused, Operation, Peer, serve
from septum.xds.fleet import Fleet

pytestmark = pytest.mark.anyio
TD = "rpc.test"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", TD, time.time())


def proof(authority: Authority, identity: Identity, roots: bytes | None = None, hosts: tuple[str, ...] = ()) -> Tls:
    key = new_key()
    issued = authority.issue(csr(key), identity, 600, time.time(), hosts)
    trusted = authority.bundle(time.time()).roots_pem if roots is None else roots
    return Tls(trusted, issued.chain_pem, key, control_name(TD))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def report(peer: Peer, said: Report) -> Orders:
    if said.envoy == "refuse":
        raise CallRefused("not today")
    return Orders(issuer=f"{peer.kind} {peer.name}")


OPERATIONS = {"Report": Operation(frozenset({"node"}), Report, report)}


@asynccontextmanager
async def port(authority: Authority, fleet: Fleet | None = None) -> AsyncIterator[str]:
    own = proof(authority, ControlId(TD))

    def recognise(certificate: bytes) -> Peer:
        identity = authority.verify(certificate, time.time())
        if not isinstance(identity, NodeId):
            raise CallRefused(f"{identity.uri} is not a node")
        return Peer("node", identity.name, certificate)

    address = free_port()
    fleet = fleet or Fleet(lambda: 0.0, lambda _: None)
    credentials = lambda: (own.key, own.chain, own.roots)  # noqa: E731
    async with serve(fleet, OPERATIONS, address=address, credentials=credentials, recognise=recognise):
        yield address


async def ask(address: str, tls: Tls | None, node: str = "", said: Report | None = None) -> Orders:
    channel = open_channel(address, tls)
    try:
        return await Calls(channel, node).call("Report", said or Report(), Orders, 5.0)
    finally:
        await channel.close()


async def test_a_node_is_known_by_its_certificate_and_not_by_its_word(authority: Authority) -> None:
    async with port(authority) as address:
        answer = await ask(address, proof(authority, NodeId(TD, "alpha")), node="beta")
    assert answer.issuer == "node alpha"


async def test_another_identity_of_the_mesh_is_told_why_not(authority: Authority) -> None:
    workload = WorkloadId(SpiffeId(TD, "front"))
    async with port(authority) as address:
        with pytest.raises(ControlRefuses, match="is not a node"):
            await ask(address, proof(authority, workload))


async def test_a_certificate_of_another_authority_comes_to_nothing(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", TD, time.time())
    trusted = authority.bundle(time.time()).roots_pem
    async with port(authority) as address:
        with pytest.raises(ControlUnavailable):
            await ask(address, proof(other, NodeId(TD, "alpha"), trusted))


async def test_a_server_that_is_not_the_control_plane_is_not_spoken_to(authority: Authority) -> None:
    mine = proof(authority, NodeId(TD, "alpha"))
    async with port(authority) as address:
        with pytest.raises(ControlUnavailable):
            await ask(address, Tls(mine.roots, mine.chain, mine.key, "front.rpc.test"))


async def test_a_refusal_is_told_in_words(authority: Authority) -> None:
    async with port(authority) as address:
        with pytest.raises(ControlRefuses, match="not today"):
            await ask(address, proof(authority, NodeId(TD, "alpha")), said=Report(envoy="refuse"))


async def test_what_is_no_message_is_refused(authority: Authority) -> None:
    tls = proof(authority, NodeId(TD, "alpha"))
    async with port(authority) as address:
        channel = open_channel(address, tls)
        call = channel.unary_unary(f"/{SERVICE}/Report")
        metadata = ((NODE_KEY, "alpha"), (PROTOCOL_KEY, "1"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xc1 nonsense", metadata=metadata, timeout=5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(encode(Report()), metadata=((NODE_KEY, "alpha"), (PROTOCOL_KEY, "7")), timeout=5)
        assert "install the same Septum" in (caught.value.details() or "")
        await channel.close()


async def test_a_node_gets_only_its_own_stream(authority: Authority) -> None:
    from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

    happened: list[object] = []
    fleet = Fleet(lambda: 0.0, happened.append)
    fleet.expect("alpha")
    fleet.expect("beta")
    async with port(authority, fleet) as address:
        channel = open_channel(address, proof(authority, NodeId(TD, "alpha")))
        method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
        request = DeltaDiscoveryRequest(type_url="x")
        request.node.id = "beta"
        call = channel.stream_stream(method)()
        await call.write(request.SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "this is not the certificate of 'beta'" in (caught.value.details() or "")
        await channel.close()
    assert [status.connected for status in fleet.status()] == [False, False]


async def test_the_local_socket_is_for_one_node_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serve(Fleet(lambda: 0.0, lambda _: None), OPERATIONS, socket="agents.sock", local="here"):
        assert (tmp_path / "agents.sock").stat().st_mode & 0o777 == 0o600
        assert (await ask("unix:agents.sock", None, node="here")).issuer == "node here"
        with pytest.raises(ControlRefuses, match="for the agent of here, and not of elsewhere"):
            await ask("unix:agents.sock", None, node="elsewhere")


async def test_a_port_in_use_is_an_error(authority: Authority) -> None:
    own = proof(authority, ControlId(TD))
    credentials = lambda: (own.key, own.chain, own.roots)  # noqa: E731
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="cannot listen at"):
            async with serve(Fleet(lambda: 0.0, lambda _: None), {}, address=address, credentials=credentials):
                pass
