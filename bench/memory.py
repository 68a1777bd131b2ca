"""What the process tree of `septum up` takes when nothing happens."""

from __future__ import annotations

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from bench import mesh_up, meshes
from bench.hosts import AGENT, CONTROL_PLANE
from bench.network import address, written
from bench.progress import say
from bench.report import Effort, Report, Row

COLUMNS = ("supervisor", "control plane", "agent", "Envoy", "whole tree", "its RSS")
_SHOP = Path(__file__).parents[1] / "examples" / "shop"


def measure(effort: Effort) -> Report:
    """The shop, and a mesh with 1,000 rules."""
    settle = effort.of(5, 1)
    cases = [("the shop", _shop())]
    if not effort.quick:
        cases.append(("200 workloads, 1,000 rules", meshes.many_targets(200, 50, 20, 50, 0, written(meshes.NOBODY))))
    rows = []
    for what, files in cases:
        say(f"memory: {what}")
        with TemporaryDirectory(prefix="septum-bench-") as place:
            mesh_up.write(files, Path(place))
            with mesh_up.up(Path(place)) as pid:
                time.sleep(settle)
                rows.append(Row(what, of_tree(pid)))
    how = (
        f"Proportional set size (PSS, /proc/PID/smaps_rollup) of each process, {settle} s after the node holds its "
        "snapshot, without traffic. Envoy has two workers. PSS divides pages of the binary among all Envoys that run "
        "on the machine; RSS counts them in full, and several times what the Python processes share.",
    )
    return Report("Idle memory of `septum up`", COLUMNS, tuple(rows), how)


def of_tree(pid: int) -> tuple[str, ...]:
    """The sizes that COLUMNS name, as cells."""
    sizes = dict.fromkeys(COLUMNS[:-2], 0.0)
    resident = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        sizes[_part(process)] += mebibytes(process.pid, "Pss")
        resident += mebibytes(process.pid, "Rss")
    return tuple(f"{size:.0f} MiB" for size in (*sizes.values(), sum(sizes.values()), resident))


def _part(process: psutil.Process) -> str:
    """The column of a process. The shell between a supervisor and its Envoy is the supervisor's."""
    line = process.cmdline()
    if process.name() == "envoy":
        return "Envoy"
    if CONTROL_PLANE in line or AGENT in line:
        return "control plane" if CONTROL_PLANE in line else "agent"
    return "supervisor"


def mebibytes(pid: int, size: str) -> float:
    """A size of a process by its name in smaps_rollup."""
    match = re.search(rf"^{size}: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match, "smaps_rollup has that line"
    return int(match[1]) / 1024


def _shop() -> meshes.Files:
    """The files of the shop, moved to addresses of this run."""
    paths = [_SHOP / "septum.yaml", *sorted((_SHOP / "policy").glob("*.yaml"))]
    files = {path.relative_to(_SHOP).as_posix(): path.read_bytes() for path in paths}
    host = address(0)[0].encode()
    return {name: content.replace(b"127.0.0.1:", host + b":") for name, content in files.items()}
