"""What the control plane shows of itself: its state as telemetry takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from septum import __version__
from septum.control.applied import Applied, Outcome
from septum.control.certificates import Certificates
from septum.control.membership import Membership
from septum.control.nodes import Nodes
from septum.control.plane import Plane
from septum.control.state import State, StateError
from septum.telemetry.control import ControlView, NodeState, NodeView, apply_histogram


class Watched:
    """Counts what happens, and looks at the rest when it is asked."""

    def __init__(
        self, plane: Plane, state: State, nodes: Nodes, membership: Membership, certificates: Certificates
    ) -> None:
        self._plane, self._state, self._nodes = plane, state, nodes
        self._membership, self._certificates = membership, certificates
        self._applies: dict[str, int] = {}
        self._seconds = apply_histogram()
        # When the port's own certificate ends; set where there is a port.
        self.port_ends: Callable[[], float] | None = None

    def applied(self, applied: Applied) -> None:
        """Count an apply."""
        outcome = str(applied.outcome)
        self._applies[outcome] = self._applies.get(outcome, 0) + 1
        if applied.outcome in (Outcome.HELD, Outcome.SENT):
            self._seconds.observe(sum(applied.milliseconds.values()) / 1e3)

    def view(self) -> ControlView:
        """How things are now."""
        policy, records = self._plane.policy, self._nodes.records()
        return ControlView(
            septum=__version__,
            mesh=policy.mesh.name if policy else "",
            version=policy.version if policy else "",
            nodes=[_node(node) for node in self._nodes.status() if node["standing"] != "removed"],
            applies=dict(self._applies),
            apply_seconds=self._seconds.distribution(),
            applied=self._when(),
            quarantined=len(policy.quarantined) if policy else 0,
            issued=dict(self._membership.issued),
            certificates=self._ends(),
            records_stored=records.get("ingested", 0),
            records_lost=records.get("lost", 0),
            records_unreadable=records.get("unreadable", 0),
        )

    def _when(self) -> float | None:
        try:
            version = self._state.enforced()
        except StateError:
            return None
        return version.applied if version else None

    def _ends(self) -> dict[str, float]:
        ends = self._certificates.ends()
        return ends | {"control": self.port_ends()} if self.port_ends else ends


def _node(node: dict[str, Any]) -> NodeView:
    state = NodeState.REFUSED if node["rejected"] else NodeState.HELD if node["held"] else NodeState.MISSING
    return NodeView(node["node"], node["connected"], state, node["last_seen"], node["certificate_end"])
