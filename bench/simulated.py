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

_LIFETIME = 6 * 3600.0


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
    agents = [await _join(mesh, name, control) for name in names]
    async with asyncio.TaskGroup() as group:
        for number, agent in enumerate(agents):
            group.create_task(agent.run())
            group.create_task(agent.report(number / len(agents)))
        pipe.send("joined")


async def _join(mesh: Path, name: str, control: str) -> _Agent:
    """What `septum node --join` does, without a disk."""
    token = read_token(hosts.token(mesh, name), time.time())
    domain, key = token.trust_domain, new_key()
    channel = open_channel(control, Tls(token.roots_pem, token.chain_pem, token.key_pem, control_name(domain)))
    answer = await Calls(channel, name).call("Enrol", Enrol(csr(key)), Enrolled)
    await channel.close()
    return _Agent(name, control, Tls(answer.roots, answer.chain, key, control_name(domain)), f"spiffe://{domain}/{name}")


class _Agent:
    """One node: the stream and the reports of an agent, over channels as an agent has them."""

    def __init__(self, node: str, control: str, tls: Tls, identity: str) -> None:
        self._upstream = Upstream(node, lambda: open_channel(control, tls), time.time)
        self._link = Link(control, node, lambda: tls)
        certificates = (Certificate(identity, time.time() + _LIFETIME),)
        self._report = Report(septum="bench", envoy_up=True, certificates=certificates, source="septum")

    async def run(self) -> None:
        await self._upstream.run(self)

    async def report(self, later: float) -> None:
        """As often as an agent does, and not all at once."""
        await asyncio.sleep(later)
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
