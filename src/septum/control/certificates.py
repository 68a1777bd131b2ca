"""The authority as the control plane uses it: there when the mesh needs one, and what proxies trust as a resource."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from septum.control.state import StateError
from septum.envoy.secret import Trusted
from septum.identity.authority import Authority, AuthorityError, NoAuthorityError
from septum.model.mesh import Mesh

_log = structlog.get_logger("septum.certificates")


class Certificates:
    """Owns the authority in `directory`: made when a mesh first has nodes, and opened for its trust domain."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory, self._clock = directory, clock
        self._authority: Authority | None = None

    def trusted_in(self, mesh: Mesh) -> Trusted | None:
        """What the proxies of a mesh trust; None where it lists no nodes, and so needs no certificates.

        Raises StateError when the authority cannot be made or used, or is that of another trust domain.
        """
        if not mesh.nodes:
            return None
        if self._authority is None or self._authority.trust_domain != mesh.trust_domain:
            self._authority = self._opened(mesh.trust_domain)
        return self.trusted()

    def _opened(self, trust_domain: str) -> Authority:
        try:
            return Authority.open(self._directory, trust_domain)
        except NoAuthorityError:
            pass
        except AuthorityError as error:
            raise StateError(str(error)) from error
        try:
            made = Authority.create(self._directory, trust_domain, self._clock())
        except AuthorityError as error:
            raise StateError(str(error)) from error
        _log.info("an authority was made", directory=str(self._directory), trust_domain=trust_domain)
        return made

    def authority(self) -> Authority | None:
        """The authority, or None where nothing needs one."""
        return self._authority

    def trusted(self) -> Trusted | None:
        """What proxies trust now."""
        if self._authority is None:
            return None
        bundle = self._authority.bundle(self._clock())
        return Trusted(self._authority.trust_domain, bundle.roots_pem, bundle.crl_pem)

    def ends(self) -> dict[str, float]:
        """When the authority's own certificates end: the first of each role to do so (seconds since 1970)."""
        found: dict[str, float] = {}
        for part in self._authority.standing().parts if self._authority else ():
            found[part.role] = min(part.not_after, found.get(part.role, part.not_after))
        return found
