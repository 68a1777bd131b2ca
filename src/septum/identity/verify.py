"""Whether a certificate chain proves an identity: checked by hand, as `cryptography` knows no constraints on URIs.

TLS has checked a peer already; this is the control plane's second look, and the judge of an upstream's certificates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from septum.identity.leaf import alternative_names, find, key_id, uri_of
from septum.identity.names import Identity, parse
from septum.identity.pem import UNREADABLE, CertificateError, read_certificates

# A leaf, our intermediate, and a few of an organisation's own.
_MAX_PATH = 6
# RFC 5280, section 4.2: a critical extension that is not understood refuses the certificate.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_ANY_USE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def verify(
    chain_pem: bytes,
    roots_pem: bytes,
    now: float,
    trust_domain: str,
    revoked: Collection[int] = (),
    issuers: Collection[str] | None = None,
) -> Identity:
    """The identity that a chain (leaf first) proves at a moment, to who trusts the roots. Raises CertificateError.

    `revoked` are serial numbers, `issuers` the key ids (hex) of those who may have issued the leaf; None is any whom a
    root allows. The chain may hold more certificates than are needed, and in any order after the leaf.
    """
    leaf, *others = read_certificates(chain_pem)
    path = _path(leaf, others, read_certificates(roots_pem))
    for certificate in path:
        _check_time(certificate, now)
        _check_extensions(certificate)
    _check_leaf(leaf)
    for depth, authority in enumerate(path[1:]):
        _check_authority(authority, depth, path[: depth + 1])
    if issuers is not None and not any(key_id(authority) in issuers for authority in path[1:2]):
        raise CertificateError(f"the issuer `{leaf.issuer.rfc4514_string()}` is retired")
    if leaf.serial_number in revoked:
        raise CertificateError(f"the certificate {leaf.serial_number:x} is revoked")
    try:
        return parse(uri_of(leaf), trust_domain)
    except ValueError as error:
        raise CertificateError(str(error)) from error


def _path(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """The leaf, who signed it, who signed that, up to a root."""
    path = [leaf]
    while path[-1] not in roots:
        above = (c for c in (*roots, *others) if c not in path and _signed(path[-1], c))
        signer = next(above, None)
        if signer is None or len(path) == _MAX_PATH:
            issuer = path[-1].issuer.rfc4514_string()
            raise CertificateError(f"the certificate leads to no root that is trusted: it was issued by `{issuer}`")
        path.append(signer)
    return path


def _signed(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
        algorithm = certificate.signature_hash_algorithm
    except (*UNREADABLE, InvalidSignature):
        return False
    return isinstance(algorithm, _HASHES)


def _check_time(certificate: x509.Certificate, now: float) -> None:
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    at = datetime.fromtimestamp(now, UTC)
    if at < starts:
        raise CertificateError(f"{_named(certificate)} is valid from {starts:%F %T} UTC, and it is {at:%F %T}")
    if at > ends:
        raise CertificateError(f"{_named(certificate)} ended at {ends:%F %T} UTC, and it is {at:%F %T}")


def _check_extensions(certificate: x509.Certificate) -> None:
    find(certificate, x509.BasicConstraints)  # all of them can be read
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise CertificateError(
                f"{_named(certificate)} has a critical extension that is not understood: {extension.oid.dotted_string}"
            )


def _check_leaf(leaf: x509.Certificate) -> None:
    """X.509-SVID, section 4: what a leaf may be used for."""
    basic, usage, uses = (
        find(leaf, x509.BasicConstraints),
        find(leaf, x509.KeyUsage),
        find(leaf, x509.ExtendedKeyUsage),
    )
    if basic is not None and basic.ca:
        raise CertificateError("the certificate is an authority's, and proves no workload and no node")
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise CertificateError("the certificate is not one for signatures only (key usage)")
    if uses is None or ExtendedKeyUsageOID.CLIENT_AUTH not in uses:
        raise CertificateError("the certificate is not one for TLS clients (extended key usage)")


def _check_authority(authority: x509.Certificate, depth: int, below: Sequence[x509.Certificate]) -> None:
    """Whether it may have issued what is below it; `depth` counts the authorities between it and the leaf."""
    basic, usage = find(authority, x509.BasicConstraints), find(authority, x509.KeyUsage)
    if basic is None or not basic.ca:
        raise CertificateError(f"{_named(authority)} is no authority (basic constraints)")
    if usage is not None and not usage.key_cert_sign:
        raise CertificateError(f"{_named(authority)} may not sign certificates (key usage)")
    if basic.path_length is not None and basic.path_length < depth:
        raise CertificateError(f"{_named(authority)} may have {basic.path_length} authorities below it, not {depth}")
    uses = find(authority, x509.ExtendedKeyUsage)
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    if uses is not None and _ANY_USE not in uses and not wanted <= set(uses):
        raise CertificateError(f"{_named(authority)} is not one for TLS clients and servers (extended key usage)")
    constraints = find(authority, x509.NameConstraints)
    if constraints is not None:
        for certificate in below:
            _check_names(certificate, authority, constraints)


def _check_names(certificate: x509.Certificate, authority: x509.Certificate, constraints: x509.NameConstraints) -> None:
    """RFC 5280, section 4.2.1.10: of each kind that is constrained, a name must be permitted and not excluded."""
    for name in _names(certificate):
        permitted = _of_kind(constraints.permitted_subtrees, name)
        excluded = _of_kind(constraints.excluded_subtrees, name)
        if (permitted and not any(_within(name, tree) for tree in permitted)) or any(
            _within(name, tree, unknown=True) for tree in excluded
        ):
            raise CertificateError(f"the name constraints of {_named(authority)} do not permit `{name.value}`")


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    subject = [x509.DirectoryName(certificate.subject)] if list(certificate.subject) else []
    return [*subject, *alternative_names(certificate)]


def _of_kind(trees: Iterable[x509.GeneralName] | None, name: x509.GeneralName) -> list[x509.GeneralName]:
    return [tree for tree in trees or () if type(tree) is type(name)]


def _within(name: x509.GeneralName, tree: x509.GeneralName, unknown: bool = False) -> bool:
    """Whether a name is in a subtree of the same kind; `unknown` is the answer for a kind that is not compared here."""
    match name, tree:
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = name.value.partition("://")[2].partition("/")[0].lower()
            return _below(host, tree.value.lower()) if tree.value.startswith(".") else host == tree.value.lower()
        case x509.DNSName(), x509.DNSName():
            host, of = name.value.lower(), tree.value.lower()
            return not of or host == of or _below(host, "." + of.removeprefix("."))
        case x509.IPAddress(), x509.IPAddress():
            address, network = ip_network(str(name.value)), ip_network(str(tree.value))
            return address.version == network.version and address.network_address in network
        case x509.DirectoryName(), x509.DirectoryName():
            return list(name.value.rdns)[: len(tree.value.rdns)] == list(tree.value.rdns)
        case _:
            return unknown


def _below(host: str, suffix: str) -> bool:
    return host.endswith(suffix) and len(host) > len(suffix)


def _named(certificate: x509.Certificate) -> str:
    subject = certificate.subject.rfc4514_string()
    return f"the certificate of `{subject}`" if subject else f"the certificate {certificate.serial_number:x}"
