"""Meshes and policies of a given size, as the files of a mesh directory, with requests that their rules allow.

Rules look like those of services: many callers, a few methods, literals, `{id}` and `/**` below some resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.network import written

Files = dict[str, bytes]

# The address group of workloads that are only in the mesh.
NOBODY = 240

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_RESOURCES = (
    "orders", "carts", "items", "prices", "stocks", "users", "refunds", "labels", "routes", "events",
    "quotes", "vouchers", "invoices", "payouts", "reviews", "media", "tags", "alerts", "reports", "imports",
)  # fmt: skip
# A path pattern and a path that it matches, below a resource.
_SHAPES = (
    ("/summary", "/summary"),
    ("/{id}", "/4711"),
    ("/{id}/lines", "/4711/lines"),
    ("/export/**", "/export/2026/07"),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One rule: who may do what, and a request line that it allows."""

    caller: str
    method: str
    pattern: str
    path: str


def caller(number: int) -> str:
    return f"caller-{number:03}"


def allowances(rules: int, callers: int) -> list[Allowed]:
    """Rules in turn over the callers. Few or many, they are of all methods and shapes alike.

    Within 20 rules of one caller each method meets each shape, below one resource.
    """
    made = []
    for number in range(rules):
        who, nth = number % callers, number // callers
        resource = f"/v1/{_RESOURCES[(who + nth // 20) % len(_RESOURCES)]}" + (f"-{nth // 400}" if nth >= 400 else "")
        pattern, path = _SHAPES[(who + nth) % len(_SHAPES)]
        method = _METHODS[(who + nth) % len(_METHODS)]
        made.append(Allowed(caller(who), method, resource + pattern, resource + path))
    return made


def one_target(allowed: Iterable[Allowed], callers: int, backend: str, enforce: bool = True) -> Files:
    """`api` at the backend's address, and its callers. The node chooses where outbound listeners open."""
    lines = [_workload("api", "served", backend)]
    lines += [_workload(caller(n), "callers", written(NOBODY, n)) for n in range(callers)]
    mesh = _mesh(lines, ("served", "callers"), ("served", "callers") if enforce else ())
    return {"septum.yaml": mesh, "policy/api.yaml": rules_file(allowed)}


def rules_file(allowed: Iterable[Allowed], target: str = "api", prefix: str = "rule") -> bytes:
    lines = [
        f"  - {{name: {prefix}-{number:05}, from: {rule.caller}, to: {target}, http: '{rule.method} {rule.pattern}'}}"
        for number, rule in enumerate(allowed)
    ]
    return "\n".join(["allow:" if lines else "allow: []", *lines, ""]).encode()


def many_targets(workloads: int, files: int, rules_per_file: int, group: int, backend: str) -> Files:
    """A mesh in which each file opens a target of its own to the workloads after it, with a rule each.

    The first workload is the backend; outbound listeners are in an address group.
    """
    at = [backend, *(written(NOBODY, n) for n in range(1, workloads))]
    lines = [_workload(caller(n), "served", at[n], written(group, n)) for n in range(workloads)]
    made = {"septum.yaml": _mesh(lines, ("served",), ("served",))}
    for number in range(files):
        rules = [
            Allowed(caller((number + 1 + index) % workloads), rule.method, rule.pattern, rule.path)
            for index, rule in enumerate(allowances(rules_per_file, 1))
        ]
        made[f"policy/team-{number:03}.yaml"] = rules_file(rules, caller(number), f"team-{number:03}")
    return made


def one_file(files: Files) -> Files:
    """The same policy with all its rules in one file."""
    names = sorted(name for name in files if name != "septum.yaml")
    rules = b"".join(files[name].removeprefix(b"allow:\n") for name in names)
    return {"septum.yaml": files["septum.yaml"], "policy/all.yaml": b"allow:\n" + rules}


def _workload(name: str, segment: str, at: str, outbound: str = "") -> str:
    own = f", outbound: '{outbound}'" if outbound else ""
    return f"  {name}: {{segment: {segment}, protocol: http, at: '{at}'{own}}}"


def _mesh(workloads: Iterable[str], segments: Sequence[str], enforced: Sequence[str]) -> bytes:
    named = [f"  {name}: of the benchmark" for name in segments]
    head = ["mesh: bench", "trust_domain: bench.test", "segments:", *named, f"enforce: [{', '.join(enforced)}]"]
    return "\n".join([*head, "workloads:", *workloads, ""]).encode()
