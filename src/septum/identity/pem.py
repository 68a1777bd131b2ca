"""Certificates and keys as text, in and out: what cannot be read is one kind of error."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

# Keys of authorities that Envoy's TLS takes without being told to.
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# What `cryptography` raises for what is malformed, or of a kind that it does not know.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_LEAST_RSA_BITS = 2048


class CertificateError(Exception):
    """A certificate, a key or a request that cannot be accepted; the text says what is wrong with it."""


class WrongPassphraseError(CertificateError):
    """A key is encrypted, and the passphrase is missing or another one."""


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM text, in its order; at least one. Raises CertificateError."""
    try:
        read = tuple(x509.load_pem_x509_certificates(pem))
        for certificate in read:
            _parse(certificate)
    except UNREADABLE as error:
        raise CertificateError(f"no certificates in PEM: {error}") from error
    return read


def certificates_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """The certificates as PEM text."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def read_key(pem: bytes, passphrase: bytes | None = None) -> SigningKey:
    """A private key that can sign certificates. Raises CertificateError."""
    try:
        key = _load(pem, passphrase)
    except UNREADABLE as error:
        raise CertificateError(f"no private key in PEM: {error}") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
        return key
    raise CertificateError(f"an authority's key is P-256, P-384 or RSA with at least {_LEAST_RSA_BITS} bits")


def key_pem(key: SigningKey, passphrase: bytes | None = None) -> bytes:
    """A private key as PKCS#8, encrypted when there is a passphrase."""
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def is_encrypted(pem: bytes) -> bool:
    """Whether reading this key takes a passphrase."""
    try:
        _load(pem, None)
    except WrongPassphraseError:
        return True
    except UNREADABLE:
        return False
    return False


def belongs(key: SigningKey, certificate: x509.Certificate) -> bool:
    """Whether the certificate is of this key."""
    return key.public_key() == certificate.public_key()


def _parse(certificate: x509.Certificate) -> tuple[object, ...]:
    """Have the parts read that are read only when they are asked for, so that nobody trips over them later."""
    names = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    return (*names, certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.serial_number)


def _load(pem: bytes, passphrase: bytes | None) -> object:
    try:
        return serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:
        # A passphrase was given and not needed, or needed and not given.
        if passphrase is not None:
            return serialization.load_pem_private_key(pem, None)
        raise WrongPassphraseError("the key is encrypted, and no passphrase was given") from error
    except ValueError as error:
        if passphrase is not None and b"ENCRYPTED" in pem:
            raise WrongPassphraseError("the passphrase is not the one that this key was encrypted with") from error
        raise
