"""An authority below another PKI: what of it is accepted, and what stands in the certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from openssl_judge import handshake, openssl_verifies
from pki import DAY, DOMAIN, NOW, Held, authority, dns, leaf, uri, usage

from septum.identity.authority import Authority, AuthorityError
from septum.identity.csr import csr, new_key
from septum.identity.issuer import Upstream
from septum.identity.ledger import What
from septum.identity.names import WorkloadId
from septum.identity.pem import certificates_pem
from septum.model.spiffe import SpiffeId

ORDERS = WorkloadId(SpiffeId(DOMAIN, "orders"))
ROOT = authority()


def upstream(held: Held, root: Held = ROOT) -> Upstream:
    return Upstream(held.chain_pem + root.pem if held is not root else root.pem, held.key_pem)


def create(path: Path, held: Held, root: Held = ROOT) -> Authority:
    return Authority.create(path / "ca", DOMAIN, NOW, upstream=upstream(held, root))


def within(*names: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(list(names), None)


RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA_ROOT = authority(name="RSA root", key=rsa.generate_private_key(65537, 2048))
P384_ROOT = authority(name="P-384 root", key=ec.generate_private_key(ec.SECP384R1()))
PATH_0_ROOT = authority(name="Lone root", path_length=0)

ACCEPTED = {
    "a root": (ROOT, ROOT, 2),
    "an intermediate": (authority(ROOT, name="Company"), ROOT, 3),
    "deep": (authority(authority(ROOT, name="Company"), name="Team"), ROOT, 4),
    "RSA": (authority(RSA_ROOT, name="Company"), RSA_ROOT, 3),
    "P-384": (P384_ROOT, P384_ROOT, 2),
    "one that may have nothing below it": (authority(ROOT, name="Issuing", path_length=0), ROOT, 2),
    "an RSA one of that kind": (authority(RSA_ROOT, path_length=0, key=RSA_KEY), RSA_ROOT, 2),
    "a root that may have nothing below it": (PATH_0_ROOT, PATH_0_ROOT, 1),
    "constrained to the trust domain": (authority(ROOT, constraints=within(uri(DOMAIN), dns(DOMAIN))), ROOT, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(tmp_path: Path, case: str) -> None:
    held, root, certificates = ACCEPTED[case]
    made, key = create(tmp_path, held, root), new_key()
    issued, bundle = made.issue(csr(key), ORDERS, 3600, NOW), made.bundle(NOW)
    assert bundle.roots_pem == root.pem
    assert issued.chain_pem.count(b"BEGIN") == certificates
    assert made.verify(issued.chain_pem, NOW) == ORDERS
    assert openssl_verifies(issued.chain_pem, bundle.roots_pem, bundle.crl_pem)
    own = issued.chain_pem, key
    assert handshake(own, own, bundle.roots_pem, "orders.shop.test", bundle.crl_pem) == ""
    made.revoke({issued.serial: issued.not_after}, NOW)
    assert not openssl_verifies(issued.chain_pem, bundle.roots_pem, made.bundle(NOW).crl_pem)
    assert Authority.open(tmp_path / "ca", DOMAIN).bundle(NOW) == made.bundle(NOW)


REFUSED = {
    "no authority": (leaf(ROOT, uri("spiffe://shop.test/x"), common_name="x"), "is no authority"),
    "not for certificates": (authority(ROOT, name="No", key_usage=usage("crl_sign")), "may not sign certificates"),
    "expired": (authority(ROOT, name="Old", end=NOW - 5), "ended at"),
    "not yet valid": (authority(ROOT, name="New", start=NOW + 99), "is valid from"),
    "another trust domain's": (authority(ROOT, constraints=within(uri("other.test"))), "do not permit `spiffe://shop.test"),
    "other host names": (authority(ROOT, constraints=within(dns("other.test"))), "do not permit `trial.shop.test`"),
    "other subjects": (
        authority(ROOT, constraints=within(x509.DirectoryName(x509.Name.from_rfc4514_string("CN=x")))),
        "do not permit",
    ),
    "not for revocation": (
        authority(ROOT, path_length=0, key_usage=usage("key_cert_sign")), "may not sign lists of revoked",
    ),
    "no room below": (
        authority(authority(ROOT, name="a", path_length=0), name="b"), "may have 0 authorities below it, not 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    held, why = REFUSED[case]
    with pytest.raises(AuthorityError, match=why):
        create(tmp_path, held)
    assert create(tmp_path, ROOT).trust_domain == DOMAIN, "nothing is left that would be in the way"


def test_another_key(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="the key is not that of the first certificate"):
        Authority.create(tmp_path / "ca", DOMAIN, NOW, upstream=Upstream(ROOT.pem, new_key()))


def test_without_its_root(tmp_path: Path) -> None:
    company = authority(ROOT, name="Company")
    with pytest.raises(AuthorityError, match="the chain has no root: give all"):
        Authority.create(tmp_path / "ca", DOMAIN, NOW, upstream=Upstream(company.pem, company.key_pem))


def test_an_authority_with_the_name_of_its_root(tmp_path: Path) -> None:
    """As in a change of a root's key: it is named as a root, and it is none."""
    made = create(tmp_path, authority(ROOT, name="Other root"))
    assert made.bundle(NOW).roots_pem == ROOT.pem
    assert made.issue(csr(new_key()), ORDERS, 60, NOW).chain_pem.count(b"BEGIN") == 3


