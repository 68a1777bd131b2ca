"""What `septum.yaml` says of nodes, issuers and places outside, once it is read. Mistakes are in tests/policy."""

from __future__ import annotations

import errno

import pytest

import meshes
import strategies
from septum.model.claims import AnyOf, Contains, Equals, Scope, When
from septum.model.mesh import Address, External, Issuer, Mode, Node, Protocol
from septum.policy.load import Loaded, Loader, load
from septum.policy.text import MAX_BYTES

KEYS, CERTIFICATE = strategies.KEYS, strategies.CERTIFICATE
MESH = """\
mesh: shop
trust_domain: shop.test
segments: {core: null}
workloads:
  desk: {segment: core, at: 127.0.0.1:9101, protocol: http}
  orders: {segment: core, at: 127.0.0.1:9102, protocol: http}
"""


def read(more: str, rules: str = "", files: dict[str, bytes | OSError] | None = None) -> Loaded:
    texts: dict[str, bytes | OSError] = {"septum.yaml": (MESH + more).encode(), "policy/a.yaml": rules.encode()}
    return load(texts | (files or {}))


def valid(loaded: Loaded) -> Loaded:
    assert loaded.diagnostics == ()
    return loaded


def codes(loaded: Loaded) -> list[str]:
    return [diagnostic.code for diagnostic in loaded.diagnostics]


def test_nodes() -> None:
    mesh = MESH.replace("http}", "http, node: alpha}") + "nodes: {alpha: {inbound: 10.0.0.11:7443}}\n"
    policy = meshes.policy(mesh=mesh)
    assert policy.mesh.nodes == {"alpha": Node("alpha", Address("10.0.0.11", 7443))}
    assert {workload.node for workload in policy.mesh.workloads.values()} == {"alpha"}


def test_a_mesh_that_lists_an_empty_mapping_of_nodes_lists_none() -> None:
    loaded = valid(read("nodes: {}\n"))
    assert loaded.policy == valid(read("")).policy


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("127.0.0.1:9101", []),
        ("127.9.9.9:9101", []),
        ("'[::1]:9101'", []),
        ("'[::ffff:127.0.0.1]:9101'", []),
        ("10.0.0.11:9101", []),
        ("10.0.0.12:9101", ["SEP408"]),
        ("10.0.0.13:9101", ["SEP408"]),
        ("'[2001:db8::1]:9101'", ["SEP408"]),
        ("0.0.0.0:9101", ["SEP205"]),
    ],
)
def test_a_workload_is_where_its_node_reaches_it_without_a_network(at: str, expected: list[str]) -> None:
    mesh = f"""\
mesh: shop
trust_domain: shop.test
segments: {{core: null}}
nodes: {{alpha: {{inbound: 10.0.0.11:7443}}, beta: {{inbound: 10.0.0.12:7443}}}}
workloads:
  orders: {{segment: core, at: {at}, protocol: http, node: alpha}}
"""
    assert codes(meshes.read(mesh=mesh)) == expected


def test_nodes_on_one_machine_have_loopback_addresses() -> None:
    mesh = MESH.replace("9101, protocol: http", "9101, protocol: http, node: a")
    mesh = mesh.replace("9102, protocol: http", "9102, protocol: http, node: b")
    mesh += "nodes: {a: {inbound: 127.0.0.1:7443}, b: {inbound: 127.0.0.1:7444}}\n"
    assert meshes.read(mesh=mesh).diagnostics == ()


def test_two_nodes_may_use_the_same_addresses_for_all_that_listens_on_them() -> None:
    mesh = """\
mesh: shop
trust_domain: shop.test
segments: {core: null}
nodes: {alpha: {inbound: 10.0.0.11:7443}, beta: {inbound: 10.0.0.12:7443}}
workloads:
  a: {segment: core, at: 127.0.0.1:1, protocol: http, node: alpha, outbound: 127.0.0.1:2, dials: {d: 127.0.0.1:3}}
  b: {segment: core, at: 127.0.0.1:1, protocol: http, node: beta, outbound: 127.0.0.1:2, dials: {d: 127.0.0.1:3}}
  c: {segment: core, at: 127.0.0.1:2, protocol: http, node: alpha}
  d: {segment: core, at: 127.0.0.1:3, protocol: tcp, node: beta}
"""
    assert [(d.code, d.span.line) for d in meshes.read(mesh=mesh).diagnostics] == [("SEP401", 8), ("SEP401", 9)]


def test_issuers() -> None:
    more = """\
issuers:
  login: {issuer: https://login.test, audiences: [shop], jwks: files/keys/login.json}
  partners: {issuer: the partners, audiences: [shop, "443"], jwks: "https://partners.test:8443/keys?of=shop"}
"""
    policy = valid(read(more, files={"files/keys/login.json": KEYS.encode()})).policy
    assert policy is not None
    assert policy.mesh.issuers == {
        "login": Issuer("login", "https://login.test", ("shop",), jwks=KEYS),
        "partners": Issuer(
            "partners", "the partners", ("shop", "443"), jwks_url="https://partners.test:8443/keys?of=shop"
        ),
    }


