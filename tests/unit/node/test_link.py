"""The channel of each moment: made anew when what the node proves or trusts has changed, and only then."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import aio
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import ControlId, NodeId
from septum.node.link import Link
from septum.rpc.client import ControlUnavailable, Tls, control_name
from septum.rpc.messages import Orders, Renew, Report, Sign, Signed
from septum.rpc.server import Operation, Peer, serve
from septum.xds.fleet import Fleet

TD = "shop.test"
NODE = frozenset({"node"})


async def report(peer: Peer, said: Report) -> Orders:
    return Orders(issuer=f"{peer.name} {said.connections}")


async def renew(peer: Peer, request: Renew) -> Signed:
    return Signed(b"renewed " + request.csr, b"")


async def sign(peer: Peer, request: Sign) -> Signed:
    return Signed(f"signed {request.workload}".encode(), b"")


OPERATIONS = {
    "Report": Operation(NODE, Report, report),
    "Renew": Operation(NODE, Renew, renew),
    "Sign": Operation(NODE, Sign, sign),
}


def fleet() -> Fleet:
    return Fleet(lambda: 0.0, lambda _: None)


def proof(of: Authority) -> Tls:
    key, now = new_key(), time.time()
    issued = of.issue(csr(key), NodeId(TD, "web"), 600, now)
    return Tls(of.bundle(now).roots_pem, issued.chain_pem, key, control_name(TD))


@asynccontextmanager
async def port(of: Authority, address: str, seen: list[bytes]) -> AsyncIterator[None]:
    key, now = new_key(), time.time()
    issued = of.issue(csr(key), ControlId(TD), 600, now, (control_name(TD),))
    mine = (key, issued.chain_pem, of.bundle(now).roots_pem)

    def recognise(certificate: bytes) -> Peer:
        seen.append(certificate)
        return Peer("node", "web", certificate)

    async with serve(fleet(), OPERATIONS, address=address, credentials=lambda: mine, recognise=recognise):
        yield


@aio.runs
async def test_calls_on_the_control_plane_s_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serve(fleet(), OPERATIONS, socket="agents.sock", local="web"):
        link = Link("unix:agents.sock", "web", lambda: None)
        assert await link.report(Report(connections=3)) == Orders(issuer="web 3")
        assert (await link.sign(Renew(b"csr"))).chain == b"renewed csr"
        assert (await link.sign(Sign("orders", b"csr"))).chain == b"signed orders"
        assert not await link.refresh(), "there is nothing to prove"
        await link.close()


@aio.runs
async def test_a_control_plane_that_comes_back_is_reached_over_the_same_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    link = Link("unix:agents.sock", "web", lambda: None)
    with pytest.raises(ControlUnavailable):
        await link.report(Report())
    async with serve(fleet(), OPERATIONS, socket="agents.sock", local="web"):
        ends = time.monotonic() + 5
        while True:
            try:
                answer = await link.report(Report(connections=1))
            except ControlUnavailable:
                assert time.monotonic() < ends
            else:
                break
        assert answer == Orders(issuer="web 1")
    await link.close()


@aio.runs
async def test_another_certificate_is_another_channel_and_the_same_one_is_not(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", TD, time.time())
    seen: list[bytes] = []
    current = proof(authority)
    address = free_address()
    async with port(authority, address, seen):
        link = Link(address, "web", lambda: current)
        await link.report(Report())
        channel = link.now()
        assert not await link.refresh()
        assert link.now() is channel
        current = proof(authority)
        assert await link.refresh()
        assert link.now() is not channel
        await link.report(Report())
        await link.close()
    assert len(set(seen)) == 2


@aio.runs
async def test_what_is_under_way_is_let_finish_when_the_channel_changes(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", TD, time.time())
    seen: list[bytes] = []
    current = proof(authority)
    address = free_address()
    async with port(authority, address, seen):
        link = Link(address, "web", lambda: current)
        calls = link.calls
        await link.report(Report())
        waiting = asyncio.ensure_future(calls.call("Report", Report(connections=7), Orders))
        await asyncio.sleep(0)
        current = proof(authority)
        await link.refresh()
        assert (await waiting).issuer == "web 7"
        await link.close()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
