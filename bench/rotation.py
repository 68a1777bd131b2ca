"""Every certificate of two nodes replaced, and the authority itself, while requests go from one node to the other."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import hosts, mesh_up, meshes
from bench.backend import backend
from bench.decision import BACKEND, CONNECTIONS
from bench.load import ClosedLoop, Wire, request
from bench.network import address, written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Goal, Report, Row

STEPS = ("prepare", "activate", "retire")
# Requests of one turn, and the seconds between turns: about 1,500 a second when nothing else is done.
_TURN, _PAUSE = 100, 0.03


def measure(effort: Effort) -> Report:
    """Rotate the intermediate, then the root, again and again."""
    turns = effort.of(6, 1)
    files = meshes.two_nodes(written(BACKEND), written(BACKEND, 1), hosts.INBOUND, CONNECTIONS)
    taken: dict[tuple[str, str], list[float]] = {}
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        mesh = Path(place)
        stack.enter_context(backend(mesh, address(BACKEND), address(BACKEND, 1)))
        mesh_up.write(files, mesh)
        say("rotation: starting a control plane and two nodes")
        stack.enter_context(hosts.control(mesh))
        for number in (0, 1):
            stack.enter_context(hosts.node(mesh, meshes.node(number)))
        hosts.ask(mesh, "ready", patience=30)
        wires = [
            Wire(address(0, 10 + number), [request("GET", meshes.FAR, "/v1/orders/4711")])
            for number in range(CONNECTIONS)
        ]
        loading = stack.enter_context(_loading(wires))
        began = time.perf_counter()
        for turn in range(turns):
            for what in ("intermediate", "root"):
                say(f"rotation: {what}, {turn + 1} of {turns}")
                for step in STEPS:
                    taken.setdefault((what, step), []).append(_step(mesh, what, step))
        statuses = loading.end()
        spent = time.perf_counter() - began
    return _report(taken, statuses, spent, turns)


def _step(mesh: Path, what: str, step: str) -> float:
    """Seconds until every node has come along."""
    began = time.perf_counter()
    hosts.ask(mesh, "ca", what=what, step=step)
    return time.perf_counter() - began


class _Loading:
    """A process that asks all the while."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def end(self) -> Counter[int]:
        """End it; how often each status came. 0 stands for a connection that was closed."""
        self._pipe.send("end")
        if not self._pipe.poll(60):
            raise BenchError("the process that asks does not end")
        statuses: Counter[int] = self._pipe.recv()
        return statuses


@contextmanager
def _loading(wires: Sequence[Wire]) -> Iterator[_Loading]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_load, args=(theirs, wires), daemon=True)
    process.start()
    try:
        ours.recv()
        yield _Loading(ours)
    finally:
        process.kill()
        process.join()


def _load(pipe: Pipe, wires: Sequence[Wire]) -> None:
    statuses: Counter[int] = Counter()
    loop = ClosedLoop(wires)
    statuses += loop.run(_TURN, patience=30).statuses
    pipe.send("begun")
    while not pipe.poll(_PAUSE):
        try:
            statuses += loop.run(_TURN, patience=30).statuses
        except (BenchError, OSError):
            statuses[0] += 1
            loop = ClosedLoop(wires)
    pipe.send(statuses)


def _report(taken: dict[tuple[str, str], list[float]], statuses: Counter[int], spent: float, turns: int) -> Report:
    failed = statuses.total() - statuses[200]
    rows = [
        Row(f"a new {what}: {step}", (f"{median(values):.2f} s", f"{max(values):.2f} s"))
        for (what, step), values in taken.items()
    ]
    goal = Goal("none fails", failed == 0)
    rows.append(Row("requests from one node to the other", (f"{statuses.total():,}", f"{failed} failed"), goal))
    how = (
        f"{turns} rotations of the intermediate and of the root, one after the other, of a real `septum control` and "
        "two `septum node`. `prepare` ends when every node trusts the new one, `activate` when every certificate of "
        "every node and workload is signed by it, `retire` when no node trusts the old one. Nodes report every 2 "
        "seconds, and that is most of the time of the first two.",
        f"{CONNECTIONS} kept-alive connections, one a caller, asked all the while: {statuses.total() / spent:,.0f} "
        "requests a second.",
    )
    return Report("A new authority while requests are under way", ("median", "max"), tuple(rows), how)
