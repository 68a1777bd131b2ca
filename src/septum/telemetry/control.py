"""What the control plane tells of itself, as metrics, and when it is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from septum.telemetry.metric import Distribution, Histogram, Kind, Metric, Sample, by, counter, gauge, info

# Seconds: the goals are 0.02 for one node and 0.5 for a thousand.
APPLY_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class NodeState(StrEnum):
    """How a node stands to the version that is desired; each node is in exactly one."""

    HELD = "held"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node. Times are seconds since 1970, None while nothing is known."""

    name: str
    connected: bool
    state: NodeState
    last_seen: float | None = None
    certificate_ends: float | None = None


@dataclass(frozen=True, slots=True)
class ControlView:
    """A control plane at one moment. Times are seconds since 1970; counts are since this process started.

    `applies` is by outcome, `apply_seconds` how long those took that changed something. `issued` is by the kind of
    identity (workload, node). `certificates`: when each of its own ends, by what it is (root, intermediate, control).
    """

    septum: str
    mesh: str
    version: str
    nodes: Sequence[NodeView]
    applies: Mapping[str, int]
    apply_seconds: Distribution
    applied: float | None = None
    quarantined: int = 0
    issued: Mapping[str, int] = field(default_factory=dict)
    certificates: Mapping[str, float] = field(default_factory=dict)
    records_stored: int = 0
    records_lost: int = 0
    records_unreadable: int = 0


def apply_histogram() -> Histogram:
    """What counts the durations of applies, in seconds."""
    return Histogram(APPLY_BOUNDS)


def control_metrics(view: ControlView) -> list[Metric]:
    """The metrics of a control plane."""
    return [
        info("septum_build_info", "The version of Septum that runs.", version=view.septum),
        info("septum_policy_info", "The version that is desired on every node.", mesh=view.mesh, version=view.version),
        gauge("septum_policy_applied_timestamp_seconds", "When that version was applied.", *_known(view.applied)),
        *_nodes(view.nodes),
        counter("septum_applies_total", "Applies, by their outcome.", *by("outcome", view.applies)),
        Metric(
            "septum_apply_duration_seconds",
            "How long applies took, from the files to the answers of all nodes.",
            Kind.HISTOGRAM,
            (Sample(view.apply_seconds),),
        ),
        gauge("septum_quarantined_workloads", "Workloads whose allows are taken away for now.", view.quarantined),
        counter("septum_certificates_issued_total", "Certificates issued, by kind.", *by("kind", view.issued)),
        gauge(
            "septum_control_certificate_expiry_timestamp_seconds",
            "When a certificate of the control plane ends.",
            *by("certificate", view.certificates),
        ),
        counter("septum_records_stored_total", "Records of decisions that were stored.", view.records_stored),
        counter("septum_records_lost_total", "Records that nodes wrote and that never arrived.", view.records_lost),
        counter("septum_records_unreadable_total", "Records that could not be read.", view.records_unreadable),
    ]


def control_unready(view: ControlView) -> list[str]:
    """Why the control plane cannot do its work. Nodes that are away are no reason: others are served."""
    return [] if view.version else ["no policy is applied: `septum apply` makes the files of the mesh what is enforced"]


def _nodes(nodes: Sequence[NodeView]) -> list[Metric]:
    states = {str(state): sum(node.state is state for node in nodes) for state in NodeState}
    seen = {node.name: node.last_seen for node in nodes if node.last_seen is not None}
    ends = {node.name: node.certificate_ends for node in nodes if node.certificate_ends is not None}
    connected = {node.name: float(node.connected) for node in nodes}
    return [
        gauge("septum_nodes", "Nodes, by how they stand to the version that is desired.", *by("state", states)),
        gauge("septum_node_connected", "Whether a node's agent is connected.", *by("node", connected)),
        gauge("septum_node_last_seen_timestamp_seconds", "When a node was last heard of.", *by("node", seen)),
        gauge(
            "septum_node_certificate_expiry_timestamp_seconds",
            "When the certificate ends with which a node's agent connects.",
            *by("node", ends),
        ),
    ]


def _known(moment: float | None) -> tuple[float, ...]:
    return () if moment is None else (moment,)
