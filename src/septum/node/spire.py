"""Certificates of a node's workloads from SPIRE, by the Workload API, in place of our own authority's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from septum.envoy.secret import Trusted, svid, trust
from septum.envoy.wire import resource
from septum.identity.leaf import read_leaf
from septum.identity.spire.answer import Update
from septum.identity.spire.source import WorkloadApi
from septum.model.snapshot import Resource
from septum.rpc.messages import Certificate

_log = structlog.get_logger("septum.spire")


class Spire:
    """Follows the Workload API. `serve` is called with all secrets, by name, whenever they changed."""

    def __init__(self, address: str, serve: Callable[[Mapping[str, Resource]], None]) -> None:
        self._trust_domain, self._serve = "", serve
        self._workloads: tuple[str, ...] = ()
        self._update: Update | None = None
        self._trouble = ""
        self._api = WorkloadApi(address, self._told)

    async def run(self) -> None:
        """Follow until cancelled."""
        async for update in self._api.updates():
            self._update = update
            self._serve(self._secrets(update))

    def want(self, trust_domain: str, workloads: Iterable[str]) -> None:
        """The workloads that the node fronts, and their trust domain."""
        new = (trust_domain, tuple(sorted(workloads)))
        if new != (self._trust_domain, self._workloads):
            self._trust_domain, self._workloads = new
            if self._update:
                self._serve(self._secrets(self._update))

    def certificates(self) -> tuple[Certificate, ...]:
        """What SPIRE gave, and until when."""
        svids = self._update.svids if self._update else {}
        return tuple(
            Certificate(identity, given.not_after, read_leaf(given.chain).issuer) for identity, given in svids.items()
        )

    def troubles(self) -> tuple[str, ...]:
        """What is not as it should be, in words."""
        said = (self._trouble,) if self._trouble else ()
        given = self._update.svids if self._update else {}
        wanted = {f"spiffe://{self._trust_domain}/{name}": name for name in self._workloads}
        missing = (f"SPIRE gives no certificate for {name}" for id, name in wanted.items() if id not in given)
        return (*said, *missing)

    def _told(self, trouble: str) -> None:
        self._trouble = trouble
        if trouble:
            _log.error("no certificates from SPIRE", reason=trouble)

    def _secrets(self, update: Update) -> dict[str, Resource]:
        made = {id: svid(id, given.chain, given.key) for id, given in update.svids.items()}
        roots = update.roots.get(self._trust_domain, b"")
        if roots:
            trusted = trust(Trusted(self._trust_domain, roots, update.crls))
            made[trusted.name] = resource(trusted.name, trusted)
        return made
