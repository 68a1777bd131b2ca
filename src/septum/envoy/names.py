"""The names by which resources, metadata and internal actions are known, in one place.

Everything that a rule cannot be called starts with `septum.` (the policy refuses such names).
"""

from __future__ import annotations

RBAC_FILTER = "envoy.filters.http.rbac"
ROUTER_FILTER = "envoy.filters.http.router"

# Filter state under which a listener puts the SPIFFE ID of the caller it stands for.
CALLER = "septum.caller"
# And the cluster that leads to the inside of its tunnels.
INSIDE = "septum.inside"
# Route metadata namespace: target, mode and rules digest, read by the access log.
METADATA = "septum"

# Septum's own actions. OBSERVE and TUNNEL allow, all others deny.
INTERNAL = "septum."
DENY = "septum.deny"
HEALTH = "septum.health"
OBSERVE = "septum.observe"
UPGRADE = "septum.upgrade"
TUNNEL = "septum.tunnel"

# Set by each listener over whatever a client sends, and never forwarded: the cluster that leads back inside.
INSIDE_HEADER = "x-septum-inside"
# Set by the route of tunnels, and taken from clients: what carries it is not logged, unless it fails.
TUNNEL_HEADER = "x-septum-tunnel"

CONTROL_CLUSTER = "septum.control"


def outbound(workload: str) -> str:
    """The listener on which a workload is known as the caller."""
    return f"outbound/{workload}"


def inside(workload: str) -> str:
    """The internal listener (and the cluster to it) for what a caller's tunnels carry."""
    return f"inside/{workload}"


def dial(workload: str, target: str) -> str:
    """The raw TCP listener at which a workload finds a TCP target."""
    return f"dial/{workload}/{target}"