@pytest.mark.parametrize(
    "url",
    ["https://login.test/keys", "https://login.test", "https://login.test:8443", "https://192.0.2.7/keys",
     "https://[2001:db8::1]:8443/keys", "https://login.test?a=b&c=%20", "http://127.0.0.1:8080/keys",
     "http://127.1.2.3/keys", "http://localhost:8080/keys", "http://[::1]/keys", "https://LOGIN.test/keys"],
)  # fmt: skip
def test_where_keys_may_be_fetched(url: str) -> None:
    policy = valid(read(f"issuers: {{login: {{issuer: x, audiences: [shop], jwks: '{url}'}}}}\n")).policy
    assert policy is not None
    assert policy.mesh.issuers["login"].jwks_url == url


@pytest.mark.parametrize(
    "url",
    ["http://login.test/keys", "http://192.0.2.7/keys", "http://127.0.0.1.login.test/keys", "http://localhost.test/",
     "https://user:secret@login.test/keys", "https://login.test/keys#x", "https://login.test:0/keys",
     "https://login.test:65536/keys", "https://login.test:/keys", "https:///keys", "https://", "ftp://login.test/keys",
     "HTTPS://login.test/keys", "https://login.test/a b", "https://login..test/", "https://[::1/keys",
     "https://[login.test]/keys", "https://300.1.1.1/", "https://login.test\\\\@127.0.0.1/", "file:///etc/passwd",
     "https://login.test/é"],
)  # fmt: skip
def test_where_keys_may_not_be_fetched(url: str) -> None:
    loaded = read(f'issuers: {{login: {{issuer: x, audiences: [shop], jwks: "{url}"}}}}\n')
    assert codes(loaded) == ["SEP205"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (KEYS.encode(), []),
        (b"\xef\xbb\xbf" + KEYS.encode(), ["SEP211"]),
        (b"", ["SEP211"]),
        (b"\xff", ["SEP211"]),
        (b"{}", ["SEP211"]),
        (b'{"keys": []}', ["SEP211"]),
        (b'{"keys": {}}', ["SEP211"]),
        (b'{"keys": [1]}', ["SEP211"]),
        (b'{"keys": [{}]}', ["SEP211"]),
        (b'{"keys": [{"kty": "RSA", "n": NaN}]}', ["SEP211"]),
        (b"[" * 200_000, ["SEP211"]),
        (b'{"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB", "p": "AA"}]}', ["SEP212"]),
        (b'{"keys": [{"kty": "oct", "k": ""}]}', ["SEP212"]),
        (b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n", ["SEP212"]),
        (b" " * (MAX_BYTES + 1), ["SEP108"]),
        (PermissionError(errno.EACCES, "Permission denied"), ["SEP109"]),
    ],
)
def test_what_a_file_of_keys_holds(content: bytes | OSError, expected: list[str]) -> None:
    more = "issuers: {login: {issuer: x, audiences: [shop], jwks: files/login.json}}\n"
    assert codes(read(more, files={"files/login.json": content})) == expected


@pytest.mark.parametrize(
    "path",
    ["login.json", "/etc/passwd", "files", "files/", "files/../septum.yaml", "files/./a", "files//a", "files/.a",
     "files/.git/a", "policy/a.yaml", "files/a~", "../files/a", "septum.yaml"],
)  # fmt: skip
def test_a_file_that_a_setting_names_is_below_files(path: str) -> None:
    mesh = MESH + f"issuers: {{login: {{issuer: x, audiences: [shop], jwks: '{path}'}}}}\n"
    # Whatever could be under that name by mistake is a good key set.
    files: dict[str, bytes | OSError] = {path: KEYS.encode(), "files/a": KEYS.encode()}
    files |= {"policy/a.yaml": b"", "septum.yaml": mesh.encode()}
    assert codes(load(files)) == ["SEP205"]


def test_files_that_nothing_names_are_nobodys_business() -> None:
    files: dict[str, bytes | OSError] = {
        "files/notes.txt": b"\xff", "files/loop": OSError(errno.ELOOP, "a link"), "files": OSError(errno.ENOTDIR, "x"),
        "files/a.yml": b"a: [",
    }  # fmt: skip
    valid(read("", files=files))


def test_places_outside() -> None:
    more = """\
external:
  partner: {host: api.partner.test, protocol: http, originate_tls: true, ca: files/partner.pem}
  plain: {host: plain.test, protocol: http}
  bank: {host: bank.test, protocol: tls, mode: observe}
  clock: {host: "2001:DB8:0::1", port: 123, protocol: tcp}
"""
    policy = valid(read(more, files={"files/partner.pem": CERTIFICATE.encode()})).policy
    assert policy is not None
    assert list((policy.mesh.external or {}).values()) == [
        External("partner", "api.partner.test", 443, Protocol.HTTP, originate_tls=True, ca=CERTIFICATE),
        External("plain", "plain.test", 80, Protocol.HTTP),
        External("bank", "bank.test", 443, Protocol.TCP, sni=True, mode=Mode.OBSERVE),
        External("clock", "2001:db8::1", 123, Protocol.TCP),
    ]


