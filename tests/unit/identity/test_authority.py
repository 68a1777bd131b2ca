"""What the authority issues, judged by OpenSSL and by Python's `ssl`, and who it refuses."""

from __future__ import annotations

import json
import os
import stat
import time
from base64 import b64decode, urlsafe_b64decode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openssl_judge import handshake, openssl, openssl_text, openssl_verifies
from pki import DAY, DOMAIN, NOW

from septum.identity.authority import Authority, AuthorityError, NoAuthorityError
from septum.identity.csr import csr, new_key
from septum.identity.leaf import read_leaf
from septum.identity.names import ControlId, Identity, JoinId, NodeId, WorkloadId
from septum.identity.pem import CertificateError, certificates_pem, is_encrypted, read_certificates
from septum.model.spiffe import SpiffeId

HOUR = 3600.0
ORDERS = WorkloadId(SpiffeId(DOMAIN, "orders"))
DER = serialization.Encoding.DER


@pytest.fixture
def made(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", DOMAIN, NOW)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("shared") / "ca", DOMAIN, NOW)


def issue(authority: Authority, identity: Identity = ORDERS, lifetime: float = 6 * HOUR, now: float = NOW) -> bytes:
    return authority.issue(csr(new_key()), identity, lifetime, now).chain_pem


def names(pem: bytes) -> list[tuple[str, str]]:
    found = read_certificates(pem)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [(type(name).__name__, str(name.value)) for name in found]


# --- leaves


def test_a_workloads_certificate(shared: Authority) -> None:
    text = openssl_text(issue(shared))
    assert "URI:spiffe://shop.test/orders, DNS:orders.shop.test" in text
    assert "X509v3 Subject Alternative Name: critical" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    assert "TLS Web Client Authentication, TLS Web Server Authentication" in text
    assert "CA:FALSE" in text
    assert "Signature Algorithm: ecdsa-with-SHA256" in text
    assert "prime256v1" in text
    assert "Subject: \n" in text or "Subject:\n" in text


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (NodeId(DOMAIN, "alpha"), ["spiffe://shop.test/septum/node/alpha"]),
        (ControlId(DOMAIN), ["spiffe://shop.test/septum/control", "septum.shop.test"]),
        (JoinId(DOMAIN, "k3"), ["spiffe://shop.test/septum/join/k3"]),
    ],
)
def test_septums_own_certificates(shared: Authority, identity: Identity, expected: list[str]) -> None:
    assert [name for _, name in names(issue(shared, identity))] == expected


def test_the_control_plane_has_the_names_under_which_it_is_called(shared: Authority) -> None:
    hosts = ("control.example", "10.0.0.1", "::1", "control.example")
    issued = shared.issue(csr(new_key()), ControlId(DOMAIN), 24 * HOUR, NOW, hosts)
    assert names(issued.chain_pem)[1:] == [
        ("DNSName", "septum.shop.test"),
        ("DNSName", "control.example"),
        ("IPAddress", "10.0.0.1"),
        ("IPAddress", "::1"),
    ]


def test_nobody_else_has_such_names(shared: Authority) -> None:
    with pytest.raises(ValueError, match="not for this authority"):
        shared.issue(csr(new_key()), ORDERS, HOUR, NOW, ("control.example",))


def test_another_trust_domain_is_not_certified(shared: Authority) -> None:
    with pytest.raises(ValueError, match="not for this authority"):
        issue(shared, NodeId("other.test", "alpha"))


def test_the_bearer_of_a_join_token_cannot_be_a_server(shared: Authority) -> None:
    chain = issue(shared, JoinId(DOMAIN, "k3"))
    assert "Server" not in openssl_text(chain)
    assert not openssl_verifies(chain, shared.bundle(NOW).roots_pem, b"", "-purpose", "sslserver")


def test_the_time_of_a_leaf(shared: Authority) -> None:
    issued = shared.issue(csr(new_key()), ORDERS, 6 * HOUR, NOW)
    assert (issued.not_before, issued.not_after) == (int(NOW - 300), int(NOW + 6 * HOUR))
    assert read_leaf(issued.chain_pem).not_after == issued.not_after
    assert read_leaf(issued.chain_pem).not_before == issued.not_before


def test_a_short_leaf_starts_less_early_so_that_half_its_life_is_to_come(shared: Authority) -> None:
    issued = shared.issue(csr(new_key()), ORDERS, 10, NOW)
    assert (issued.not_before + issued.not_after) / 2 > NOW + 2


