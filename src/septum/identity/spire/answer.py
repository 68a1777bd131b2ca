"""An answer of the Workload API, read and checked: an Update, or the reason why it is none.

An answer is taken whole or not at all. What a peer would refuse, or would read in another way, is not handed to Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf.message import DecodeError

from septum.identity.leaf import find, uri_of
from septum.identity.pem import CertificateError, SigningKey, belongs, certificates_pem, key_pem
from septum.identity.spire.messages import X509SVIDResponse
from septum.model.spiffe import TRUST_DOMAIN

# SPIFFE-ID, sections 2.2 and 2.4: the path's characters and the longest ID.
_ID = re.compile(rf"spiffe://({TRUST_DOMAIN.pattern})((?:/[A-Za-z0-9._-]+)+)")
_LONGEST_ID = 2048
_LEAST_RSA_BITS = 2048


class AnswerError(Exception):
    """An answer that cannot be used; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Svid:
    """An identity to present: chain (leaf first) and key as PEM, and when it begins and ends (seconds since 1970)."""

    chain: bytes
    key: bytes = field(repr=False)
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Update:
    """All that the Workload API gives at one time. It takes the place of what it gave before.

    `svids` are by SPIFFE ID; of several with one ID it is the first. `roots` (PEM) are by trust domain: those of the
    SVIDs only. Bundles of other trust domains are not taken, and `federated` counts them. `crls` is PEM, or empty.
    """

    svids: Mapping[str, Svid]
    roots: Mapping[str, bytes]
    crls: bytes = b""
    federated: int = 0


def read(data: bytes) -> Update:
    """Read an X509SVIDResponse. Raises AnswerError."""
    try:
        response = X509SVIDResponse.FromString(data)
    except DecodeError as error:
        raise AnswerError(f"it is no X509SVIDResponse: {error}") from error
    if not response.svids:
        raise AnswerError("it holds no SVID")
    svids: dict[str, Svid] = {}
    roots: dict[str, dict[x509.Certificate, None]] = {}
    for given in response.svids:
        try:
            trust_domain, bundle, svid = _svid(given)
        except (CertificateError, ValueError, UnsupportedAlgorithm) as error:  # certificates are parsed lazily
            raise AnswerError(f"the SVID of {given.spiffe_id!r}: {error}") from error
        svids.setdefault(given.spiffe_id, svid)
        roots.setdefault(trust_domain, {}).update(dict.fromkeys(bundle))
    return Update(
        svids,
        {trust_domain: certificates_pem(bundle) for trust_domain, bundle in roots.items()},
        b"".join(_crl(crl) for crl in response.crl),
        len(response.federated_bundles),
    )


def _svid(given: Any) -> tuple[str, Sequence[x509.Certificate], Svid]:
    """Its trust domain, that domain's roots, and the SVID. Raises CertificateError."""
    trust_domain = _trust_domain(given.spiffe_id)
    chain = _certificates("its chain", given.x509_svid)
    bundle = _certificates("its bundle", given.bundle)
    leaf = chain[0]
    if uri_of(leaf) != given.spiffe_id:
        raise CertificateError(f"its certificate is that of {uri_of(leaf)!r}")
    _check_leaf(leaf)
    _check_path(chain, bundle)
    key = _key(given.x509_svid_key)
    if not belongs(key, leaf):
        raise CertificateError("its private key is not the one of its certificate")
    starts, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return trust_domain, bundle, Svid(certificates_pem(chain), key_pem(key), starts, ends)


def _trust_domain(spiffe_id: str) -> str:
    match = _ID.fullmatch(spiffe_id)
    if match is None or len(spiffe_id) > _LONGEST_ID or {".", ".."} & set(match[2].split("/")):
        raise CertificateError("this is not the SPIFFE ID of a workload")
    return match[1]


def _certificates(what: str, der: bytes) -> list[x509.Certificate]:
    try:
        certificates = [x509.load_der_x509_certificate(part) for part in _parts(der)]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{what} cannot be read: {error}") from error
    if not certificates:
        raise CertificateError(f"{what} is empty")
    return certificates


def _parts(der: bytes) -> Iterator[bytes]:
    """The values that follow each other in DER, each with its tag and length (X.690, sections 8.1.2 and 8.1.3)."""
    start = 0
    while start < len(der):
        header = der[start : start + 2]
        if len(header) < 2 or header[0] != 0x30:
            raise ValueError(f"there is no certificate at byte {start}")
        more = header[1] & 0x7F if header[1] & 0x80 else 0
        length = int.from_bytes(der[start + 2 : start + 2 + more], "big") if more else header[1]
        end = start + 2 + more + length
        if header[1] == 0x80 or end > len(der):
            raise ValueError(f"the certificate at byte {start} is cut off")
        yield der[start:end]
        start = end


def _check_leaf(leaf: x509.Certificate) -> None:
    """X.509-SVID, section 4: a leaf signs handshakes and nothing else. Envoy is a client and a server with it."""
    basic, usage, uses = find(leaf, x509.BasicConstraints), find(leaf, x509.KeyUsage), find(leaf, x509.ExtendedKeyUsage)
    if basic is not None and basic.ca:
        raise CertificateError("its certificate is an authority's")
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise CertificateError("its certificate is not one for signatures only (key usage)")
    if uses is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} <= set(uses):
        raise CertificateError("its certificate is not one for TLS clients and servers (extended key usage)")


def _check_path(chain: Sequence[x509.Certificate], bundle: Sequence[x509.Certificate]) -> None:
    """Each certificate was issued by the next one, the last one by a root; issuers and roots are authorities."""
    for authority in (*chain[1:], *bundle):
        basic = find(authority, x509.BasicConstraints)
        if basic is None or not basic.ca:
            raise CertificateError(f"`{authority.subject.rfc4514_string()}` in its chain or bundle is no authority")
    for certificate, issuer in pairwise(chain):
        if not _issued(certificate, issuer):
            raise CertificateError("its chain is not in order: a certificate was not issued by the one that follows")
    if chain[-1] not in bundle and not any(_issued(chain[-1], root) for root in bundle):
        raise CertificateError("its chain leads to no root in its bundle")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key(der: bytes) -> SigningKey:
    try:
        key = serialization.load_der_private_key(der, None)
    except TypeError as error:
        raise CertificateError("its private key is encrypted") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # Not the library's text: it is about a secret.
        raise CertificateError("its private key cannot be read") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
        return key
    raise CertificateError(f"its private key is not P-256, P-384 or RSA with at least {_LEAST_RSA_BITS} bits")


def _crl(der: bytes) -> bytes:
    try:
        return x509.load_der_x509_crl(der).public_bytes(serialization.Encoding.PEM)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AnswerError(f"a revocation list cannot be read: {error}") from error
