"""Nodes without an Envoy: real joins, streams and reports, many in one process; each resource is taken at once."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from bench import hosts
from bench.network import written
from bench.processes import BenchError
from septum.identity.csr import csr, new_key
from septum.identity.token import read_token
from septum.node.link import Link
from septum.node.reporter import Reporter
from septum.node.upstream import Upstream
from septum.rpc.client import Calls, Tls, control_name, open_channel
from septum.rpc.messages import Certificate, Enrol, Enrolled, Orders, Report
from septum.xds.order import TYPES
from septum.xds.protocol import Ack, Send, Subscribe
from septum.xds.types import ALL

# In their reports, instead of one that nobody would use.
_CERTIFICATE = Certificate("spiffe://bench.test/simulated", 4e9)


@contextmanager
def nodes(mesh: Path, names: Sequence[str]) -> Iterator[None]:
    """These nodes of a mesh while the block runs, once all have joined."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, mesh, names, written(hosts.CONTROL)), daemon=True)
    process.start()
    theirs.close()
    try:
        try:
            ours.recv()
        except EOFError:
            raise BenchError("the process of the simulated nodes has ended") from None
        yield
    finally:
        process.kill()
        process.join()


def _serve(pipe: Pipe, mesh: Path, names: Sequence[str], control: str) -> None:
    asyncio.run(_run(pipe, mesh, names, control))


async def _run(pipe: Pipe, mesh: Path, names: Sequence[str], control: str) -> None:
    async with asyncio.TaskGroup() as group:
        for name in names:
            agent = _Agent(name, control, await join(mesh, name, control))
            group.create_task(agent.run())
            group.create_task(agent.report())
        pipe.send("joined")


async def join(mesh: Path, name: str, control: str) -> Tls:
    """What `septum node --join` does, without a disk: what the node proves and trusts from then on."""
    token = read_token(hosts.token(mesh, name), time.time())
    server, key = control_name(token.trust_domain), new_key()
    channel = open_channel(control, Tls(token.roots_pem, token.chain_pem, token.key_pem, server))
    answer = await Calls(channel, name).call("Enrol", Enrol(csr(key)), Enrolled)
    await channel.close()
    return Tls(answer.roots, answer.chain, key, server)


class _Agent:
    """One node: the stream and the reports of an agent, over channels as an agent has them."""

    def __init__(self, node: str, control: str, tls: Tls) -> None:
        self._upstream = Upstream(node, lambda: open_channel(control, tls), time.time)
        self._link = Link(control, node, lambda: tls)
        self._report = Report(septum="bench", envoy_up=True, certificates=(_CERTIFICATE,), source="septum")

    async def run(self) -> None:
        await self._upstream.run(self)

    async def report(self) -> None:
        """As often as an agent does."""
        await Reporter(self._link, self._observed, self._obeyed, time.time).run()

    def open(self) -> None:
        for type_url in TYPES:
            self._upstream.say(Subscribe(type_url, (ALL,)))

    def arrive(self, send: Send) -> None:
        self._upstream.say(Ack(send.type_url, send.nonce))

    def close(self) -> None:
        """The stream opens again by itself."""

    async def _observed(self) -> Report:
        return self._report

    async def _obeyed(self, orders: Orders) -> None:
        """Nobody drains these."""