def test_a_root_that_did_not_sign_it(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="leads to no root"):
        create(tmp_path, authority(ROOT, name="Company"), authority(name="Elsewhere"))


def test_a_small_key(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    pem = weak.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(AuthorityError, match="at least 2048 bits"):
        Authority.create(tmp_path / "ca", DOMAIN, NOW, upstream=Upstream(ROOT.pem, pem))


def test_what_is_issued_ends_with_the_upstream(tmp_path: Path) -> None:
    made = create(tmp_path, authority(ROOT, name="Company", end=NOW + 10 * DAY))
    assert made.issue(csr(new_key()), ORDERS, 20 * DAY, NOW).not_after == int(NOW + 10 * DAY)


def test_its_key_is_not_kept(tmp_path: Path) -> None:
    company = authority(ROOT, name="Company")
    made = create(tmp_path, company)
    kept = [path.read_bytes() for path in (tmp_path / "ca").iterdir()]
    assert company.key_pem not in kept
    with pytest.raises(
        AuthorityError, match=r"signed with the key of `CN=Company`, which is not here: .*--root-key FILE"
    ):
        made.prepare(What.INTERMEDIATE, NOW)
    with pytest.raises(AuthorityError, match="the key that was given is not that of `CN=Company`"):
        made.prepare(What.INTERMEDIATE, NOW, root_key=new_key())
    before = made.issuer
    made.prepare(What.INTERMEDIATE, NOW, root_key=company.key_pem)
    made.activate()
    assert made.issuer != before
    assert made.verify(made.issue(csr(new_key()), ORDERS, 60, NOW).chain_pem, NOW) == ORDERS


def test_the_upstream_itself_cannot_be_renewed_here(tmp_path: Path) -> None:
    made = create(tmp_path, authority(ROOT, path_length=0))
    with pytest.raises(AuthorityError, match="--what root, with --upstream-cert FILE --upstream-key FILE"):
        made.prepare(What.INTERMEDIATE, NOW)
    with pytest.raises(AuthorityError, match="give --upstream-cert FILE --upstream-key FILE"):
        made.prepare(What.ROOT, NOW)


def test_from_our_own_root_to_an_upstream(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "ca", DOMAIN, NOW)
    own_root = made.bundle(NOW).roots_pem
    made.prepare(What.ROOT, NOW, upstream=upstream(authority(ROOT, name="Company")))
    assert set(made.bundle(NOW).roots_pem.split(b"-----END")) > set(ROOT.pem.split(b"-----END")[1:])
    assert made.bundle(NOW).roots_pem == own_root + ROOT.pem
    made.activate()
    made.retire()
    assert made.bundle(NOW).roots_pem == ROOT.pem
    assert not list((tmp_path / "ca").glob("root-*.key"))


def test_several_roots_are_all_trusted(tmp_path: Path) -> None:
    old, company = authority(name="Older root"), authority(ROOT, name="Company")
    chain = certificates_pem([company.certificate, ROOT.certificate, old.certificate])
    made = Authority.create(tmp_path / "ca", DOMAIN, NOW, upstream=Upstream(chain, company.key_pem))
    assert made.bundle(NOW).roots_pem == ROOT.pem + old.pem
