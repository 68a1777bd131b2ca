"""Where outbound listeners open of workloads that do not say so."""

from __future__ import annotations

import socket
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshes import SHOP, policy
from septum.model.mesh import Address, Mesh
from septum.node.ports import FIRST_PORT, is_free, pick_outbound

MESH = policy(mesh=SHOP).mesh


def everything(_: Address) -> bool:
    return True


def at(port: int) -> Address:
    return Address("127.0.0.1", port)


def test_the_next_ports_in_the_order_of_the_mesh() -> None:
    picked = pick_outbound(MESH, {}, everything)
    assert picked == {name: at(FIRST_PORT + n) for n, name in enumerate(MESH.workloads)}


def test_what_somebody_has_is_passed_over() -> None:
    taken = {at(FIRST_PORT), at(FIRST_PORT + 2)}
    picked = pick_outbound(MESH, {}, lambda address: address not in taken)
    assert [address.port - FIRST_PORT for address in picked.values()] == [1, 3, 4, 5]


def test_what_a_workload_had_it_keeps_also_while_its_listener_is_open() -> None:
    picked = pick_outbound(MESH, {"orders": at(FIRST_PORT + 9)}, lambda address: address.port != FIRST_PORT + 9)
    assert picked["orders"] == at(FIRST_PORT + 9)


def test_what_a_removed_workload_had_is_free() -> None:
    assert pick_outbound(MESH, {"gone": at(FIRST_PORT)}, everything)["storefront"] == at(FIRST_PORT)


def with_outbound(mesh: Mesh, **outbound: Address) -> Mesh:
    workloads = {n: replace(w, outbound=outbound.get(n, w.outbound)) for n, w in mesh.workloads.items()}
    return replace(mesh, workloads=workloads)


def test_a_workload_that_chooses_is_not_picked_for() -> None:
    mesh = with_outbound(MESH, orders=at(FIRST_PORT))
    picked = pick_outbound(mesh, {"orders": at(FIRST_PORT + 5), "ledger": at(FIRST_PORT)}, everything)
    assert "orders" not in picked
    assert picked["ledger"] != at(FIRST_PORT), "another one has chosen what it had"


PORTS = st.integers(FIRST_PORT, FIRST_PORT + 6).map(at)


@given(
    st.dictionaries(st.sampled_from([*MESH.workloads, "gone"]), PORTS),
    st.dictionaries(st.sampled_from(list(MESH.workloads)), PORTS),
    st.sets(PORTS),
)
def test_no_two_listeners_open_at_one_address(
    kept: dict[str, Address], chosen: dict[str, Address], taken: set[Address]
) -> None:
    kept = dict({address: (name, address) for name, address in kept.items()}.values())  # the state keeps them apart
    mesh = with_outbound(MESH, **chosen)
    picked = pick_outbound(mesh, kept, lambda address: address not in taken)
    declared = {address for w in mesh.workloads.values() for address in (w.at, w.outbound) if address}
    assert picked.keys() == mesh.workloads.keys() - chosen.keys()
    assert len(set(picked.values())) == len(picked)
    assert not declared & set(picked.values())
    assert not {address for name, address in picked.items() if kept.get(name) != address} & taken
    assert pick_outbound(mesh, picked, lambda _: False) == picked


def test_whether_a_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(at(port))
    assert is_free(at(port))
    assert not is_free(Address("192.0.2.1", 80)), "an address that is not this host's"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert not is_free(Address("::1", listener.getsockname()[1]))
