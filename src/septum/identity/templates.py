"""What stands in each certificate that the authority signs (X.509-SVID, sections 3 and 4; RFC 5280)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from septum.identity.leaf import find
from septum.identity.names import RESERVED, ControlId, Identity, JoinId, WorkloadId
from septum.identity.pem import SigningKey

DAY = 86_400.0
ROOT_LIFE = 3652 * DAY
INTERMEDIATE_LIFE = 365 * DAY
# A list of revoked certificates outlives any partition: what is not renewed must not turn into a refusal of everything.
CRL_LIFE = 3652 * DAY
# How far a clock may be behind: of who sees an authority for the first time, and of who sees a fresh leaf.
AUTHORITY_SKEW = DAY
LEAF_SKEW = 300.0
# RFC 5280, appendix A: a DNS name is no longer than this.
_MAX_DNS_NAME = 253


def root(key: SigningKey, trust_domain: str, now: float) -> x509.Certificate:
    """A self-signed root."""
    name = _authority_name("root", key)
    builder = _authority(key, trust_domain, name, now, now + ROOT_LIFE, path_length=1)
    return builder.issuer_name(name).sign(key, hashes.SHA256())


def intermediate(
    key: SigningKey, trust_domain: str, signer: x509.Certificate, signer_key: SigningKey, now: float
) -> x509.Certificate:
    """An issuing certificate below `signer`, for this trust domain's URIs only, that ends with its signer at latest."""
    end = min(now + INTERMEDIATE_LIFE, signer.not_valid_after_utc.timestamp())
    builder = _authority(key, trust_domain, _authority_name("intermediate", key), now, end, path_length=0)
    within = x509.NameConstraints([x509.UniformResourceIdentifier(trust_domain)], None)
    builder = builder.add_extension(within, critical=True).add_extension(_issuer_id(signer), critical=False)
    return builder.issuer_name(signer.subject).sign(signer_key, hashes.SHA256())


def leaf(
    key: ec.EllipticCurvePublicKey,
    identity: Identity,
    hosts: Iterable[str],
    issuer: x509.Certificate,
    issuer_key: SigningKey,
    not_before: float,
    not_after: float,
) -> x509.Certificate:
    """A certificate for an identity. It has no subject: nothing but the SANs could be taken for a name."""
    builder = (
        _builder(key, x509.Name([]), not_before, not_after)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_uses(identity)), critical=False)
        .add_extension(_issuer_id(issuer), critical=False)
        # Critical, as RFC 5280 (section 4.2.1.6) wants of a certificate without a subject.
        .add_extension(x509.SubjectAlternativeName(_alternative_names(identity, hosts)), critical=True)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def crl(
    issuer: x509.Certificate, key: SigningKey, revoked: Mapping[int, float], number: int
) -> x509.CertificateRevocationList:
    """The certificates of an issuer that are refused: serial numbers, and when each was revoked.

    Made twice of the same, it is the same to the byte, so that nothing is sent anew. It is as old as its issuer: to a
    clock that is behind, a list from the future would refuse everything.
    """
    made = issuer.not_valid_before_utc
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(made)
        .next_update(made + timedelta(seconds=CRL_LIFE))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_id(issuer), critical=False)
    )
    for serial, since in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_moment(since))
        builder = builder.add_revoked_certificate(entry.build())
    same = True if isinstance(key, ec.EllipticCurvePrivateKey) else None  # RSA always signs the same in the same way
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=same)


def _authority(
    key: SigningKey, trust_domain: str, name: x509.Name, now: float, end: float, path_length: int
) -> x509.CertificateBuilder:
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    of_domain = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    return (
        _builder(key.public_key(), name, now - AUTHORITY_SKEW, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(own_id, critical=False)
        .add_extension(of_domain, critical=False)
    )


def _builder(key: object, subject: x509.Name, not_before: float, not_after: float) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        public_key=key,  # type: ignore[arg-type]
        serial_number=x509.random_serial_number(),
        not_valid_before=_moment(not_before),
        not_valid_after=_moment(not_after),
    )


def _authority_name(role: str, key: SigningKey) -> x509.Name:
    """A name that no other key has, so that revocation lists and issuers are found by it."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Septum {role} {digest}")])


def _issuer_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = find(issuer, x509.SubjectKeyIdentifier)
    if own is not None:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _uses(identity: Identity) -> list[x509.ObjectIdentifier]:
    """The bearer of a join token calls, and answers nobody."""
    servers = [] if isinstance(identity, JoinId) else [ExtendedKeyUsageOID.SERVER_AUTH]
    return [ExtendedKeyUsageOID.CLIENT_AUTH, *servers]


def _alternative_names(identity: Identity, hosts: Iterable[str]) -> list[x509.GeneralName]:
    names = [*_dns_names(identity), *hosts]
    return [x509.UniformResourceIdentifier(identity.uri), *map(_host, dict.fromkeys(names))]


def _dns_names(identity: Identity) -> Iterator[str]:
    """What ordinary TLS clients check. A name that is too long for DNS is nobody's host name, and is left out."""
    match identity:
        case WorkloadId(spiffe):
            name = f"{spiffe.workload}.{spiffe.trust_domain}"
        case ControlId(trust_domain):
            name = f"{RESERVED}.{trust_domain}"
        case _:
            return
    if len(name) <= _MAX_DNS_NAME:
        yield name


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