def test_a_leaf_does_not_outlive_its_issuer(shared: Authority) -> None:
    later = NOW + 364.5 * DAY
    issued = shared.issue(csr(new_key()), ORDERS, 30 * DAY, later)
    assert issued.not_after == int(NOW + 365 * DAY)
    with pytest.raises(AuthorityError, match="has ended"):
        shared.issue(csr(new_key()), ORDERS, HOUR, NOW + 366 * DAY)


def test_serial_numbers_are_long_and_never_the_same(shared: Authority) -> None:
    serials = [shared.issue(csr(new_key()), ORDERS, HOUR, NOW).serial for _ in range(50)]
    assert len(set(serials)) == 50
    assert 150 < max(serial.bit_length() for serial in serials) < 160


def test_a_leaf_names_its_issuer(shared: Authority) -> None:
    assert read_leaf(issue(shared)).issuer == shared.issuer


# --- requests

_texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
_names = st.one_of(
    _texts.map(x509.UniformResourceIdentifier),
    st.sampled_from(["spiffe://shop.test/payments", "spiffe://shop.test/septum/control"]).map(
        x509.UniformResourceIdentifier
    ),
    _texts.map(x509.DNSName),
    st.just(x509.RFC822Name("orders@shop.test")),
    st.ip_addresses().map(x509.IPAddress),
)
_extensions = st.sampled_from(
    [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CODE_SIGNING]),
        x509.NameConstraints([x509.DNSName("")], None),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
    ]
)
KEY = ec.generate_private_key(ec.SECP256R1())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    common=st.none() | st.text(min_size=1, max_size=16),
    asked=st.lists(_names, max_size=4),
    extensions=st.lists(_extensions, unique_by=lambda e: e.oid, max_size=3),
)
def test_whatever_a_request_asks_for_the_authority_chooses(
    shared: Authority, common: str | None, asked: list[x509.GeneralName], extensions: list[x509.ExtensionType]
) -> None:
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common)] if common else []
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if asked:
        request = request.add_extension(x509.SubjectAlternativeName(asked), critical=False)
    for extension in extensions:
        request = request.add_extension(extension, critical=True)
    issued = shared.issue(request.sign(KEY, hashes.SHA256()).public_bytes(DER), ORDERS, HOUR, NOW)
    plain = shared.issue(csr(new_key()), ORDERS, HOUR, NOW)
    got, expected = (read_certificates(one.chain_pem)[0] for one in (issued, plain))
    assert names(issued.chain_pem) == [
        ("UniformResourceIdentifier", "spiffe://shop.test/orders"),
        ("DNSName", "orders.shop.test"),
    ]
    assert got.public_key() == KEY.public_key()
    assert (got.subject, got.issuer, list(got.extensions)) == (
        expected.subject,
        expected.issuer,
        list(expected.extensions),
    )


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["P-384", "K-256", "RSA", "Ed25519"],
)
def test_other_keys_are_refused(shared: Authority, key: ec.EllipticCurvePrivateKey, digest: hashes.SHA256) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest).public_bytes(DER)
    with pytest.raises(CertificateError, match="must be P-256"):
        shared.issue(request, ORDERS, HOUR, NOW)


