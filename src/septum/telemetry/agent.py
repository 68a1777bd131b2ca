"""What a node's agent tells of itself, as metrics, and when its node is ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from septum.telemetry.metric import Metric, by, counter, gauge, info


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent and its Envoy at one moment. Times are seconds since 1970; counts are since this process started.

    `version` is the last snapshot of which Envoy holds everything, empty while there was none; `source` says where it
    came from (control, disk). `certificates`: when each SVID of the node ends, by workload; `own_ends`: the node's own.
    """

    septum: str
    node: str
    connected: bool
    version: str
    source: str
    envoy_up: bool
    envoy_starts: int
    certificates: Mapping[str, float] = field(default_factory=dict)
    own_ends: float | None = None
    refused: int = 0
    reconnects: int = 0
    records_shipped: int = 0
    records_behind_bytes: int = 0
    troubles: tuple[str, ...] = ()


def agent_metrics(view: AgentView) -> list[Metric]:
    """The metrics of an agent."""
    return [
        info("septum_build_info", "The version of Septum that runs.", version=view.septum),
        gauge("septum_agent_connected", "Whether the agent is connected to the control plane.", view.connected),
        counter(
            "septum_agent_reconnects_total", "Times the agent lost the control plane and found it.", view.reconnects
        ),
        info(
            "septum_agent_snapshot_info",
            "The last snapshot of which Envoy holds everything, and where it came from.",
            node=view.node,
            version=view.version,
            source=view.source,
        ),
        gauge("septum_agent_refused_resources", "Resources that Envoy refuses now.", view.refused),
        gauge("septum_agent_envoy_up", "Whether Envoy answers.", view.envoy_up),
        counter("septum_agent_envoy_starts_total", "Times that Envoy was started.", view.envoy_starts),
        gauge(
            "septum_agent_certificate_expiry_timestamp_seconds",
            "When the certificate of a workload of this node ends.",
            *by("workload", view.certificates),
        ),
        gauge(
            "septum_agent_node_certificate_expiry_timestamp_seconds",
            "When the certificate ends with which the agent connects.",
            *(() if view.own_ends is None else (view.own_ends,)),
        ),
        counter(
            "septum_agent_records_shipped_total",
            "Records that the control plane has acknowledged.",
            view.records_shipped,
        ),
        gauge(
            "septum_agent_records_behind_bytes",
            "What Envoy has written and the control plane has not acknowledged.",
            view.records_behind_bytes,
        ),
        gauge("septum_agent_troubles", "Troubles that `septum status` shows for this node.", len(view.troubles)),
    ]


def agent_unready(view: AgentView, now: float) -> list[str]:
    """Why the node cannot do its work. A control plane that is away is no reason: the node enforces what it has."""
    ended = sorted(name for name, ends in view.certificates.items() if ends <= now)
    return [
        *([] if view.envoy_up else ["Envoy does not answer"]),
        *([] if view.version else ["Envoy holds no whole snapshot yet"]),
        *(f"the certificate of `{name}` has ended" for name in ended),
    ]
