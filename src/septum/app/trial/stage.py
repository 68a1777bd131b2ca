"""A policy on loopback: the rules as they are, and around them only addresses that answer. Pure.

What decides stays: names, protocols, modes, health paths, and what workloads declare of paths and WebSockets. Other
things are put in the place of what a trial has not: one node fronts everything, the places outside are on loopback and
speak plain text, and one key signs the tokens of all issuers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from septum.model.mesh import Address, External, Mesh, Protocol, Workload
from septum.model.policy import Policy, Rule

# Seconds: a window that opens or ends so soon may do it between two answers.
_SOON = 60


def staged(policy: Policy, backends: Mapping[Protocol, Address], outbound: Mapping[str, Address], jwks: str) -> Policy:
    """The policy with every target answered by the backend of its protocol.

    `outbound` has the addresses of those workloads that may call; `jwks` are the public keys of all issuers.
    """
    mesh = policy.mesh
    workloads = {name: _workload(one, backends, outbound.get(name)) for name, one in mesh.workloads.items()}
    external = mesh.external and {name: _place(place, backends) for name, place in mesh.external.items()}
    issuers = {name: replace(issuer, jwks=jwks, jwks_url="") for name, issuer in mesh.issuers.items()}
    around: Mesh = replace(mesh, nodes={}, workloads=workloads, external=external, issuers=issuers)
    return replace(policy, mesh=around)


def _workload(one: Workload, backends: Mapping[Protocol, Address], outbound: Address | None) -> Workload:
    return replace(one, at=backends[one.protocol], outbound=outbound, dials={}, node="")


def _place(place: External, backends: Mapping[Protocol, Address]) -> External:
    at = backends[place.protocol]
    return replace(place, host=at.host, port=at.port, sni=False, originate_tls=False, ca="")


def windows_at(policy: Policy, moment: float, clock: float) -> frozenset[str] | None:
    """The rules with a window that hold at a moment; None when a proxy can tell by its own clock, which says `clock`.

    It can when the moment is now, unless a window is just about to open or end.
    """
    windowed = [rule for rule in policy.rules if rule.window is not None]
    is_now = abs(moment - clock) < _SOON
    if not windowed or (is_now and not any(_turns(rule, clock) for rule in windowed)):
        return None
    return frozenset(rule.id for rule in windowed if rule.window is not None and rule.window.holds(moment))


def _turns(rule: Rule, now: float) -> bool:
    edges = (rule.window.from_time, rule.window.until) if rule.window is not None else ()
    return any(edge is not None and now - _SOON < edge < now + _SOON for edge in edges)


def without_windows(policy: Policy, holding: Collection[str]) -> Policy:
    """The policy of one moment: the rules with a window that are `holding` then as if they had none, no others."""
    rules = (
        replace(rule, window=None) if rule.id in holding else rule
        for rule in policy.rules
        if rule.window is None or rule.id in holding
    )
    return replace(policy, rules=tuple(rules))
