"""Which metrics the control plane and the agents have: every state has its value, and what is not known has none."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from septum.telemetry.agent import AgentView, agent_metrics, agent_unready
from septum.telemetry.control import (
    ControlView,
    NodeState,
    NodeView,
    apply_histogram,
    control_metrics,
    control_unready,
)
from septum.telemetry.exposition import Exposition

NODES = (
    NodeView("alpha", True, NodeState.HELD, 1000.0, 2000.0),
    NodeView("beta", True, NodeState.REFUSED, 1000.0, 2000.0),
    NodeView("gamma", False, NodeState.MISSING),
)
CONTROL = ControlView(
    septum="1.2.3",
    mesh="shop",
    version="v7",
    nodes=NODES,
    applies={"held": 4, "refused": 1},
    apply_seconds=apply_histogram().distribution(),
    applied=900.0,
    quarantined=2,
    issued={"workload": 8, "node": 3},
    certificates={"root": 9000.0, "intermediate": 5000.0},
    records_stored=70,
    records_lost=1,
    records_unreadable=2,
)
AGENT = AgentView(
    septum="1.2.3",
    node="alpha",
    connected=True,
    version="v7",
    source="control",
    envoy_up=True,
    envoy_starts=2,
    certificates={"orders": 1500.0, "ledger": 1600.0},
    own_ends=1800.0,
    refused=1,
    reconnects=3,
    records_shipped=60,
    records_behind_bytes=512,
    troubles=("the disk is full",),
)


def values(metrics) -> dict[str, float]:
    text, _ = Exposition().write(metrics)
    samples = [s for family in text_string_to_metric_families(text.decode()) for s in family.samples]
    shown = {}
    for sample in samples:
        labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
        shown[f"{sample.name.removeprefix('septum_')}{{{labels}}}" if labels else sample.name[7:]] = sample.value
    return shown


def subset(expected: dict[str, float], of: dict[str, float]) -> dict[str, float | None]:
    return {name: of.get(name) for name in expected}


def test_a_control_plane():
    expected = {
        "build_info{version=1.2.3}": 1,
        "policy_info{mesh=shop,version=v7}": 1,
        "policy_applied_timestamp_seconds": 900,
        "nodes{state=held}": 1,
        "nodes{state=refused}": 1,
        "nodes{state=missing}": 1,
        "node_connected{node=alpha}": 1,
        "node_connected{node=gamma}": 0,
        "node_last_seen_timestamp_seconds{node=alpha}": 1000,
        "node_certificate_expiry_timestamp_seconds{node=beta}": 2000,
        "applies_total{outcome=held}": 4,
        "apply_duration_seconds_count": 0,
        "quarantined_workloads": 2,
        "certificates_issued_total{kind=workload}": 8,
        "control_certificate_expiry_timestamp_seconds{certificate=root}": 9000,
        "records_stored_total": 70,
        "records_lost_total": 1,
        "records_unreadable_total": 2,
    }
    seen = values(control_metrics(CONTROL))
    assert subset(expected, seen) == expected
    assert not any("node=gamma" in name and "timestamp" in name for name in seen)


def test_a_control_plane_without_nodes_and_policy_says_so():
    bare = ControlView("1.2.3", "", "", (), {}, apply_histogram().distribution())
    seen = values(control_metrics(bare))
    assert seen["nodes{state=held}"] == 0
    assert "policy_applied_timestamp_seconds" not in seen
    assert "septum apply" in control_unready(bare)[0]
    assert control_unready(CONTROL) == []


def test_an_agent():
    expected = {
        "build_info{version=1.2.3}": 1,
        "agent_connected": 1,
        "agent_reconnects_total": 3,
        "agent_snapshot_info{node=alpha,source=control,version=v7}": 1,
        "agent_refused_resources": 1,
        "agent_envoy_up": 1,
        "agent_envoy_starts_total": 2,
        "agent_certificate_expiry_timestamp_seconds{workload=orders}": 1500,
        "agent_node_certificate_expiry_timestamp_seconds": 1800,
        "agent_records_shipped_total": 60,
        "agent_records_behind_bytes": 512,
        "agent_troubles": 1,
    }
    assert subset(expected, values(agent_metrics(AGENT))) == expected


def test_a_node_is_ready_without_its_control_plane_and_not_without_its_envoy():
    assert agent_unready(replace(AGENT, connected=False), 1000.0) == []
    assert agent_unready(replace(AGENT, envoy_up=False, version=""), 1000.0) == [
        "Envoy does not answer",
        "Envoy holds no whole snapshot yet",
    ]
    assert agent_unready(AGENT, 1500.0) == ["the certificate of `orders` has ended"]