def test_a_request_for_somebody_elses_key_is_refused(shared: Authority) -> None:
    """Proof of possession: the signature is over the request, with the key that is in it."""
    request, other = csr(new_key()), csr(new_key())
    key = x509.load_der_x509_csr(other).public_key()
    stolen = request.replace(
        x509.load_der_x509_csr(request).public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    assert stolen != request
    with pytest.raises(CertificateError, match="not signed with its own key"):
        shared.issue(stolen, ORDERS, HOUR, NOW)


@pytest.mark.parametrize("request_", [b"", b"x", b"\x30\x80", b"0" * (17 << 10)], ids=["empty", "text", "DER", "long"])
def test_what_is_no_request_is_refused(shared: Authority, request_: bytes) -> None:
    with pytest.raises(CertificateError):
        shared.issue(request_, ORDERS, HOUR, NOW)


@settings(deadline=None, max_examples=400)
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_broken_request_is_refused_or_means_the_same(shared: Authority, position: int, value: int) -> None:
    request = bytearray(csr(new_key()))
    before = bytes(request)
    request[position % len(request)] = value
    try:
        issued = shared.issue(bytes(request), ORDERS, HOUR, NOW)
    except CertificateError:
        return
    assert bytes(request) == before
    assert names(issued.chain_pem)[0][1] == ORDERS.uri


# --- who accepts the certificates


def test_openssl_and_python_accept_them(shared: Authority) -> None:
    bundle, keys = shared.bundle(NOW), [new_key(), new_key()]
    orders, web = (
        shared.issue(csr(key), WorkloadId(SpiffeId(DOMAIN, name)), HOUR, NOW).chain_pem
        for key, name in zip(keys, ("orders", "web"), strict=True)
    )
    assert openssl_verifies(web, bundle.roots_pem, bundle.crl_pem)
    assert openssl_verifies(orders, bundle.roots_pem, bundle.crl_pem, "-verify_hostname", "orders.shop.test")
    ends = (web, keys[1]), (orders, keys[0])
    assert handshake(*ends, bundle.roots_pem, "orders.shop.test", bundle.crl_pem) == ""
    assert "Hostname mismatch" in handshake(*ends, bundle.roots_pem, "web.shop.test")


def test_the_issuing_certificate_is_for_one_trust_domain_and_has_nothing_below(shared: Authority) -> None:
    root = shared.bundle(NOW).roots_pem
    text = openssl_text(issue(shared).partition(b"-----END CERTIFICATE-----\n")[2])
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0" in text
    assert "X509v3 Name Constraints: critical\n                Permitted:\n                  URI:shop.test" in text
    assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign" in text
    assert "URI:spiffe://shop.test\n" in text
    assert "CA:TRUE, pathlen:1" in openssl_text(root)
    ends = [certificate.not_valid_after_utc.timestamp() for certificate in read_certificates(root)]
    assert ends == [int(NOW + 3652 * DAY)]


def test_the_second_look_agrees(shared: Authority) -> None:
    assert shared.verify(issue(shared), NOW) == ORDERS
    assert shared.verify(issue(shared, NodeId(DOMAIN, "alpha")), NOW) == NodeId(DOMAIN, "alpha")


def test_the_second_look_takes_a_leaf_alone(shared: Authority) -> None:
    leaf = certificates_pem(read_certificates(issue(shared))[:1])
    assert shared.verify(leaf, NOW) == ORDERS
    with pytest.raises(CertificateError, match="no certificates"):
        shared.verify(b"", NOW)


# --- the directory


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}


def test_keys_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Authority.create(tmp_path / "ca", DOMAIN, NOW)
    finally:
        os.umask(before)
    found = modes(tmp_path / "ca")
    assert found.pop("ca") == 0o700
    assert set(found.values()) == {0o600}
    assert sorted(name.partition("-")[0] + Path(name).suffix for name in found) == [
        "authority.json.json", "intermediate.key", "intermediate.pem", "root.key",
    ]  # fmt: skip


def test_a_key_that_others_may_read_is_not_used(made: Authority, tmp_path: Path) -> None:
    [key] = (tmp_path / "ca").glob("intermediate-*.key")
    key.chmod(0o640)
    with pytest.raises(AuthorityError, match=f"chmod 600 {key}"):
        Authority.open(tmp_path / "ca", DOMAIN)


def test_it_is_the_same_after_a_restart(made: Authority, tmp_path: Path) -> None:
    made.revoke({7: NOW + DAY}, NOW)
    again = Authority.open(tmp_path / "ca", DOMAIN)
    assert again.bundle(NOW) == made.bundle(NOW)
    assert again.revoked == {7}
    assert again.verify(issue(made), NOW) == ORDERS


def test_there_is_one_authority_in_a_directory(made: Authority, tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match=r"there is an authority in .* already"):
        Authority.create(tmp_path / "ca", DOMAIN, NOW)


def test_no_authority(tmp_path: Path) -> None:
    with pytest.raises(NoAuthorityError, match="`septum ca init` makes one"):
        Authority.open(tmp_path / "ca", DOMAIN)


def test_another_meshs_authority(made: Authority, tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match=r"is that of `shop\.test`, and the mesh says `other\.test`"):
        Authority.open(tmp_path / "ca", "other.test")


@pytest.mark.parametrize("domain", [".shop.test", "shop.", "a..b"])
def test_a_trust_domain_that_is_no_host_name(tmp_path: Path, domain: str) -> None:
    with pytest.raises(AuthorityError, match="is no host name"):
        Authority.create(tmp_path / "ca", domain, NOW)


def test_a_key_that_is_missing_or_anothers(made: Authority, tmp_path: Path) -> None:
    [key] = (tmp_path / "ca").glob("intermediate-*.key")
    key.write_bytes(new_key())
    with pytest.raises(AuthorityError, match="is not the key of the certificate beside it"):
        Authority.open(tmp_path / "ca", DOMAIN)
    key.unlink()
    with pytest.raises(AuthorityError, match=rf"{key.name}: No such file"):
        Authority.open(tmp_path / "ca", DOMAIN)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"trust_domain": "shop.test", "issuing": 3}', b"\xff"])
