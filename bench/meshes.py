"""Meshes and policies of a given size, as the files of a mesh directory, with requests that their rules allow.

Rules look like those of services: many callers, a few methods, literals, `{id}` and `/**` below some resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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


# What the first of many targets does not open to the second workload until `changed`.
CHANGED = Allowed("caller-001", "GET", "/v2/news", "/v2/news")


# The workload of a mesh of nodes that all others may call.
SHARED = "shared"
# The targets of a mesh of two nodes: beside the callers, and on the other node.
NEAR, FAR, NEAR_STORE, FAR_STORE = "near", "far", "near-store", "far-store"


def caller(number: int) -> str:
    return f"caller-{number:03}"


def node(number: int) -> str:
    return f"node-{number:03}"


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
    return {"septum.yaml": mesh, "policy/api.yaml": _allow(_rules(allowed, "api", "rule"))}


def many_targets(workloads: int, targets: int, rules_each: int, files: int, group: int, backend: str) -> Files:
    """The first workloads are targets: each opens one operation to each of the workloads after it.

    Targets are dealt over files, the way teams own files. The first one is at the backend; outbound listeners are in an
    address group.
    """
    at = [backend, *(written(NOBODY, n) for n in range(1, workloads))]
    lines = [_workload(caller(n), "served", at[n], outbound=written(group, n)) for n in range(workloads)]
    owned: dict[str, list[str]] = {f"policy/team-{number:03}.yaml": [] for number in range(files)}
    for target in range(targets):
        rules = [
            replace(rule, caller=caller((target + 1 + nth) % workloads))
            for nth, rule in enumerate(allowances(rules_each, 1))
        ]
        owned[f"policy/team-{target * files // targets:03}.yaml"] += _rules(rules, caller(target), caller(target))
    return {"septum.yaml": _mesh(lines, ("served",), ("served",))} | {name: _allow(own) for name, own in owned.items()}


def of_nodes(nodes: int, rules_each: int, files: int, inbound: int) -> Files:
    """A workload on each node, and targets as in `many_targets`. SHARED, on the second node, is open to all of them.

    Nodes listen in the address group `inbound`. Nobody's requests are answered.
    """
    made = many_targets(nodes, nodes, rules_each, files, 0, written(NOBODY))
    lines = [
        _workload(caller(n), "served", written(NOBODY, n), outbound=written(0, n), node=node(n)) for n in range(nodes)
    ]
    lines.append(_workload(SHARED, "shared", written(NOBODY), outbound=written(0, nodes), node=node(1)))
    at = {node(n): written(inbound, n) for n in range(nodes)}
    mesh = _mesh(lines, ("served", "shared"), ("served", "shared"), at)
    to_all = [f"  - {{name: {SHARED}, from: 'segment:served', to: {SHARED}, http: 'GET /**'}}"]
    return made | {"septum.yaml": mesh, f"policy/{SHARED}.yaml": _allow(to_all)}


def two_nodes(http: str, tcp: str, inbound: int, callers: int) -> Files:
    """Callers on the first node; NEAR and NEAR_STORE there too, FAR and FAR_STORE on the second, at a backend.

    Outbound listeners are in the address group 0, and where the first caller dials both stores in group 1.
    """
    dials = f"{{{NEAR_STORE}: '{written(1, 0)}', {FAR_STORE}: '{written(1, 1)}'}}"
    lines = [
        _workload(
            name, "served", http if protocol == "http" else tcp, protocol, outbound=written(0, n), node=node(n % 2)
        )
        for n, (name, protocol) in enumerate(((NEAR, "http"), (FAR, "http"), (NEAR_STORE, "tcp"), (FAR_STORE, "tcp")))
    ]
    for n in range(callers):
        line = _workload(caller(n), "callers", written(NOBODY, n), outbound=written(0, 10 + n), node=node(0))
        lines.append(line if n else line.removesuffix("}") + f", dials: {dials}}}")
    at = {node(n): written(inbound, n) for n in (0, 1)}
    requests = [f"  - {{name: {name}, from: 'segment:callers', to: {name}, http: 'GET /**'}}" for name in (NEAR, FAR)]
    sessions = [f"  - {{name: {name}, from: {caller(0)}, to: {name}}}" for name in (NEAR_STORE, FAR_STORE)]
    mesh = _mesh(lines, ("served", "callers"), ("served", "callers"), at)
    return {"septum.yaml": mesh, "policy/served.yaml": _allow([*requests, *sessions])}


def with_tokens(files: Files, issuer: str, audience: str, keys: str, rules: str) -> Files:
    """The files with an issuer of end users' tokens, and every rule of one policy file asking for one of its tokens."""
    listed = ["issuers:", f"  login: {{issuer: '{issuer}', audiences: [{audience}], jwks: files/login.json}}"]
    when = f", when: {{claims: {{iss: '{issuer}', groups: {{contains: support}}}}}}}}\n".encode()
    return files | {
        "septum.yaml": files["septum.yaml"] + _joined(listed),
        "files/login.json": keys.encode(),
        rules: files[rules].replace(b"}\n", when),
    }


def changed(files: Files, number: int, who: str = CHANGED.caller) -> Files:
    """The files with one rule more, CHANGED for the first workload: another one for each number."""
    path = CHANGED.path + (f"/{number}" if number else "")
    one_more = replace(CHANGED, caller=who, pattern=path, path=path)
    return files | {
        "policy/team-000.yaml": files["policy/team-000.yaml"] + _joined(_rules([one_more], caller(0), "flip"))
    }


def one_file(files: Files) -> Files:
    """The same policy with all its rules in one file."""
    names = sorted(name for name in files if name != "septum.yaml")
    rules = b"".join(files[name].removeprefix(b"allow:\n") for name in names)
    return {"septum.yaml": files["septum.yaml"], "policy/all.yaml": b"allow:\n" + rules}


def _rules(allowed: Iterable[Allowed], target: str, prefix: str) -> list[str]:
    return [
        f"  - {{name: {prefix}-{number:05}, from: {rule.caller}, to: {target}, http: '{rule.method} {rule.pattern}'}}"
        for number, rule in enumerate(allowed)
    ]


def _allow(rules: Sequence[str]) -> bytes:
    return _joined(["allow:" if rules else "allow: []", *rules])


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _workload(name: str, segment: str, at: str, protocol: str = "http", **more: str) -> str:
    own = "".join(f", {key}: '{value}'" for key, value in more.items())
    return f"  {name}: {{segment: {segment}, protocol: {protocol}, at: '{at}'{own}}}"


def _mesh(
    workloads: Iterable[str], segments: Sequence[str], enforced: Sequence[str], nodes: Mapping[str, str] | None = None
) -> bytes:
    named = [f"  {name}: of the benchmark" for name in segments]
    head = ["mesh: bench", "trust_domain: bench.test", "segments:", *named, f"enforce: [{', '.join(enforced)}]"]
    listed = ["nodes:", *(f"  {name}: {{inbound: '{at}'}}" for name, at in nodes.items())] if nodes else []
    return _joined([*head, *listed, "workloads:", *workloads])
