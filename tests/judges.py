"""Three judges of a request: `decide`, the set algebra, z3. Where they differ, a case to paste into tests/policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from oracle import Meaning, naming
from render import mesh_value, named_files, rule_value, text
from septum.model.decision import Decision, Request
from septum.model.mesh import Address, Mesh, Protocol, Workload
from septum.model.policy import Policy
from septum.model.window import time_text
from septum.policy.decide import decide
from septum.verify import region
from septum.verify.region import NOTHING, Region


class Difference(AssertionError):
    """Somebody says other than the others. As text it is a literate case; `again`, if there is one, sends it again."""

    def __init__(self, policy: Policy, request: Request, said: Mapping[str, bool], more: str = "") -> None:
        super().__init__(literate(policy, request, said, more))
        self.policy, self.request, self.said = policy, request, said
        self.again: Callable[[str], Any] | None = None


class Judges:
    """What each says of requests under one policy."""

    def __init__(self, policy: Policy, requests: Iterable[Request]) -> None:
        self._policy = policy
        self._meaning = Meaning(policy, requests)
        self._region = cache(self._region_of)

    def agreed(self, request: Request) -> Decision:
        """What all of them say of one of the requests. Raises Difference where they do not agree."""
        decision, said = decide(self._policy, request), self.say(request)
        if len(set(said.values())) > 1:
            raise Difference(self._policy, request, said)
        return decision

    def say(self, request: Request) -> dict[str, bool]:
        """Who allows it."""
        return {
            "decide": decide(self._policy, request).allowed,
            "region": self._contained(request),
            "z3": self._meaning.allows(request),
        }

    def _contained(self, request: Request) -> bool:
        found = self._region(request.caller, request.target, request.time is not None)
        return found.contains(request.operation, request.claims, request.time or 0.0)

    def _region_of(self, caller: str, target: str, known: bool) -> Region:
        """What is open to a caller on a target; where no time is known, by the rules that hold at any."""
        mesh, rules = self._policy.mesh, naming(self._policy, caller, target)
        strange = caller not in mesh.workloads or target not in mesh.targets
        if strange or not self._policy.quarantined.isdisjoint((caller, target)):
            return NOTHING
        return region.of_rules([rule for rule in rules if known or rule.window is None], mesh.targets[target])


def literate(policy: Policy, request: Request, said: Mapping[str, bool], more: str = "") -> str:
    """The case, as the pages of tests/policy have it, with what `decide` says; who says what stands above."""
    policy = replace(policy, mesh=_readable(policy, request))
    rules = [rule_value(policy.mesh, rule) for rule in policy.rules]
    files = {"septum.yaml": text(_mesh(policy.mesh), None), "policy/rules.yaml": text({"allow": rules}, None)}
    blocks = [_block("yaml", name, content) for name, content in files.items()]
    blocks += [_block(name.rpartition(".")[2], name, content) for name, content in named_files(policy.mesh).items()]
    if policy.quarantined:
        blocks.append("```text quarantined\n" + "\n".join(sorted(policy.quarantined)) + "\n```")
    verdicts = ", ".join(f"{who}: {'allow' if allows else 'deny'}" for who, allows in said.items())
    title = f"## {request.operation} ({verdicts})"
    return "\n\n".join(["", title, *filter(None, [more]), *blocks, _table(policy, request)])


def _readable(policy: Policy, request: Request) -> Mesh:
    """The mesh with those whom the rules or the request name, at addresses that a mesh of its own could have."""
    mesh = policy.mesh
    names = {request.caller, request.target, *(n for rule in policy.rules for n in (*rule.callers, *rule.targets))}
    named = [workload for name, workload in mesh.workloads.items() if name in names]
    workloads = {one.name: replace(one, at=Address("127.0.0.1", 9101 + at), dials={}) for at, one in enumerate(named)}
    places = [place for name, place in (mesh.external or {}).items() if name in names]
    external = {place.name: replace(place, host=f"{place.name}.test") for place in places}
    return replace(mesh, workloads=workloads, external=None if mesh.external is None else external)


def _mesh(mesh: Mesh) -> dict[str, Any]:
    """What `septum.yaml` says, without what need not be said."""
    value = mesh_value(mesh)
    for workload in value["workloads"].values():
        for key, silent in (*_SILENT.items(), ("outbound", workload.get("outbound"))):
            if workload.get(key, silent) == silent:
                workload.pop(key, None)
    return value


# Of a workload, what is so without being written.
_PLAIN = Workload("plain", "all", Address("127.0.0.1", 1), Protocol.HTTP)
_SILENT = {
    key: value
    for key, value in mesh_value(Mesh("m", "m.test", {}, {"plain": _PLAIN}, frozenset()))["workloads"]["plain"].items()
    if key not in ("segment", "at", "protocol")
}


def _block(kind: str, name: str, content: bytes) -> str:
    return f"```{kind} {name}\n{content.decode()}```"


def _table(policy: Policy, request: Request) -> str:
    decision = decide(policy, request)
    named = decision.rule or (decision.nearest.rule if decision.nearest else None)
    asked = {"from": request.caller, "to": request.target, "operation": f"`{request.operation}`"}
    asked |= {"claims": f"`{json.dumps(request.claims)}`"} if request.claims else {}
    if request.time is not None and any(rule.window for rule in policy.rules):
        asked["time"] = time_text(request.time)
    asked |= {"decision": str(decision.effect), "rule": named.id if named else ""}
    return "\n".join(_row(cells) for cells in (asked, ["---"] * len(asked), asked.values()))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
