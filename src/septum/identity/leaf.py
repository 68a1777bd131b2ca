"""What a certificate says: its one SPIFFE ID, its serial number, its time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509

from septum.identity.pem import UNREADABLE, CertificateError, read_certificates

E = TypeVar("E", bound=x509.ExtensionType)

# Printable ASCII without a space. A control character or a NUL would make two readers see two names.
_URI = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate of a workload or node. Times are seconds since 1970; `issuer` is the key id of its issuer (hex)."""

    uri: str
    serial: int
    not_before: float
    not_after: float
    issuer: str


def read_leaf(pem: bytes) -> Leaf:
    """Read the first certificate of a chain, without verifying it. Raises CertificateError."""
    certificate = read_certificates(pem)[0]
    return Leaf(
        uri_of(certificate),
        certificate.serial_number,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        issuer_key_id(certificate),
    )


def uri_of(certificate: x509.Certificate) -> str:
    """The certificate's URI SAN, of which there must be exactly one (X.509-SVID, 2). Raises CertificateError."""
    uris = [name.value for name in alternative_names(certificate) if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) != 1:
        raise CertificateError(f"a certificate has exactly one URI SAN, and this one has {len(uris)}")
    if not _URI.fullmatch(uris[0]):
        raise CertificateError(f"the URI SAN {uris[0]!r} holds what no URI may hold")
    return uris[0]


def alternative_names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    """Every SAN, of whatever kind. Raises CertificateError when they cannot be read."""
    names = find(certificate, x509.SubjectAlternativeName)
    return tuple(names) if names else ()


def find(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """The certificate's extension of this kind. Raises CertificateError when its extensions cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except UNREADABLE as error:
        raise CertificateError(f"the extensions of the certificate cannot be read: {error}") from error


def key_id(certificate: x509.Certificate) -> str:
    """The id of the certificate's own key (hex), as the certificates below it name it."""
    own = find(certificate, x509.SubjectKeyIdentifier)
    return (own or x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())).digest.hex()


def issuer_key_id(certificate: x509.Certificate) -> str:
    """The id of the issuer's key (hex), or nothing when the certificate does not say."""
    of_issuer = find(certificate, x509.AuthorityKeyIdentifier)
    return (of_issuer.key_identifier or b"").hex() if of_issuer else ""
