"""The names by which resources, metadata and internal actions are known, in one place.

Everything that a rule cannot be called starts with `septum.` (the policy refuses such names).
"""

from __future__ import annotations

RBAC_FILTER = "envoy.filters.http.rbac"
ROUTER_FILTER = "envoy.filters.http.router"
# Puts the ID of a certificate where a listener puts that of the caller it stands for.
CALLER_FILTER = "envoy.filters.http.set_filter_state"

# Filter state under which a listener puts the SPIFFE ID of the caller it stands for.
CALLER = "septum.caller"
# And the cluster that leads to the inside of its tunnels.
INSIDE = "septum.inside"
# Route metadata namespace: target, mode, rules digest and candidate, read by the access log.
METADATA = "septum"
# The version of the candidate that is asked on the route, if one is.
CANDIDATE = "candidate"

# Septum's own actions. OBSERVE, TUNNEL, FORWARD and MISDIRECTED (to an answer of 421) allow, all others deny.
INTERNAL = "septum."
DENY = "septum.deny"
HEALTH = "septum.health"
OBSERVE = "septum.observe"
UPGRADE = "septum.upgrade"
QUARANTINE = "septum.quarantine"
TUNNEL = "septum.tunnel"
# The way to the target's node, where the call is decided.
FORWARD = "septum.forward"
# The answer to a request for somebody else than the server name of its connection says.
MISDIRECTED = "septum.misdirected"

# Set by each listener over whatever a client sends, and never forwarded: the cluster that leads back inside.
INSIDE_HEADER = "x-septum-inside"
# Set by routes that lead to where a call is decided, and taken from clients: what carries it is not logged, unless it
# fails on the way. `1` marks a tunnel into the inside, FORWARDED the way to another node.
TUNNEL_HEADER = "x-septum-tunnel"
FORWARDED = "forward"

CONTROL_CLUSTER = "septum.control"

# The one listener on which a node takes calls from other nodes and from clients with certificates of their own.
INBOUND = "inbound"


def outbound(workload: str) -> str:
    """The listener on which a workload is known as the caller."""
    return f"outbound/{workload}"


def inside(workload: str) -> str:
    """The internal listener (and the cluster to it) for what a caller's tunnels carry."""
    return f"inside/{workload}"


def dial(workload: str, target: str) -> str:
    """The raw TCP listener at which a workload finds a TCP target."""
    return f"dial/{workload}/{target}"


def forward(caller: str, target: str) -> str:
    """The cluster by which a caller's calls go to a target on another node."""
    return f"forward/{caller}/{target}"


def to_another_node(cluster: str) -> bool:
    """Whether a cluster leads to another node."""
    return cluster.startswith("forward/")


def outside(place: str) -> str:
    """The cluster to a place outside, for what a route lets through."""
    return f"outside/{place}"


def gated(place: str) -> str:
    """The cluster to a place outside that has gates, for what a gate lets through."""
    return f"gated/{place}"


def gate(caller: str, place: str) -> str:
    """The internal listener (and the cluster to it) that looks into a caller's sessions to a place outside."""
    return f"gate/{caller}/{place}"


def is_gate(name: str) -> bool:
    """Whether a listener, or what a cluster leads to, is a gate."""
    return name.startswith("gate/")


def behind_a_gate(cluster: str) -> bool:
    """Whether a cluster leads to where only a gate may let anybody."""
    return cluster.startswith("gated/")


def leads_outside(cluster: str) -> bool:
    """Whether a cluster leads to a place outside, with a gate before it or none."""
    return cluster.startswith(("outside/", "gated/"))


def of_one_caller(cluster: str) -> bool:
    """Whether a cluster is for one caller's calls alone, and so has to be chosen by the caller."""
    return to_another_node(cluster) or is_gate(cluster)
