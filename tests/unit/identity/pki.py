"""Another PKI: certificates with whatever a test puts into them, also what our authority never issues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from septum.identity.pem import SigningKey, certificates_pem, key_pem

NOW = time.time()
DAY = 86_400.0
DOMAIN = "shop.test"
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


def usage(*of: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    return x509.KeyUsage(**{name: name in of for name in [*every.split(), "encipher_only", "decipher_only"]})


@dataclass(frozen=True)
class Held:
    """A certificate with its key, and the chain from it on, without the root."""

    certificate: x509.Certificate
    key: SigningKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def root(self) -> bool:
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        above = self.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        return above.key_identifier == own.digest

    @property
    def pem(self) -> bytes:
        return certificates_pem([self.certificate])

    @property
    def chain_pem(self) -> bytes:
        return certificates_pem([self.certificate, *self.above])

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def authority(
    signer: Held | None = None,
    *,
    name: str = "",
    path_length: int | None = None,
    constraints: x509.NameConstraints | None = None,
    key_usage: x509.KeyUsage | None = None,
    ca: bool = True,
    start: float = NOW - DAY,
    end: float = NOW + 300 * DAY,
    key: SigningKey | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Held:
    """A root, or an authority below one."""
    extensions = [
        (x509.BasicConstraints(ca, path_length if ca else None), True),
        (key_usage or usage("key_cert_sign", "crl_sign"), True),
        *([(constraints, True)] if constraints else []),
        *more,
    ]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or ("Authority" if signer else "Other root"))])
    return _make(signer, subject, extensions, start, end, key)


def leaf(
    signer: Held,
    *names: x509.GeneralName,
    common_name: str = "",
    ca: bool = False,
    key_usage: x509.KeyUsage | None = None,
    uses: Sequence[x509.ObjectIdentifier] = BOTH,
    start: float = NOW - DAY,
    end: float = NOW + DAY,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Held:
    """A certificate that is, or pretends to be, a workload's."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca, None), True),
        (key_usage or usage("digital_signature"), True),
        *([(x509.SubjectAlternativeName(names), not common_name)] if names else []),
        *([(x509.ExtendedKeyUsage(uses), False)] if uses else []),
        *more,
    ]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    return _make(signer, subject, extensions, start, end, None)


def _make(
    signer: Held | None,
    subject: x509.Name,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    start: float,
    end: float,
    key: SigningKey | None,
) -> Held:
    key = key or ec.generate_private_key(ec.SECP256R1())
    signing = signer.key if signer else key
    builder = x509.CertificateBuilder(
        signer.certificate.subject if signer else subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        datetime.fromtimestamp(int(start), UTC),
        datetime.fromtimestamp(int(end), UTC),
    )
    own, above = (x509.SubjectKeyIdentifier.from_public_key(k.public_key()) for k in (key, signing))
    for extension, critical in [
        *extensions,
        (own, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False),
    ]:
        builder = builder.add_extension(extension, critical)
    root = signer is None or signer.root
    return Held(
        builder.sign(signing, hashes.SHA256()),
        key,
        () if signer is None or root else (signer.certificate, *signer.above),
    )
