from __future__ import annotations

from dataclasses import replace

import pytest

import meshes
from septum.model.diagnostic import Span
from septum.model.mesh import Address, Mesh, Mode, Workload
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
