from __future__ import annotations

from dataclasses import replace

import pytest

import meshes
from septum.model.diagnostic import Span
from septum.model.mesh import Address, External, Mesh, Mode, Workload
from septum.model.spiffe import SpiffeId


@pytest.fixture
def mesh() -> Mesh:
    return meshes.policy().mesh


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9101", Address("127.0.0.1", 9101)),
        ("[::1]:80", Address("::1", 80)),
        ("[0:0::1]:80", Address("::1", 80)),
        ("[2001:DB8::A]:65535", Address("2001:db8::a", 65535)),
        ("127.0.0.1:080", Address("127.0.0.1", 80)),
    ],
)
def test_an_address_has_one_form(text: str, expected: Address) -> None:
    assert Address.parse(text) == expected
    assert Address.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "9101", ":9101", "localhost:9101", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
     "127.0.0.1:123456", "127.0.0.256:1", "127.0.0.01:1", "127.0.0:1", "1.2.3.4.5:1", "::1:80", "[::1]", "[::g]:1",
     "[1.2.3.4]:1", "[:::]:1", "\u0661.2.3.4:1", "1.2.3.4:\u0661", "127.0.0.1:80 ", "127.0.0.1:+80",
     "[fe80::1%eth0]:1"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|port|IP"):
        Address.parse(text)


def test_a_workload_is_enforced_by_its_segment_unless_it_says_otherwise(mesh: Mesh) -> None:
    modes = {name: mesh.mode(workload) for name, workload in mesh.workloads.items()}
    assert modes == {
        "storefront": Mode.OBSERVE, "orders": Mode.OBSERVE, "payments": Mode.ENFORCE, "ledger": Mode.ENFORCE,
    }  # fmt: skip
    assert mesh.mode(replace(mesh.workloads["orders"], mode=Mode.ENFORCE)) is Mode.ENFORCE
    assert mesh.mode(replace(mesh.workloads["ledger"], mode=Mode.OBSERVE)) is Mode.OBSERVE


def test_members_and_identities(mesh: Mesh) -> None:
    assert mesh.members("core") == ("orders",)
    assert mesh.members("nothing") == ()
    assert str(mesh.spiffe("orders")) == "spiffe://shop.test/orders"


@pytest.mark.parametrize(
    "authority",
    ["orders", "orders:80", "orders:9102", "orders.", "orders.:9102", "orders.shop.test", "orders.shop.test:80",
     "orders.shop.test.", "127.0.0.1:9102", "localhost:9102"],
)  # fmt: skip
def test_names_by_which_callers_reach_a_workload(mesh: Mesh, authority: str) -> None:
    assert mesh.resolve(authority) == "orders"


@pytest.mark.parametrize(
    "authority",
    ["", ".", "Orders", "orders:81", "orders:9101", "orders..", "orders.other.test", "xorders", "orders:", "127.0.0.1",
     "127.0.0.1:80", "localhost", "localhost:80", "[::1]:9102", "orders@storefront", "orders:9102:80"],
)  # fmt: skip
def test_other_names_are_nobody(mesh: Mesh, authority: str) -> None:
    assert mesh.resolve(authority) is None


def test_every_authority_of_a_workload_resolves_to_it(mesh: Mesh) -> None:
    for workload in mesh.workloads.values():
        for authority in mesh.authorities(workload):
            assert mesh.resolve(authority) == workload.name


WIDE = """\
mesh: shop
trust_domain: shop.test
segments: {core: null}
nodes: {alpha: {inbound: 10.0.0.11:7443}, beta: {inbound: 10.0.0.12:7443}}
workloads:
  web: {segment: core, at: 127.0.0.1:9101, protocol: http, node: alpha}
  orders: {segment: core, at: 127.0.0.1:9101, protocol: http, node: beta}
  ledger: {segment: core, at: 10.0.0.12:9104, protocol: tcp, node: beta}
external:
  partner: {host: api.partner.test, port: 8443, protocol: http, originate_tls: true}
  weather: {host: 2001:db8::1, protocol: http}
  bank: {host: bank.test, protocol: tls}
  clock: {host: 192.0.2.7, port: 123, protocol: tcp}
"""


@pytest.fixture
def wide() -> Mesh:
    return meshes.policy(mesh=WIDE).mesh


def test_targets_are_workloads_and_places_outside(wide: Mesh, mesh: Mesh) -> None:
    assert list(wide.targets) == ["web", "orders", "ledger", "partner", "weather", "bank", "clock"]
    assert wide.target("web") is wide.workloads["web"]
    assert wide.target("bank") is (wide.external or {})["bank"]
    assert wide.target("10.0.0.12") is None
    assert list(mesh.targets) == list(mesh.workloads)


