"""What each node fronts, and the snapshot that follows for it from a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from septum.control.registry import Member, Pair, Standing
from septum.envoy.compile import Compiler, Front, Shelf
from septum.envoy.reach import Survey
from septum.envoy.secret import Trusted
from septum.envoy.shadow import Candidate
from septum.model.mesh import Address, Mesh
from septum.model.policy import Policy
from septum.model.snapshot import Snapshot

DECISIONS_FILE = "records/decisions.jsonl"

Members = Callable[[], Mapping[str, Member]]
# What the proxies of a mesh trust now; None while it needs no certificates.
Trust = Callable[[Mesh], Trusted | None]


class Fronts:
    """Compiles for every node of the mesh, keeping what did not change.

    `local` is the node of this machine, if there is one: it fronts whatever the mesh puts there. Another node fronts
    what the mesh puts there *and* its join token named.
    """

    def __init__(self, local: str, members: Members, trust: Trust) -> None:
        self._local, self._members, self._trust = local, members, trust
        self._survey, self._shelf = Survey(), Shelf()
        self._compilers: dict[str, Compiler] = {}

    def snapshots(
        self,
        policy: Policy,
        outbound: Mapping[str, Address],
        cuts: Mapping[Pair, str],
        candidate: Candidate | None = None,
    ) -> dict[str, Snapshot]:
        """Node → what it should hold. A removed node holds nothing more from here."""
        members, trust, by_workload = self._members(), self._trust(policy.mesh), _by_workload(cuts)
        made = {}
        for node in self.nodes(policy.mesh, members):
            fronted = self.fronted(policy.mesh, node, members)
            own = {pair: token for workload in fronted for pair, token in by_workload.get(workload, ())}
            front = Front(node, tuple(sorted(fronted)), outbound, DECISIONS_FILE, own, trust, candidate)
            made[node] = self._compiler(node).compile(policy, front)
        for node in self._compilers.keys() - made.keys():
            del self._compilers[node]
        return made

    def _compiler(self, node: str) -> Compiler:
        if node not in self._compilers:
            self._compilers[node] = Compiler(self._survey, self._shelf)
        return self._compilers[node]

    def nodes(self, mesh: Mesh, members: Mapping[str, Member]) -> list[str]:
        """The nodes that should hold something: those of the mesh that were not removed, or the one that there is."""
        if not mesh.nodes:
            return [self._local] if self._local else []
        gone = {name for name, member in members.items() if member.standing is Standing.REMOVED}
        return [name for name in mesh.nodes if name not in gone or name == self._local]

    def fronted(self, mesh: Mesh, node: str, members: Mapping[str, Member] | None = None) -> frozenset[str]:
        """The workloads that a node fronts."""
        members = self._members() if members is None else members
        placed = frozenset(mesh.workloads if not mesh.nodes else mesh.on(node))
        if node == self._local:
            return placed
        member = members.get(node)
        return placed & member.workloads if member else placed


def _by_workload(cuts: Mapping[Pair, str]) -> dict[str, list[tuple[Pair, str]]]:
    """Caller or target → what was cut of it: a node whose workloads are in none of it has nothing new to compile."""
    found: dict[str, list[tuple[Pair, str]]] = {}
    for pair, token in cuts.items():
        for workload in pair:
            found.setdefault(workload, []).append((pair, token))
    return found
