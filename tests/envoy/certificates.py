"""Certificate authorities and certificates for tests: right ones, and wrong in one way each."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from septum.envoy.wire import resource
from septum.model.snapshot import Resource

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes
    serial: int

    def secret(self, name: str) -> Resource:
        """The SDS secret of this name with it."""
        chain, key = DataSource(inline_bytes=self.certificate), DataSource(inline_bytes=self.key)
        pair = TlsCertificate(certificate_chain=chain, private_key=key)
        return resource(name, Secret(name=name, tls_certificate=pair))

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Files of the certificate and the key."""
        files = directory / f"{self.serial}.pem", directory / f"{self.serial}.key"
        for file, content in zip(files, (self.certificate, self.key), strict=True):
            file.write_bytes(content)
        return files


class Ca:
    """A root that signs leaves."""

    def __init__(self, name: str = "root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = _builder(self._name, self._name, self._key.public_key(), -HOUR, 24 * HOUR)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_usage(signs=True), critical=True)
        built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.pem = built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(
        self,
        *uris: str,
        dns: Sequence[str] = (),
        addresses: Sequence[str] = (),
        common_name: str = "leaf",
        begins: timedelta = -HOUR,
        ends: timedelta = HOUR,
    ) -> Leaf:
        """A leaf with these SANs; `begins` and `ends` count from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        built = _builder(subject, self._name, key.public_key(), begins, ends)
        names = [*map(x509.UniformResourceIdentifier, uris), *map(_dns_name, dns)]
        names += (x509.IPAddress(ip_address(address)) for address in addresses)
        if names:
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        built = built.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        built = built.add_extension(_usage(signs=False), critical=True)
        certificate = built.sign(self._key, hashes.SHA256())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Leaf(certificate.public_bytes(Encoding.PEM), pem, certificate.serial_number)

    def revoking(self, *leaves: Leaf) -> bytes:
        """The list of revoked leaves, PEM."""
        now = datetime.now(UTC)
        built = x509.CertificateRevocationListBuilder(self._name, now - HOUR, now + HOUR)
        for leaf in leaves:
            built = built.add_revoked_certificate(x509.RevokedCertificateBuilder(leaf.serial, now - HOUR).build())
        return built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def trust(name: str, *authorities: Ca, revoked: bytes = b"") -> Resource:
    """The SDS secret of this name that trusts these authorities."""
    context = CertificateValidationContext(
        trusted_ca=DataSource(inline_bytes=b"".join(authority.pem for authority in authorities))
    )
    if revoked:
        context.crl.inline_bytes = revoked
        context.only_verify_leaf_cert_crl = True
    return resource(name, Secret(name=name, validation_context=context))


def client_context(directory: Path, ca: Ca, leaf: Leaf | None, *protocols: str) -> ssl.SSLContext:
    """How a program without an agent connects, with its own certificate or with none."""
    context = ssl.create_default_context(cadata=ca.pem.decode())
    context.check_hostname = False
    context.set_alpn_protocols(list(protocols or ("http/1.1",)))
    if leaf is not None:
        context.load_cert_chain(*leaf.write(directory))
    return context


def _dns_name(name: str) -> x509.DNSName:
    # Not a host name on purpose, where a test wants a DNS SAN that reads as something else.
    return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
