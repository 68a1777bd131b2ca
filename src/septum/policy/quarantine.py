"""Quarantine: a policy from which all allows of some workloads are taken away. It takes away, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from septum.model.policy import Policy
from septum.policy.digest import version_of


def quarantined(policy: Policy, names: Iterable[str]) -> Policy:
    """The policy in which exactly these are quarantined; those that the mesh does not have are left out.

    Without any, it is the policy as it is read from its files.
    """
    shut = frozenset(names) & policy.mesh.targets.keys()
    if shut == policy.quarantined:
        return policy
    return replace(policy, quarantined=shut, version=version_of(policy.mesh, policy.rules, shut, policy.guarantees))
