"""What a second node costs: caller's Envoy and target's Envoy with mTLS between them, beside one hop, beside none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from bench import hosts, mesh_up, meshes, processes
from bench.backend import backend
from bench.decision import BACKEND, CONNECTIONS
from bench.hosts import Host
from bench.load import ClosedLoop, Connection, Wire, at_rate, request
from bench.network import Address, address, written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report, Row, percentile

RATE = 500


@dataclass
class Way:
    """One way to the backend: where callers enter, and the TCP address of a session; what was measured of it."""

    label: str
    wires: Sequence[Wire]
    session: Wire
    through: int  # how many Envoys
    micros: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)
    session_micros: list[float] = field(default_factory=list)
    kept: int = 0


def measure(effort: Effort) -> Report:
    """Two real nodes of one mesh, with a target on the callers' own node and one on the other, both at one backend."""
    rounds, count, calls = effort.of(30, 2), effort.of(400, 100), effort.of(300, 50)
    files = meshes.two_nodes(written(BACKEND), written(BACKEND, 1), hosts.INBOUND, CONNECTIONS)
    ways = _ways()
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        mesh = Path(place)
        stack.enter_context(backend(mesh, address(BACKEND), address(BACKEND, 1)))
        mesh_up.write(files, mesh)
        say("nodes: starting a control plane and two nodes")
        stack.enter_context(hosts.control(mesh))
        nodes = [stack.enter_context(hosts.node(mesh, meshes.node(number))) for number in (0, 1)]
        hosts.ask(mesh, "ready", patience=30)
        loads = [ClosedLoop(way.wires) for way in ways]
        steady = [Connection(way.wires[0].address) for way in ways]
        for number in range(-1, rounds):
            if number % 5 == 0:
                say(f"nodes: round {number + 1} of {rounds}")
            for way, load, connection in zip(ways, loads, steady, strict=True):
                _round(way, load, connection, nodes, count, calls)
            if number < 0:  # connections are opened, and caches filled
                ways = [way for way in ways if not _forget(way)]
        ways[2].kept = _between(nodes)
        for load in loads:
            load.close()
    return _report(ways, rounds, count, calls)


def _ways() -> list[Way]:
    straight, near, far = address(BACKEND), address(1, 0), address(1, 1)
    entries = [address(0, 10 + number) for number in range(CONNECTIONS)]

    def wires(at: Sequence[Address], target: str) -> list[Wire]:
        return [Wire(entry, [request("GET", target, "/v1/orders/4711")]) for entry in at]

    def session(at: Address) -> Wire:
        return Wire(at, [request("GET", "store", "/")])

    return [
        Way("straight to the backend", wires([straight] * CONNECTIONS, "x"), session(straight), 0),
        Way("one node", wires(entries, meshes.NEAR), session(near), 1),
        Way("two nodes, mTLS between them", wires(entries, meshes.FAR), session(far), 2),
    ]


def _forget(way: Way) -> bool:
    for values in (way.micros, way.milliseconds, way.sessions, way.session_micros):
        values.clear()
    return False


def _round(way: Way, load: ClosedLoop, connection: Connection, nodes: Sequence[Host], count: int, calls: int) -> None:
    before = _cpu(nodes)
    done = load.run(count, patience=10)
    time.sleep(0.06)  # records are written out every 50 ms
    if set(done.statuses) != {200}:
        raise BenchError(f"{way.label}: answers were {dict(done.statuses)}, not 200")
    way.micros.append((_cpu(nodes) - before) / done.count * 1e6)
    way.milliseconds += [value / 1e6 for value in at_rate(connection, way.wires[0].requests, RATE, calls)]
    before, began = _cpu(nodes), time.perf_counter()
    sessions = calls // 10
    for _ in range(sessions):
        _session(way)
    way.sessions.append((time.perf_counter() - began) / sessions * 1e3)
    time.sleep(0.06)
    way.session_micros.append((_cpu(nodes) - before) / sessions * 1e6)


def _session(way: Way) -> None:
    """Open a TCP session, ask something in it, and close it."""
    connection = Connection(way.session.address)
    if connection.ask(way.session.requests[0]) != 200:
        raise BenchError(f"{way.label}: a TCP session was not answered")
    connection.close()


def _cpu(nodes: Sequence[Host]) -> float:
    return sum(processes.cpu_seconds(node.envoy) for node in nodes)


def _between(nodes: Sequence[Host]) -> int:
    """How many connections the first node has to the second one's inbound listener."""
    inbound = address(hosts.INBOUND, 1)
    found = psutil.Process(nodes[0].envoy).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and tuple(one.raddr) == inbound for one in found)


def _report(ways: Sequence[Way], rounds: int, count: int, calls: int) -> Report:
    rows = []
    for way in ways:
        p50, p99 = median(way.milliseconds), percentile(way.milliseconds, 0.99)
        cpu, ratio = (
            ("", "") if not way.through else (f"{median(way.micros):.1f} µs", _ratio(way.micros, ways[1].micros))
        )
        rows.append(Row(way.label, (cpu, ratio, f"{p50:.3f} ms", f"{p99:.3f} ms")))
    for way in ways:
        cpu, ratio = (
            ("", "")
            if not way.through
            else (f"{median(way.session_micros):.1f} µs", _ratio(way.session_micros, ways[1].session_micros))
        )
        p50, p99 = median(way.sessions), percentile(way.sessions, 0.99)
        rows.append(Row(f"a TCP session, {way.label}", (cpu, ratio, f"{p50:.3f} ms", f"{p99:.3f} ms")))
    how = (
        f"CPU time of all Envoys a request: {count} of them a round over {CONNECTIONS} kept-alive connections, one a "
        f"caller; p50 and p99: {calls} requests a round at {RATE} a second on one connection. {rounds} rounds over the "
        "three ways in turn. The backend's own CPU is not counted.",
        f"A real `septum control` and two `septum node` with one worker each, policy and records on. Between the nodes "
        f"{ways[2].kept} connections were kept for {CONNECTIONS} callers and the TCP sessions of one of them: HTTP/2, "
        "each with the caller's own certificate.",
        "A TCP session: connect to the address that the caller dials, one exchange, close; milliseconds are the mean "
        f"of the {calls // 10} sessions of a round.",
    )
    columns = ("CPU", "x of one node", "p50", "p99")
    return Report("A call from one node to another", columns, tuple(rows), how)


def _ratio(own: Sequence[float], base: Sequence[float]) -> str:
    return f"{median(one / other for one, other in zip(own, base, strict=True)):.2f}"
