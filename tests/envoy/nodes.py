"""Several real Envoys as the nodes of one mesh, with certificates as their agents would give them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from certificates import Ca, Leaf, trust
from proxy import Proxy, free_port, wait_for

from septum.envoy.reach import Survey
from septum.envoy.shadow import Candidate
from septum.model.mesh import Address, Mesh, Node, Protocol, Segment, Workload
from septum.model.policy import Policy
from septum.model.snapshot import Resource

DOMAIN = "lab.test"
TRUST = f"spiffe://{DOMAIN}"
NO_CUTS: Mapping[tuple[str, str], str] = MappingProxyType({})


def spiffe(workload: str) -> str:
    return f"{TRUST}/{workload}"


class Nodes:
    """The nodes by name. `hold` makes all of them enforce a policy.

    `leaves` and `trusted` are what the agents give to their Envoys; a test that changes them holds a policy again.
    """

    def __init__(self, names: Sequence[str], directory: Path, drain: int) -> None:
        self.ca = Ca()
        self.trusted: tuple[Ca, ...] = (self.ca,)
        self.revoked = b""
        self.leaves: dict[str, Leaf] = {}
        self.inbound = {name: Node(name, Address("127.0.0.1", free_port())) for name in names}
        survey = Survey()
        self.proxies: dict[str, Proxy] = {}
        for name in names:
            (directory / name).mkdir()
            self.proxies[name] = Proxy(directory / name, name, self._secrets, survey, drain)

    def _secrets(self, mesh: Mesh, node: str) -> list[Resource]:
        return [self.svid(name).secret(spiffe(name)) for name in mesh.on(node)] + [
            trust(TRUST, *self.trusted, revoked=self.revoked)
        ]

    def svid(self, workload: str) -> Leaf:
        """The workload's certificate, made when it is asked for first."""
        if workload not in self.leaves:
            self.leaves[workload] = self.ca.issue(spiffe(workload), dns=[f"{workload}.{DOMAIN}"])
        return self.leaves[workload]

    def mesh(self, *workloads: Workload, enforced: Sequence[str] = ("core",)) -> Mesh:
        """A mesh of these workloads, each with its node, in the segments `core` and `edge`."""
        segments = {name: Segment(name) for name in ("core", "edge")}
        named = {workload.name: workload for workload in workloads}
        return Mesh("lab", DOMAIN, segments, named, frozenset(enforced), nodes=self.inbound)

    def hold(
        self, policy: Policy, cuts: Mapping[tuple[str, str], str] = NO_CUTS, candidate: Candidate | None = None
    ) -> None:
        waits = [proxy.publish(proxy.compiled(policy, cuts, candidate)) for proxy in self.proxies.values()]
        for held in waits:
            held()

    def records(self, request_id: str) -> dict[str, list[dict[str, Any]]]:
        """The records of a request by node, of those nodes that have any."""
        found = {}
        for name, proxy in self.proxies.items():
            proxy.take_records()
            if lines := [line for line in proxy.lines if line.get("id") == request_id]:
                found[name] = lines
        return found

    def one_record(self, request_id: str) -> tuple[str, dict[str, Any]]:
        """The node that has the one record of a request, and the record."""
        found = wait_for(lambda: self.records(request_id), f"a record of {request_id}")
        assert sum(map(len, found.values())) == 1, found
        ((node, (record,)),) = found.items()
        return node, record


def workload(name: str, node: str, at: Address, protocol: str = "http", segment: str = "core", **more: Any) -> Workload:
    """A workload with an outbound listener of its own."""
    outbound = Address("127.0.0.1", free_port())
    return Workload(name, segment, at, Protocol(protocol), outbound=outbound, node=node, **more)


def port(mesh: Mesh, caller: str) -> int:
    """Where a workload's calls enter."""
    outbound = mesh.workloads[caller].outbound
    assert outbound is not None
    return outbound.port


@contextmanager
def running_nodes(*names: str, drain: int = 1) -> Iterator[Nodes]:
    directory = Path(tempfile.mkdtemp(prefix="septum-"))
    try:
        with ExitStack() as stack:
            nodes = Nodes(names, directory, drain)
            for proxy in nodes.proxies.values():
                stack.enter_context(proxy.running())
            yield nodes
    finally:
        shutil.rmtree(directory)
