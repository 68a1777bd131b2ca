"""How many certificates are issued a second: by the authority alone, and by a control plane that agents call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import hosts, mesh_up, meshes, processes, simulated
from bench.network import written
from bench.progress import say
from bench.report import Effort, Report, Row
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import WorkloadId
from septum.model.spiffe import SpiffeId
from septum.rpc.client import Calls, open_channel
from septum.rpc.messages import Sign, Signed

_LIFETIME, _DOMAIN, _AT_ONCE = 6 * 3600.0, "bench.test", 16


@dataclass(frozen=True, slots=True)
class Step:
    """Certificates a second of each round, and the microseconds of CPU of one."""

    label: str
    rates: Sequence[float]
    micros: Sequence[float]


def measure(effort: Effort) -> Report:
    """The node's part, the authority's, and the whole way over mTLS."""
    rounds, count = effort.of(10, 2), effort.of(300, 20)
    with TemporaryDirectory(prefix="septum-bench-") as place:
        authority = Authority.create(Path(place) / "ca", _DOMAIN, time.time())
        say("svids: in this process")
        requests = [csr(new_key()) for _ in range(count)]
        identity = WorkloadId(SpiffeId(_DOMAIN, meshes.caller(0)))

        def issue() -> None:
            for request in requests:
                authority.issue(request, identity, _LIFETIME, time.time())

        def ask() -> None:
            for _ in requests:
                csr(new_key())

        steps = [
            _timed("the node: a key and a request", ask, rounds, count),
            _timed("the authority: a certificate, in one process", issue, rounds, count),
            _called(Path(place) / "mesh", requests, rounds),
        ]
    return _report(steps, rounds, count)


def _timed(label: str, work: Callable[[], None], rounds: int, count: int) -> Step:
    rates, micros = [], []
    for _ in range(rounds):
        cpu, began = time.process_time(), time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - began))
        micros.append((time.process_time() - cpu) / count * 1e6)
    return Step(label, rates, micros)


def _called(mesh: Path, requests: Sequence[bytes], rounds: int) -> Step:
    """A control plane, and one node that asks for its workload's certificate again and again."""
    mesh_up.write(meshes.of_nodes(2, 1, 1, hosts.INBOUND), mesh)
    say("svids: by a control plane")
    with hosts.control(mesh) as control:
        return asyncio.run(_asked(mesh, control, requests, rounds))


async def _asked(mesh: Path, control: int, requests: Sequence[bytes], rounds: int) -> Step:
    address, node = written(hosts.CONTROL), meshes.node(0)
    channel = open_channel(address, await simulated.join(mesh, node, address))
    calls, rates, micros = Calls(channel, node), [], []

    async def lane(own: Sequence[bytes]) -> None:
        for request in own:
            await calls.call("Sign", Sign(meshes.caller(0), request), Signed)

    for _ in range(rounds):
        cpu, began = processes.cpu_seconds(control), time.perf_counter()
        await asyncio.gather(*(lane(requests[n::_AT_ONCE]) for n in range(_AT_ONCE)))
        rates.append(len(requests) / (time.perf_counter() - began))
        micros.append((processes.cpu_seconds(control) - cpu) / len(requests) * 1e6)
    await channel.close()
    return Step("a control plane, over gRPC with mTLS", rates, micros)


def _report(steps: Sequence[Step], rounds: int, count: int) -> Report:
    rows = tuple(
        Row(step.label, (f"{median(step.rates):,.0f}/s", f"{max(step.rates):,.0f}/s", f"{median(step.micros):,.0f} µs"))
        for step in steps
    )
    how = (
        f"{rounds} rounds of {count} certificates each: P-256 keys, a leaf with one SPIFFE ID below an intermediate. "
        f"The control plane also checks who asks, and writes each serial number to its state; {_AT_ONCE} requests are "
        "under way at once, over one connection. CPU: of the process that issues (of the node, in the first row).",
        "A workload's certificate lives for 6 hours and is renewed at half of that: 1,000 workloads ask for one every "
        "11 seconds.",
    )
    return Report("Certificates of workloads (SVIDs) a second", ("median", "best", "CPU of one"), rows, how)
