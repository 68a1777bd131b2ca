"""A large record of requests, asked again of two policies: where nothing would change, some of it, and all."""

from __future__ import annotations

import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import meshes
from bench.network import written
from bench.processes import BenchError
from bench.progress import say
from bench.report import Effort, Report, Row, at_most, spread
from septum.audit.parcel import Position
from septum.audit.replay import replay
from septum.audit.schema import FILE
from septum.audit.store import Store
from septum.model.policy import Policy
from septum.model.record import Record
from septum.policy.load import load
from septum.verify.diff import diff

_NOW = 1_764_000_000.0
_DAYS = 7 * 86_400
_PAGE = 20_000


def measure(effort: Effort) -> Report:
    """The time of each replay, the difference of the policies among it."""
    records, runs = effort.of(1_000_000, 2_000), effort.of(3, 1)
    allowed = meshes.allowances(1_000, 100)
    files = meshes.one_target(allowed, 100, written(0))
    without = {
        "nothing changes": files,
        "one rule in twenty is gone": meshes.one_target([r for n, r in enumerate(allowed) if n % 20], 100, written(0)),
        "every rule is gone": meshes.one_target([], 100, written(0)),
    }
    with TemporaryDirectory() as directory:
        path = Path(directory) / FILE
        say(f"replay: {records:,} records")
        _record(path, allowed, records)
        rows = [_row(what, path, _policy(files), _policy(new), records, runs) for what, new in without.items()]
    how = (
        "Requests of 100 workloads to one, by 1,000 rules, over 7 days; identifiers in their paths are drawn, so that "
        f"most paths are there once. {runs} runs, each with the difference of the policies and a new connection.",
    )
    return Report(f"Replay of {records:,} records", ("decided otherwise", "groups", "min", "median"), tuple(rows), how)


def _row(what: str, path: Path, old: Policy, new: Policy, records: int, runs: int) -> Row:
    seconds, count, groups = [], 0, 0
    for _ in range(runs):
        began = time.perf_counter()
        found = replay(path, old, new, diff(old, new, _NOW), _NOW - _DAYS, _NOW)
        seconds.append(time.perf_counter() - began)
        count, groups = sum(group.count for group in found.groups), len(found.groups)
        if found.records != records or (count == records) != (not new.rules):
            raise BenchError(f"{what}: {count} of {found.records} records are decided otherwise")
    goal = at_most(sorted(seconds)[len(seconds) // 2], 5, "median < 5 s")
    return Row(what, (f"{count:,}", f"{groups:,}", *spread(seconds, " s", 2)), goal)


def _policy(files: meshes.Files) -> Policy:
    policy = load(files).policy
    if policy is None:
        raise BenchError("a policy of the benchmark is not valid")
    return policy


def _record(path: Path, allowed: list[meshes.Allowed], records: int) -> None:
    """A record file as the control plane writes it."""
    draw = random.Random(1)
    store = Store(path)
    try:
        for start in range(0, records, _PAGE):
            numbers = range(start, min(start + _PAGE, records))
            page = [_one(number, allowed[number % len(allowed)], draw, records) for number in numbers]
            store.write("node", page, Position(), {"run": len(page)})
    finally:
        store.close()


def _one(number: int, rule: meshes.Allowed, draw: random.Random, records: int) -> Record:
    path = rule.path.replace("4711", str(draw.randrange(10**9))).replace("2026", f"{draw.randrange(10**6):06x}")
    fields = {"caller": rule.caller, "target": "api", "protocol": "http", "method": rule.method, "path": path}
    return _PLAIN._replace(time=_NOW - _DAYS + (number + 0.5) * _DAYS / records, request_id=f"{number:032x}", **fields)


# What is the same in all of them; a field that is not named here is empty.
_PLAIN = Record(**dict.fromkeys(Record._fields, "") | {
    "trace_id": "0" * 32, "node": "node", "decision": "allow", "mode": "enforce", "would_be": "allow", "rule": "rule",
    "policy_version": "0" * 64, "status": 200, "bytes_received": 0, "bytes_sent": 512, "duration": 1.5,
    "upstream": "127.0.0.1:9000", "upstream_duration": 1.2, "open": False,
})  # fmt: skip
