"""The keys and certificates of a node and of the workloads it fronts, as files of mode 0600. Keys are made here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from septum.identity.csr import csr, new_key
from septum.identity.leaf import Leaf, read_leaf
from septum.identity.pem import CertificateError, belongs, read_certificates, read_key
from septum.identity.token import Token

# The node's own credential, under the one name that no workload may have. The roots are no `.pem`, as all of those are.
NODE, _ROOTS = "septum", "roots.crt"
_KEY = b"-----BEGIN PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate chain and its key (PEM), and what the leaf says."""

    chain: bytes
    key: bytes
    leaf: Leaf

    @classmethod
    def of(cls, chain: bytes, key: bytes) -> Credential:
        """What belongs together. Raises CertificateError."""
        return cls(chain, key, read_leaf(chain))


@dataclass(frozen=True, slots=True)
class Member:
    """What a node keeps of having joined: its name, its mesh, where the control plane is, and the token's id."""

    node: str
    mesh: str
    trust_domain: str
    control: str
    token: str


class Credentials:
    """Owns the directory `<state>/identity`. A certificate and its key are one file, so that they always fit."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def member(self) -> Member | None:
        """Of which mesh the node is a member, or None. Raises OSError for a file that cannot be read."""
        kept = self._read("member.json")
        if kept is None:
            return None
        try:
            return Member(**json.loads(kept))
        except (ValueError, TypeError) as error:
            raise OSError(f"{self._directory / 'member.json'} is damaged: {error}") from error

    def join(self, member: Member, chain: bytes, key: bytes, roots: bytes) -> None:
        """Keep what came of joining. Who the node is comes last: without it, it joins again with the same key."""
        self.keep(NODE, Credential.of(chain, key))
        self.set_roots(roots)
        self._keep_member(member)
        (self._directory / "joining.key").unlink(missing_ok=True)

    def joined_with(self, token: Token) -> bool:
        """Whether the node is a member by this very token."""
        member = self.member()
        return member is not None and member.token == token.id

    def move(self, member: Member, control: str) -> Member:
        """Find the control plane elsewhere from now on."""
        moved = replace(member, control=control)
        if moved != member:
            self._keep_member(moved)
        return moved

    def joining_key(self) -> bytes:
        """The key to join with: the same one as long as no answer came, because a token is for one key."""
        key = self._read("joining.key")
        if key is None:
            key = new_key()
            self._write("joining.key", key)
        return key

    def roots(self) -> bytes:
        """The roots by which the control plane is known (PEM); empty before the node joined."""
        return self._read(_ROOTS) or b""

    def digest(self) -> str:
        """By which a node and the control plane tell whether they trust the same roots; empty without any."""
        roots = self.roots()
        return hashlib.sha256(roots).hexdigest()[:16] if roots else ""

    def set_roots(self, roots: bytes) -> None:
        """Trust these roots, and no others. None at all says nothing."""
        if roots and roots != self.roots():
            self._write(_ROOTS, roots)

    def of(self, name: str) -> Credential | None:
        """A credential by workload (or NODE), or None when there is none that can be used."""
        kept = self._read(f"{name}.pem")
        if kept is None or _KEY not in kept:
            return None
        chain, _, rest = kept.partition(_KEY)
        try:
            credential = Credential.of(chain, _KEY + rest)
            fits = belongs(read_key(credential.key), read_certificates(chain)[0])
        except CertificateError:
            return None
        return credential if fits else None

    def keep(self, name: str, credential: Credential) -> None:
        """Keep a credential for the next start. Raises OSError."""
        self._write(f"{name}.pem", credential.chain + credential.key)

    def forget_all_but(self, names: Iterable[str]) -> None:
        """Remove the keys of workloads that the node does not front any more."""
        kept = {f"{name}.pem" for name in (*names, NODE)}
        for path in self._directory.glob("*.pem"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _keep_member(self, member: Member) -> None:
        self._write("member.json", json.dumps(asdict(member), indent=2).encode() + b"\n")

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all, and readable by nobody else from its first byte."""
        fresh = self._directory / f".{name}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        fresh.replace(self._directory / name)


def request() -> tuple[bytes, bytes]:
    """A new key (PEM), and the request (DER) for its certificate."""
    key = new_key()
    return key, csr(key)
