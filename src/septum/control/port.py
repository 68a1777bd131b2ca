"""The certificate of the control plane's own port, renewed by the authority that it holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import ControlId
from septum.identity.renewal import renew_at
from septum.rpc.client import control_name

_LIFETIME, _LOOK = 24 * 3600.0, 1.0  # seconds


class Port:
    """What the port proves and trusts now. `names` are host names and addresses at which agents find it."""

    def __init__(self, authority: Authority, names: Sequence[str], clock: Callable[[], float]) -> None:
        self._authority, self._clock = authority, clock
        self._names = (control_name(authority.trust_domain), *names)
        self._key = new_key()
        self._chain, self._roots, self._issuer = b"", b"", ""
        self._due = self._end = 0.0
        self.refresh()

    def credentials(self) -> tuple[bytes, bytes, bytes]:
        """Key, chain and roots (PEM); called by gRPC from a thread of its own at each handshake."""
        return self._key, self._chain, self._roots

    def refresh(self) -> None:
        """Renew the certificate when it is due or another key signs now, and trust what is trusted now."""
        now = self._clock()
        self._roots = self._authority.bundle(now).roots_pem
        if now < self._due and self._issuer == self._authority.issuer:
            return
        issued = self._authority.issue(
            csr(self._key), ControlId(self._authority.trust_domain), _LIFETIME, now, self._names
        )
        self._chain, self._issuer = issued.chain_pem, self._authority.issuer
        self._end = issued.not_after
        self._due = renew_at(issued.not_before, issued.not_after, random.random())  # noqa: S311 - jitter guards nothing

    def ends(self) -> float:
        """When the certificate ends (seconds since 1970)."""
        return self._end

    async def run(self) -> None:
        """Keep the certificate fresh until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            self.refresh()