def test_a_ledger_that_cannot_be_read(made: Authority, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca" / "authority.json").write_bytes(content)
    with pytest.raises(AuthorityError, match=r"authority\.json cannot be read: .*backup"):
        Authority.open(tmp_path / "ca", DOMAIN)


def test_the_roots_key_can_be_encrypted(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca", DOMAIN, NOW, passphrase=b"correct horse")
    [key] = (tmp_path / "ca").glob("root-*.key")
    assert is_encrypted(key.read_bytes())
    assert "ENCRYPTED PRIVATE KEY" in key.read_text()
    assert "PRIVATE KEY-----" in openssl("pkey", "-in", str(key), "-passin", "pass:correct horse")


# --- what is trusted


def test_a_revoked_certificate_is_refused_by_all(made: Authority) -> None:
    key, other = new_key(), new_key()
    gone, stays = (made.issue(csr(k), ORDERS, HOUR, NOW) for k in (key, other))
    made.revoke({gone.serial: gone.not_after}, NOW)
    bundle = made.bundle(NOW)
    assert not openssl_verifies(gone.chain_pem, bundle.roots_pem, bundle.crl_pem)
    assert openssl_verifies(stays.chain_pem, bundle.roots_pem, bundle.crl_pem)
    ends = (gone.chain_pem, key), (stays.chain_pem, other)
    assert "certificate revoked" in handshake(*ends, bundle.roots_pem, "orders.shop.test", bundle.crl_pem)
    assert handshake(ends[1], ends[1], bundle.roots_pem, "orders.shop.test", bundle.crl_pem) == ""
    with pytest.raises(CertificateError, match="is revoked"):
        made.verify(gone.chain_pem, NOW)
    assert made.verify(stays.chain_pem, NOW) == ORDERS


def test_revocations_are_forgotten_when_the_certificates_have_ended(made: Authority) -> None:
    made.revoke({1: NOW + 10, 2: NOW + 1000}, NOW)
    made.revoke({3: NOW + 1000}, NOW + 20)
    assert made.revoked == {2, 3}


def test_a_list_of_revoked_certificates_outlives_a_partition(shared: Authority) -> None:
    crl = x509.load_pem_x509_crl(shared.bundle(NOW).crl_pem)
    assert crl.next_update_utc.timestamp() > NOW + 3600 * DAY
    assert crl.last_update_utc.timestamp() < NOW - 3600, "a clock that is an hour behind takes it too"


def test_a_bundle_is_the_same_to_the_byte_until_it_changes(made: Authority, tmp_path: Path) -> None:
    first = made.bundle(NOW)
    assert made.bundle(NOW + 1000) == first == Authority.open(tmp_path / "ca", DOMAIN).bundle(NOW)
    made.revoke({1: NOW + 10}, NOW)
    second = made.bundle(NOW)
    assert second.crl_pem != first.crl_pem
    made.revoke({1: NOW + 10}, NOW + 1)
    assert made.bundle(NOW) == second, "revoked once more, nothing changes"


def test_the_bundle_in_spiffes_form(shared: Authority) -> None:
    bundle = shared.bundle(NOW)
    [root] = read_certificates(bundle.roots_pem)
    read = json.loads(bundle.spiffe_json)
    [key] = read["keys"]
    assert (read["spiffe_sequence"], read["spiffe_refresh_hint"]) == (1, 3600)
    assert (key["use"], key["kty"], key["crv"]) == ("x509-svid", "EC", "P-256")
    assert [b64decode(one) for one in key["x5c"]] == [root.public_bytes(DER)]
    numbers = root.public_key().public_numbers()
    assert [int.from_bytes(urlsafe_b64decode(key[axis] + "=")) for axis in "xy"] == [numbers.x, numbers.y]


def test_the_spiffe_library_reads_the_bundle_and_the_certificates(shared: Authority) -> None:
    from spiffe import TrustDomain, X509Svid
    from spiffe.bundle.x509_bundle.x509_bundle import X509Bundle

    key = new_key()
    svid = X509Svid.parse(shared.issue(csr(key), ORDERS, HOUR, NOW).chain_pem, key)
    assert str(svid.spiffe_id) == "spiffe://shop.test/orders"
    read = X509Bundle.parse(TrustDomain(DOMAIN), shared.bundle(NOW).roots_pem)
    assert len(read.x509_authorities) == 1


def test_when_every_root_has_ended(shared: Authority) -> None:
    with pytest.raises(AuthorityError, match="every root has ended"):
        shared.bundle(NOW + 4000 * DAY)


def test_issue_rate(shared: Authority) -> None:
    request, started, count = csr(new_key()), time.perf_counter(), 500
    for _ in range(count):
        shared.issue(request, ORDERS, HOUR, NOW)
    rate = count / (time.perf_counter() - started)
    print(f"issued {rate:.0f} certificates a second")
    assert rate > 200