def test_a_mesh_without_places_outside_says_so_or_says_nothing() -> None:
    nothing, empty = valid(read("")).policy, valid(read("external: {}\n")).policy
    assert nothing is not None
    assert empty is not None
    assert (nothing.mesh.external, empty.mesh.external) == (None, {})
    assert nothing.version != empty.version


@pytest.mark.parametrize("host", ["a", "a.b", "xn--bcher-kva.test", "1.test", "192.0.2.7", "2001:db8::1", "a1"])
def test_hosts(host: str) -> None:
    valid(read(f"external: {{x: {{host: '{host}', port: 9000, protocol: tcp}}}}\n"))


@pytest.mark.parametrize(
    "host",
    ["A.test", "a..b", ".a", "a.", "-a", "a-", "a_b", "é.test", "a b", "1", "1.2.3", "1.2.3.256", "0x7f.1", "a/b",
     "a:80", "[::1]", "fe80::1%eth0", "*", "*.test", "::", "0.0.0.0", "a" * 64, "a." * 127 + "test",
     "localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1"],
)  # fmt: skip
def test_what_is_no_host(host: str) -> None:
    assert codes(read(f"external: {{x: {{host: '{host}', port: 9000, protocol: tcp}}}}\n")) == ["SEP205"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("x", Equals("x")),
        ('"x"', Equals("x")),
        ("1", Equals(1)),
        ("-1", Equals(-1)),
        ("0", Equals(0)),
        ("9007199254740991", Equals(9007199254740991)),
        ('"1"', Equals("1")),
        ("'007'", Equals("007")),
        ("true", Equals(True)),
        ("false", Equals(False)),
        ('"true"', Equals("true")),
        ("True", Equals("True")),
        ("yes", Equals("yes")),
        ("2027-01-31", Equals("2027-01-31")),
        ("1.2.3", Equals("1.2.3")),
        ('""', Equals("")),
        ("{equals: 1}", Equals(1)),
        ('{any_of: [a, 1, "1", true]}', AnyOf(("a", 1, "1", True))),
        ("{contains: support}", Contains("support")),
        ("{contains: false}", Contains(False)),
        ("{scope: orders:read}", Scope("orders:read")),
        ("{scope: 1}", Scope("1")),
    ],
)
def test_what_a_claim_is_tested_for(written: str, expected: object) -> None:
    rules = f"allow:\n  - {{from: desk, to: orders, http: GET /, when: {{claims: {{x: {written}, iss: me}}}}}}\n"
    more = "issuers: {login: {issuer: me, audiences: [shop], jwks: https://login.test/}}\n"
    policy = valid(read(more, rules)).policy
    assert policy is not None
    assert policy.rules[0].when == When((("iss", Equals("me")), ("x", expected)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "written",
    ["1.5", "1e3", "-0", "+1", "007", "1_000", ".5", ".5e1", "0x1F", "0o7", "-.inf", ".NaN", "null", "NULL", "~", "",
     "9007199254740992", "-9007199254740992", "9" * 5000, "{scope: ''}", "{scope: 'a b'}", '{scope: \'a"b\'}', "{}",
     "[]", "{equals: {}}", "{contains: [x]}"],
)  # fmt: skip
def test_what_a_claim_cannot_be_tested_for(written: str) -> None:
    rules = f"allow:\n  - {{from: desk, to: orders, http: GET /, when: {{claims: {{x: {written}, iss: me}}}}}}\n"
    more = "issuers: {login: {issuer: me, audiences: [shop], jwks: https://login.test/}}\n"
    assert read(more, rules).errors


def test_a_condition_on_a_rule_about_an_empty_segment() -> None:
    more = "issuers: {login: {issuer: me, audiences: [shop], jwks: https://login.test/}}\n"
    mesh = (MESH + more).replace("{core: null}", "{core: null, later: null}")
    rule = "allow:\n  - {from: desk, to: segment:later, %s when: {claims: {iss: me}}}\n"
    assert codes(meshes.read(rule % "", mesh)) == ["SEP302", "SEP404"]
    assert codes(meshes.read(rule % "http: GET /,", mesh)) == ["SEP404"]


def test_a_loader_reads_the_mesh_again_when_a_file_that_it_names_changes_and_keeps_the_rules() -> None:
    more = "issuers: {login: {issuer: me, audiences: [shop], jwks: files/login.json}}\n"
    rules = b"allow:\n  - {from: desk, to: orders, http: GET /, when: {claims: {iss: me}}}\n"
    files: dict[str, bytes | OSError] = {"septum.yaml": (MESH + more).encode(), "policy/a.yaml": rules}
    loader = Loader()
    before = loader.load(files | {"files/login.json": KEYS.encode()}).policy
    other = KEYS.replace('"kid": "1"', '"kid": "2"')
    after = loader.load(files | {"files/login.json": other.encode()}).policy
    assert before is not None
    assert after is not None
    assert after.mesh.issuers["login"].jwks == other
    assert after.version != before.version
    assert after.rules[0] is before.rules[0]
    assert loader.load(files | {"files/login.json": OSError(0, "gone")}).policy is None
