"""Which certificates prove an identity: a table, and OpenSSL as the judge of all that is not SPIFFE's own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from openssl_judge import openssl_verifies
from pki import DAY, DOMAIN, NOW, Held, authority, dns, leaf, uri, usage

from septum.identity.leaf import read_leaf
from septum.identity.names import WorkloadId
from septum.identity.pem import CertificateError, certificates_pem
from septum.identity.verify import verify
from septum.model.spiffe import SpiffeId

ID = "spiffe://shop.test/orders"
ORDERS = WorkloadId(SpiffeId(DOMAIN, "orders"))
ROOT = authority()
OTHER_ROOT = authority(name="Another root")
MIDDLE = authority(ROOT, name="Middle")
CLIENT_ONLY = (x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER_ONLY = (x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,)


def constrained(*permitted: x509.GeneralName, excluded: tuple[x509.GeneralName, ...] = ()) -> Held:
    constraints = x509.NameConstraints(list(permitted) or None, list(excluded) or None)
    return authority(ROOT, name="Constrained", constraints=constraints)


def directory_name(text: str) -> x509.GeneralName:
    return x509.DirectoryName(x509.Name.from_rfc4514_string(text))


def network(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_network(text))


def address(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(text))


RSA_MIDDLE = authority(ROOT, name="RSA", key=rsa.generate_private_key(65537, 2048))
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

ACCEPTED = {
    "under the root": leaf(ROOT, uri(ID)),
    "under an intermediate": leaf(MIDDLE, uri(ID), dns("orders.shop.test")),
    "under RSA": leaf(RSA_MIDDLE, uri(ID)),
    "under three": leaf(authority(authority(MIDDLE, name="b"), name="c"), uri(ID)),
    "path length that is enough": leaf(authority(authority(ROOT, path_length=1), name="b", path_length=0), uri(ID)),
    "constrained to the domain": leaf(constrained(uri(DOMAIN)), uri(ID)),
    "constrained to what is above it": leaf(constrained(uri(".test"), dns("test")), uri(ID), dns("orders.shop.test")),
    "another domain excluded": leaf(constrained(excluded=(uri("other.test"), dns("other.test"))), uri(ID)),
    "an address permitted": leaf(constrained(network("10.0.0.0/8")), uri(ID), address("10.1.2.3")),
    "an unknown extension": leaf(ROOT, uri(ID), more=[(UNKNOWN, False)]),
    "for clients only": leaf(ROOT, uri(ID), uses=CLIENT_ONLY),
    "with a common name": leaf(ROOT, uri(ID), common_name="payments"),
}  # fmt: skip

REFUSED = {
    "another root": (leaf(OTHER_ROOT, uri(ID)), "leads to no root"),
    "another root of the same name": (leaf(authority(name="Other root"), uri(ID)), "leads to no root"),
    "expired": (leaf(ROOT, uri(ID), end=NOW - 10), "ended at"),
    "not yet valid": (leaf(ROOT, uri(ID), start=NOW + 7200), "is valid from"),
    "an expired intermediate": (leaf(authority(ROOT, name="Old", end=NOW - 10), uri(ID)), "`CN=Old` ended at"),
    "below a leaf": (leaf(leaf(ROOT, uri(ID), common_name="x"), uri(ID)), "is no authority"),
    "below what is no authority": (leaf(authority(ROOT, name="No", ca=False), uri(ID)), "is no authority"),
    "below who may not sign": (leaf(authority(ROOT, name="No", key_usage=usage("crl_sign")), uri(ID)), "may not sign"),
    "path length exceeded": (
        leaf(authority(authority(ROOT, name="a", path_length=0), name="b"), uri(ID)), "may have 0 authorities below",
    ),
    "below one for servers only": (
        leaf(authority(ROOT, name="S", more=[(x509.ExtendedKeyUsage(SERVER_ONLY), False)]), uri(ID)),
        "not one for TLS clients and servers",
    ),
    "for servers only": (leaf(ROOT, uri(ID), uses=SERVER_ONLY), "not one for TLS clients"),
    "outside the constraint": (leaf(constrained(uri("other.test")), uri(ID)), f"do not permit `{ID}`"),
    "outside, a neighbour of the name": (leaf(constrained(uri("op.test")), uri(ID)), "do not permit"),
    "the domain itself is not below itself": (leaf(constrained(uri(".shop.test")), uri(ID)), "do not permit"),
    "excluded": (leaf(constrained(excluded=(uri(DOMAIN),)), uri(ID)), "do not permit"),
    "DNS name outside": (leaf(constrained(dns("other.test")), uri(ID), dns("orders.shop.test")), "do not permit"),
    "DNS name of a neighbour": (leaf(constrained(dns("hop.test")), uri(ID), dns("orders.shop.test")), "do not permit"),
    "subject outside": (leaf(constrained(directory_name("CN=x")), uri(ID), common_name="y"), "do not permit"),
    "address outside": (
        leaf(constrained(network("10.0.0.0/8")), uri(ID), address("11.1.2.3")), "do not permit",
    ),
    "a critical extension": (leaf(ROOT, uri(ID), more=[(UNKNOWN, True)]), "not understood: 1.2.3.4"),
}  # fmt: skip


def check(held: Held, revoked: tuple[int, ...] = (), **how: object) -> object:
    return verify(held.chain_pem, ROOT.pem, NOW, DOMAIN, revoked, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    assert check(ACCEPTED[case]) == ORDERS
    assert openssl_verifies(ACCEPTED[case].chain_pem, ROOT.pem)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    held, why = REFUSED[case]
    with pytest.raises(CertificateError, match=why):
        check(held)
    assert not openssl_verifies(held.chain_pem, ROOT.pem)


# What SPIFFE adds: OpenSSL has no opinion on these.
NOT_SPIFFE = {
    "no name at all": (leaf(ROOT), "exactly one URI SAN, and this one has 0"),
    "the ID as a DNS name": (leaf(ROOT, dns(ID)), "this one has 0"),
    "the ID as the common name": (leaf(ROOT, common_name=ID), "this one has 0"),
    "two IDs": (leaf(ROOT, uri(ID), uri("spiffe://shop.test/web")), "this one has 2"),
    "the ID twice": (leaf(ROOT, uri(ID), uri(ID)), "this one has 2"),
    "another trust domain": (leaf(ROOT, uri("spiffe://other.test/orders")), "is of the trust domain 'other.test'"),
    "a trust domain that begins alike": (leaf(ROOT, uri("spiffe://shop.testing/orders")), "of the trust domain"),
    "capitals": (leaf(ROOT, uri("spiffe://shop.test/Orders")), "not a workload name"),
    "a longer path": (leaf(ROOT, uri("spiffe://shop.test/orders/x")), "names no workload"),
    "a trailing slash": (leaf(ROOT, uri("spiffe://shop.test/orders/")), "names no workload"),
    "the reserved name": (leaf(ROOT, uri("spiffe://shop.test/septum")), "reserved"),
    "no path": (leaf(ROOT, uri("spiffe://shop.test")), "not a SPIFFE ID with a path"),
    "NUL": (leaf(ROOT, uri(ID + "\0.evil")), "holds what no URI may hold"),
    "a line break": (leaf(ROOT, uri(ID + "\r\n")), "holds what no URI may hold"),
    "a comma, as joined names have": (leaf(ROOT, uri(ID + "," + ID)), "names no workload|not a workload"),
    "an authority's": (leaf(ROOT, uri(ID), ca=True, key_usage=usage("key_cert_sign")), "is an authority's"),
    "a key for lists": (leaf(ROOT, uri(ID), key_usage=usage("digital_signature", "crl_sign")), "signatures only"),
    "no use for TLS": (leaf(ROOT, uri(ID), uses=()), "not one for TLS clients"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_SPIFFE)
def test_refused_by_what_spiffe_asks(case: str) -> None:
    held, why = NOT_SPIFFE[case]
    with pytest.raises(CertificateError, match=why):
        check(held)


def test_revoked() -> None:
    held = ACCEPTED["under the root"]
    with pytest.raises(CertificateError, match="is revoked"):
        check(held, (held.certificate.serial_number,))
    assert check(held, (held.certificate.serial_number + 1,)) == ORDERS


def test_issuers_that_are_left() -> None:
    held = leaf(MIDDLE, uri(ID))
    key_id = read_leaf(held.pem).issuer
    assert check(held, issuers=[key_id]) == ORDERS
    with pytest.raises(CertificateError, match="the issuer `CN=Middle` is retired"):
        check(held, issuers=["00"])


def test_the_order_of_a_chain_and_what_else_is_in_it_do_not_matter() -> None:
    held = leaf(authority(MIDDLE, name="b"), uri(ID))
    chain = certificates_pem([held.certificate, OTHER_ROOT.certificate, *reversed(held.above), ROOT.certificate])
    assert verify(chain, ROOT.pem, NOW, DOMAIN) == ORDERS


def test_any_of_the_roots_will_do() -> None:
    held = leaf(OTHER_ROOT, uri(ID))
    assert verify(held.chain_pem, ROOT.pem + OTHER_ROOT.pem, NOW, DOMAIN) == ORDERS


def test_a_chain_without_end() -> None:
    signer = ROOT
    for step in range(8):
        signer = authority(signer, name=f"step {step}")
    with pytest.raises(CertificateError, match="leads to no root"):
        check(leaf(signer, uri(ID)))


def test_a_weak_signature() -> None:
    """What is weaker than SHA-256 signs nothing; of a root its own signature is not asked."""
    made = leaf(ROOT, uri(ID)).certificate
    builder = x509.CertificateBuilder(
        made.issuer, made.subject, made.public_key(), made.serial_number,
        datetime.fromtimestamp(NOW - 10, UTC), datetime.fromtimestamp(NOW + 100, UTC), list(made.extensions),
    )  # fmt: skip
    assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
    weak = Held(builder.sign(ROOT.key, hashes.SHA224()), ROOT.key)
    with pytest.raises(CertificateError, match="leads to no root"):
        check(weak)


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate(pem: bytes) -> None:
    with pytest.raises(CertificateError):
        verify(pem, ROOT.pem, NOW, DOMAIN)
    with pytest.raises(CertificateError):
        read_leaf(pem)


@settings(deadline=None, max_examples=400)
@given(position=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_certificate_that_was_changed_is_refused(position: int, value: int) -> None:
    held = leaf(MIDDLE, uri(ID), dns("orders.shop.test"))
    der = bytearray(held.certificate.public_bytes(serialization.Encoding.DER))
    before = bytes(der)
    der[position % len(der)] = value
    text = ssl.DER_cert_to_PEM_cert(bytes(der)).encode() + MIDDLE.pem
    try:
        assert verify(text, ROOT.pem, NOW, DOMAIN) == ORDERS
    except CertificateError:
        return
    # Some bytes of a signature's encoding can be written in two ways; what is signed cannot.
    signed = len(held.certificate.tbs_certificate_bytes)
    assert bytes(der)[:signed] == before[:signed]


def test_a_leaf_is_read() -> None:
    held = leaf(MIDDLE, uri(ID), start=NOW - DAY, end=NOW + DAY)
    read = read_leaf(held.chain_pem)
    assert (read.uri, read.serial) == (ID, held.certificate.serial_number)
    assert (read.not_before, read.not_after) == (int(NOW - DAY), int(NOW + DAY))
    own = x509.SubjectKeyIdentifier.from_public_key(MIDDLE.key.public_key())
    assert read.issuer == own.digest.hex()