def test_a_node_fronts_what_names_it_and_the_only_node_fronts_everything(wide: Mesh, mesh: Mesh) -> None:
    assert wide.on("alpha") == ("web",)
    assert wide.on("beta") == ("orders", "ledger")
    assert wide.on("gamma") == wide.on("") == ()
    assert mesh.on("whatever it is called") == mesh.on("") == tuple(mesh.workloads)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("web", ["web", "web:80", "web:9101", "web.shop.test", "web.shop.test:80", "web.shop.test:9101"]),
        ("partner", ["partner", "partner:80", "partner:8443", "api.partner.test", "api.partner.test:80",
                     "api.partner.test:8443"]),
        ("weather", ["weather", "weather:80", "[2001:db8::1]", "[2001:db8::1]:80"]),
        ("bank", ["bank:443", "bank.test:443"]),
        ("clock", ["clock:123", "192.0.2.7:123"]),
    ],
)  # fmt: skip
def test_the_names_that_mean_the_same_on_every_node(wide: Mesh, target: str, expected: list[str]) -> None:
    assert list(wide.names(wide.targets[target])) == expected
    for node in ("alpha", "beta", "gamma", ""):
        assert {wide.resolve(name, node) for name in expected} == {target}


def test_an_address_means_what_is_there_on_the_node_that_is_asked(wide: Mesh) -> None:
    for authority in ("127.0.0.1:9101", "localhost:9101"):
        assert wide.resolve(authority, "alpha") == "web"
        assert wide.resolve(authority, "beta") == "orders"
        assert wide.resolve(authority) is None
        assert wide.resolve(authority, "gamma") is None
    assert wide.resolve("10.0.0.12:9104", "beta") == "ledger"
    assert wide.resolve("10.0.0.12:9104", "alpha") is None
    assert set(wide.authorities(wide.targets["orders"])) - set(wide.names(wide.targets["orders"])) == {
        "127.0.0.1:9101", "localhost:9101",
    }  # fmt: skip
    assert list(wide.authorities(wide.targets["bank"])) == list(wide.names(wide.targets["bank"]))


def test_in_a_mesh_of_one_node_its_name_plays_no_part(mesh: Mesh) -> None:
    assert mesh.resolve("127.0.0.1:9102", "whatever it is called") == "orders"


@pytest.mark.parametrize("authority", ["bank", "bank:80", "bank.test", "bank.test:80", "[2001:db8::1]:81", "clock:443"])
def test_a_port_that_a_place_outside_does_not_have_is_not_the_place(wide: Mesh, authority: str) -> None:
    assert wide.resolve(authority, "alpha") is None


def test_a_place_outside_has_a_mode_of_its_own(wide: Mesh) -> None:
    bank = wide.targets["bank"]
    assert isinstance(bank, External)
    assert wide.mode(bank) is Mode.ENFORCE
    assert wide.mode(replace(bank, mode=Mode.OBSERVE)) is Mode.OBSERVE


def test_where_something_stands_plays_no_part_in_what_it_is(mesh: Mesh) -> None:
    orders = mesh.workloads["orders"]
    moved = replace(orders, span=Span("elsewhere", 1, 1, 1, 1))
    assert moved == orders
    assert moved.canonical == orders.canonical
    assert b"elsewhere" not in moved.canonical


def test_all_that_a_workload_says_is_in_its_canonical_form(mesh: Mesh) -> None:
    orders = mesh.workloads["orders"]
    others: list[Workload] = [
        replace(orders, segment="pci"), replace(orders, at=Address("127.0.0.1", 1)), replace(orders, health=None),
        replace(orders, websocket=True), replace(orders, path_parameters=True), replace(orders, ignore_case=True),
        replace(orders, mode=Mode.OBSERVE), replace(orders, outbound=Address("127.0.0.1", 1)),
        replace(orders, dials={"ledger": Address("127.0.0.1", 1)}), replace(orders, name="x"),
        replace(orders, node="x"),
    ]  # fmt: skip
    assert len({workload.canonical for workload in (orders, *others)}) == len(others) + 1


@pytest.mark.parametrize(("domain", "name"), [("", "a"), ("A", "a"), ("a/b", "a"), ("a" * 256, "a"), ("a", "")])
def test_a_spiffe_id_is_valid_once_it_exists(domain: str, name: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        SpiffeId(domain, name)


@pytest.mark.parametrize("name", ["-a", "a-", "a.b", "a_b", "A", "a" * 64, "a/b", "a\n", "é", "\u0661"])
def test_a_workload_name_is_a_dns_label(name: str) -> None:
    with pytest.raises(ValueError, match="not a workload name"):
        SpiffeId("shop.test", name)
