"""An issuing certificate with its key and what is above it: it signs leaves and revocation lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from septum.identity import templates
from septum.identity.leaf import find, key_id
from septum.identity.names import Identity
from septum.identity.pem import (
    UNREADABLE,
    CertificateError,
    SigningKey,
    belongs,
    certificates_pem,
    read_certificates,
    read_key,
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was issued: the chain (PEM, leaf first, without the root), and the leaf's serial and time."""

    chain_pem: bytes
    serial: int
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another PKI's authority: its certificate with all above it up to the root (PEM), and its key."""

    chain_pem: bytes
    key_pem: bytes
    passphrase: bytes | None = None


@dataclass(frozen=True)
class Issuer:
    """`certificates` is the issuing one, then those above it, with the root or roots."""

    certificates: tuple[x509.Certificate, ...]
    key: SigningKey

    @property
    def certificate(self) -> x509.Certificate:
        """The issuing certificate."""
        return self.certificates[0]

    @cached_property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """What has to be trusted for it."""
        return tuple(certificate for certificate in self.certificates if is_root(certificate))

    @property
    def signer(self) -> x509.Certificate:
        """Who signed the issuing certificate."""
        return self.certificates[1]

    @cached_property
    def key_id(self) -> str:
        """The id (hex) by which leaves name their issuer."""
        return key_id(self.certificate)

    @cached_property
    def pem(self) -> bytes:
        """All of the certificates."""
        return certificates_pem(self.certificates)

    @cached_property
    def end(self) -> float:
        """When nothing that it issued is valid any more, in seconds since 1970."""
        return min(certificate.not_valid_after_utc.timestamp() for certificate in self.certificates)

    @cached_property
    def _above_leaf(self) -> bytes:
        return certificates_pem(certificate for certificate in self.certificates if not is_root(certificate))

    def issue(
        self, key: ec.EllipticCurvePublicKey, identity: Identity, hosts: Sequence[str], lifetime: float, now: float
    ) -> Issued:
        """Issue a leaf. It starts a little in the past, for clocks that are behind, and does not outlive its issuer.

        A leaf with a short life starts less early, so that half its life is still to come at half of it.
        """
        start = int(now - min(templates.LEAF_SKEW, lifetime / 10))
        end = int(min(now + lifetime, self.end))
        leaf = templates.leaf(key, identity, hosts, self.certificate, self.key, start, end)
        return Issued(certificates_pem([leaf]) + self._above_leaf, leaf.serial_number, float(start), float(end))

    def crl(self, revoked: Mapping[int, float], number: int) -> x509.CertificateRevocationList:
        """Its list of revoked certificates."""
        return templates.crl(self.certificate, self.key, revoked, number)


def is_root(certificate: x509.Certificate) -> bool:
    """Whether a certificate is signed with its own key; its name alone could be that of the root above it."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    """A short name for a certificate, for files and people."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


def below_upstream(upstream: Upstream, trust_domain: str, key: SigningKey, now: float) -> Issuer:
    """An issuer under another PKI: of our `key`, or the given certificate itself when nothing may be below it.

    Raises CertificateError. What the issuer issues has still to be verified: that tells whether its PKI permits it.
    """
    given, signer_key = read_certificates(upstream.chain_pem), read_key(upstream.key_pem, upstream.passphrase)
    if not belongs(signer_key, given[0]):
        raise CertificateError("the key is not that of the first certificate of the chain")
    if not any(map(is_root, given)):
        raise CertificateError("the chain has no root: give all certificates from the issuing one up to the root")
    basic = find(given[0], x509.BasicConstraints)
    if basic is not None and basic.path_length == 0:
        return Issuer(given, signer_key)
    own = templates.intermediate(key, trust_domain, given[0], signer_key, now)
    return Issuer((own, *given), key)
