"""SPIFFE IDs: the names workloads prove (SPIFFE-ID specification, section 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# SPIFFE-ID 2.1: a trust domain is lower-case letters, digits, dots, dashes and underscores.
TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
# A workload's name is also a DNS label, since callers use it as a host name (RFC 1123, section 2.1).
WORKLOAD_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """`spiffe://<trust domain>/<workload>`: always valid once it exists. Raises ValueError otherwise."""

    trust_domain: str
    workload: str

    def __post_init__(self) -> None:
        if not TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise ValueError(f"not a SPIFFE trust domain: {self.trust_domain!r}")
        if not WORKLOAD_NAME.fullmatch(self.workload):
            raise ValueError(f"not a workload name: {self.workload!r}")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.workload}"
