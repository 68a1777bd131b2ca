"""What of an answer is taken, and each reason not to take one."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from spiffe._proto import workload_pb2

from fakes.workload_api import authority, new_key, pkcs8, svid, usage
from septum.identity.pem import read_certificates
from septum.identity.spire.answer import AnswerError, Svid, Update, read

ORDERS, PAYMENTS = "spiffe://shop.test/orders", "spiffe://shop.test/payments"
ROOT = authority("root")
BELOW = authority("below", ROOT)


def answer(*svids: workload_pb2.X509SVID, **more) -> Update:
    return read(workload_pb2.X509SVIDResponse(svids=svids, **more).SerializeToString())


def refused(*svids: workload_pb2.X509SVID, **more) -> str:
    with pytest.raises(AnswerError) as error:
        answer(*svids, **more)
    return str(error.value)


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def test_an_svid_is_pem_with_its_time():
    given = svid(ORDERS, [BELOW, ROOT])
    update = answer(given)
    one = update.svids[ORDERS]
    leaf, below = read_certificates(one.chain)
    assert below == BELOW.certificate
    assert (one.not_before, one.not_after) == (
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
    )
    assert serialization.load_pem_private_key(one.key, None).public_key() == leaf.public_key()
    assert read_certificates(update.roots["shop.test"]) == (ROOT.certificate,)


def test_a_key_is_in_no_text_of_an_update():
    update = answer(svid(ORDERS, [ROOT]))
    assert "PRIVATE" not in repr(update)
    assert "key" not in repr(Svid(b"chain", b"key", 0, 0))


def test_paths_of_several_segments_are_identities():
    spiffe_id = "spiffe://shop.test/ns/shop/sa/orders"
    assert set(answer(svid(spiffe_id, [ROOT])).svids) == {spiffe_id}


def test_of_two_svids_with_one_id_the_first_is_taken():
    first, second = svid(ORDERS, [ROOT], hint="internal"), svid(ORDERS, [ROOT], hint="external")
    assert answer(first, second).svids == answer(first).svids


def test_each_trust_domain_has_its_own_roots():
    other = authority("other")
    update = answer(svid(ORDERS, [ROOT]), svid("spiffe://other.test/orders", [other]))
    assert {of: read_certificates(pem) for of, pem in update.roots.items()} == {
        "shop.test": (ROOT.certificate,),
        "other.test": (other.certificate,),
    }


def test_bundles_of_other_domains_are_counted_and_not_taken():
    update = answer(svid(ORDERS, [ROOT]), federated_bundles={"spiffe://other.test": authority("other").der})
    assert (set(update.roots), update.federated) == ({"shop.test"}, 1)


def test_revocation_lists_are_taken_as_pem():
    update = answer(svid(ORDERS, [ROOT]), crl=[ROOT.revoke(7), BELOW.revoke()])
    end = b"-----END X509 CRL-----\n"
    first, second = (x509.load_pem_x509_crl(text + end) for text in update.crls.split(end)[:-1])
    assert (first.issuer, second.issuer) == (ROOT.certificate.subject, BELOW.certificate.subject)
    assert first.get_revoked_certificate_by_serial_number(7) is not None


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "RSA"],
)
def test_keys_that_envoy_takes_are_taken(key):
    given = svid(ORDERS, [ROOT], own=key)
    assert ORDERS in answer(given).svids


WRONG = {
    "no SPIFFE ID": (svid(ORDERS, [ROOT], said=""), "not the SPIFFE ID"),
    "an ID without a path": (svid("spiffe://shop.test", [ROOT]), "not the SPIFFE ID"),
    "an ID with a dot segment": (svid("spiffe://shop.test/a/../orders", [ROOT]), "not the SPIFFE ID"),
    "an ID with a newline": (svid(ORDERS, [ROOT], said=ORDERS + "\n"), "not the SPIFFE ID"),
    "an ID that is too long": (svid("spiffe://shop.test/" + "a" * 2048, [ROOT]), "not the SPIFFE ID"),
    "another ID in the certificate": (svid(PAYMENTS, [ROOT], said=ORDERS), "is that of 'spiffe://shop.test/payments'"),
    "no URI": (svid(ORDERS, [ROOT], names=()), "exactly one URI SAN"),
    "a DNS name only": (svid(ORDERS, [ROOT], names=[x509.DNSName("orders")]), "exactly one URI SAN"),
    "two URIs": (svid(ORDERS, [ROOT], names=[uri(ORDERS), uri(PAYMENTS)]), "exactly one URI SAN"),
    "an authority as leaf": (svid(ORDERS, [ROOT], ca=True), "an authority's"),
    "a leaf that signs certificates": (svid(ORDERS, [ROOT], key_usage=usage(sign=True, authority=True)), "key usage"),
    "a leaf that signs nothing": (svid(ORDERS, [ROOT], key_usage=usage()), "key usage"),
    "a client only": (svid(ORDERS, [ROOT], purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), "extended key usage"),
    "no chain": (svid(ORDERS, [ROOT], chain=b""), "its chain is empty"),
    "a chain that is no DER": (svid(ORDERS, [ROOT], chain=b"leaf"), "its chain cannot be read"),
    "a chain that is cut off": (svid(ORDERS, [ROOT], chain=ROOT.der[:-1]), "is cut off"),
    "a chain of one byte": (svid(ORDERS, [ROOT], chain=b"\x30"), "its chain cannot be read"),
    "a chain of no definite length": (svid(ORDERS, [ROOT], chain=b"\x30\x80\0\0"), "is cut off"),
    "a chain with more behind it": (svid(ORDERS, [ROOT], chain=ROOT.der + b"\0"), "its chain cannot be read"),
    "a chain without its intermediate": (svid(ORDERS, [BELOW], bundle=ROOT.der), "leads to no root"),
    "another's root": (svid(ORDERS, [ROOT], bundle=authority("root").der), "leads to no root"),
    "a chain in another order": (svid(ORDERS, [BELOW, authority("between"), ROOT]), "not in order"),
    "an intermediate that is none": (svid(ORDERS, [authority("x", ROOT, ca=False), ROOT]), "is no authority"),
    "no bundle": (svid(ORDERS, [ROOT], bundle=b""), "its bundle is empty"),
    "no key": (svid(ORDERS, [ROOT], key=b""), "private key cannot be read"),
    "another's key": (svid(ORDERS, [ROOT], key=pkcs8(new_key())), "not the one of its certificate"),
    "an encrypted key": (
        svid(ORDERS, [ROOT], key=pkcs8(new_key(), serialization.BestAvailableEncryption(b"secret"))),
        "is encrypted",
    ),
    "a key of another kind": (svid(ORDERS, [ROOT], key=pkcs8(ed25519.Ed25519PrivateKey.generate())), "not P-256"),
    "a short key": (svid(ORDERS, [ROOT], key=pkcs8(rsa.generate_private_key(65537, 1024))), "not P-256"),
}


@pytest.mark.parametrize(("given", "why"), WRONG.values(), ids=WRONG.keys())
def test_an_svid_is_not_taken_with(given, why):
    assert why in refused(given)


def test_one_wrong_svid_refuses_the_whole_answer():
    wrong, _ = WRONG["two URIs"]
    assert refused(svid(PAYMENTS, [ROOT]), wrong).startswith(f"the SVID of '{ORDERS}'")


def test_an_answer_without_svids_is_none():
    assert "no SVID" in refused()


def test_a_revocation_list_that_cannot_be_read_refuses_the_answer():
    assert "revocation list" in refused(svid(ORDERS, [ROOT]), crl=[b"\x30\x00"])


def test_bytes_that_are_no_message_are_no_answer():
    with pytest.raises(AnswerError, match="no X509SVIDResponse"):
        read(b"\xff\xff")
