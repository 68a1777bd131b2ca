"""What nodes ask for: each gets what is its own, by its certificate, and says how it is."""

from __future__ import annotations

import asyncio

import pytest
from control_world import NOW, World

from septum.control.membership import FRESH, NODE_LIFETIME, WORKLOAD_LIFETIME, digest_of
from septum.control.registry import Standing
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.leaf import read_leaf
from septum.identity.names import ControlId, Identity, JoinId, NodeId, WorkloadId
from septum.model.spiffe import SpiffeId
from septum.rpc.messages import Enrol, Orders, Renew, Report, Sign
from septum.rpc.server import CallRefused, Peer

pytestmark = pytest.mark.anyio
TD = "shop.test"
APP = Peer("node", "app")


def certificate(authority: Authority, identity: Identity, now: float = NOW) -> bytes:
    return authority.issue(csr(new_key()), identity, 600, now).chain_pem


# --- joining


async def test_a_token_makes_a_node(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    enrolled = await hosts.join("app")
    leaf = read_leaf(enrolled.chain)
    assert (enrolled.node, enrolled.mesh, enrolled.trust_domain) == ("app", "shop", TD)
    assert (leaf.uri, leaf.not_after) == (f"spiffe://{TD}/septum/node/app", NOW + NODE_LIFETIME)
    assert enrolled.roots == hosts.authority.bundle(NOW).roots_pem
    assert hosts.membership.recognise(enrolled.chain) == Peer("node", "app", enrolled.chain)
    assert hosts.membership.issued == {"node": 1}


async def test_the_answer_to_a_token_may_be_lost_and_asked_for_again(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    token, key = hosts.token("app"), new_key()
    await hosts.membership.enrol(token, Enrol(csr(key)))
    again = await hosts.membership.enrol(token, Enrol(csr(key)))
    assert hosts.membership.recognise(again.chain).name == "app"


async def test_a_token_is_of_no_use_with_another_key(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    token = hosts.token("app")
    await hosts.membership.enrol(token, Enrol(csr(new_key())))
    with pytest.raises(CallRefused, match="the token was used already"):
        await hosts.membership.enrol(token, Enrol(csr(new_key())))
    assert hosts.membership.issued == {"node": 1}


async def test_a_token_that_has_expired_lets_nobody_in(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    token = hosts.token("app", lifetime=60)
    hosts.now += 61
    with pytest.raises(CallRefused, match="the token has expired"):
        await hosts.membership.enrol(token, Enrol(csr(new_key())))
    assert hosts.registry.members() == {}


async def test_what_is_no_request_uses_no_token(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    token = hosts.token("app")
    with pytest.raises(CallRefused):
        await hosts.membership.enrol(token, Enrol(b"nonsense"))
    assert (await hosts.membership.enrol(token, Enrol(csr(new_key())))).node == "app"


async def test_a_node_is_served_less_when_its_token_names_less(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app", {"orders"})
    agent = hosts.node("app")
    await hosts.plane.ready(5.0, "app")
    names = {name for _, name in agent.holds}
    assert "outbound/orders" in names
    assert "outbound/payments" not in names
    await hosts.join("app")
    await hosts.plane.ready(5.0, "app")
    assert "outbound/payments" in {name for _, name in agent.holds}


async def test_without_an_authority_or_a_mesh_nobody_joins(world: World) -> None:
    with pytest.raises(CallRefused, match="no authority: `septum ca init`"):
        await world.membership.enrol(world.token("app"), Enrol(csr(new_key())))
    with pytest.raises(CallRefused, match="no authority"):
        await world.membership.renew(APP, Renew(csr(new_key())))


# --- who calls


async def test_who_joins_is_known_by_the_token_alone(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    proof = certificate(hosts.authority, JoinId(TD, "t1"))
    assert hosts.membership.recognise(proof) == Peer("join", "t1", proof)


@pytest.mark.parametrize("identity", [WorkloadId(SpiffeId(TD, "orders")), ControlId(TD)])
async def test_who_is_no_node_is_refused(hosts: World, identity: Identity) -> None:
    await hosts.apply_hosts(patience=0)
    with pytest.raises(CallRefused, match=f"{identity.uri} is not a node"):
        hosts.membership.recognise(certificate(hosts.authority, identity))


async def test_another_trust_domain_is_no_node_of_this_mesh(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    other = Authority.create(hosts.path.parent / "other", "other.test", NOW)
    with pytest.raises(CallRefused, match="no certificate of this mesh"):
        hosts.membership.recognise(certificate(other, NodeId("other.test", "app")))
    with pytest.raises(CallRefused, match="no certificate of this mesh"):
        hosts.membership.recognise(b"nonsense")


async def test_a_certificate_that_the_node_was_not_given_is_refused(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    stray = certificate(hosts.authority, NodeId(TD, "app"))
    with pytest.raises(CallRefused, match="was removed from the mesh"):
        hosts.membership.recognise(stray)
    await hosts.join("app")
    with pytest.raises(CallRefused, match="is not valid any more"):
        hosts.membership.recognise(stray)


async def test_a_certificate_ends(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    enrolled = await hosts.join("app")
    hosts.now += NODE_LIFETIME + 1
    with pytest.raises(CallRefused, match="has ended; join again with a new token"):
        hosts.membership.recognise(enrolled.chain)


async def test_a_removed_node_is_refused_and_its_old_certificate_stays_so(hosts: World) -> None:
    await hosts.spread()
    old = await hosts.join("app")
    await hosts.ask("remove", node="app")
    with pytest.raises(CallRefused, match="node app was removed from the mesh; join again with a new token"):
        hosts.membership.recognise(old.chain)
    new = await hosts.join("app")
    assert hosts.membership.recognise(new.chain).name == "app"
    with pytest.raises(CallRefused, match="is not valid any more"):
        hosts.membership.recognise(old.chain)


async def test_a_removed_node_does_not_come_back_with_the_token_it_joined_with(hosts: World) -> None:
    await hosts.spread()
    token, key = hosts.token("app", lifetime=3600), new_key()
    await hosts.membership.enrol(token, Enrol(csr(key)))
    await hosts.ask("remove", node="app")
    with pytest.raises(CallRefused, match="the token is not known here"):
        await hosts.membership.enrol(token, Enrol(csr(key)))
    assert hosts.registry.members()["app"].standing is Standing.REMOVED


async def test_a_removed_node_does_not_come_back_with_a_token_made_before(hosts: World) -> None:
    await hosts.spread()
    await hosts.join("app")
    token = hosts.token("app", lifetime=3600)
    await hosts.ask("remove", node="app")
    with pytest.raises(CallRefused, match="the token is not known here"):
        await hosts.membership.enrol(token, Enrol(csr(new_key())))


# --- certificates


async def test_a_node_renews_its_own(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app")
    signed = await hosts.membership.renew(APP, Renew(csr(new_key())))
    assert read_leaf(signed.chain).uri == f"spiffe://{TD}/septum/node/app"
    assert hosts.membership.recognise(signed.chain).name == "app"
    assert signed.roots == hosts.authority.bundle(NOW).roots_pem


async def test_a_node_is_given_the_certificates_of_its_workloads(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app")
    signed = await hosts.membership.sign(APP, Sign("orders", csr(new_key())))
    leaf = read_leaf(signed.chain)
    assert (leaf.uri, leaf.not_after) == (f"spiffe://{TD}/orders", NOW + WORKLOAD_LIFETIME)
    assert leaf.serial in hosts.registry.certificates("app"), "or it could not be revoked with its node"
    assert hosts.membership.issued == {"node": 1, "workload": 1}


@pytest.mark.parametrize("workload", ["storefront", "ledger", "septum", "septum/node/app", "", "nobody", "../orders"])
async def test_a_node_is_not_given_those_of_others(hosts: World, workload: str) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app")
    with pytest.raises(CallRefused, match="node app does not front"):
        await hosts.membership.sign(APP, Sign(workload, csr(new_key())))
    assert "workload" not in hosts.membership.issued


async def test_a_node_is_not_given_what_its_token_did_not_name(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app", {"orders", "ledger"})
    assert await hosts.membership.sign(APP, Sign("orders", csr(new_key())))
    for workload in ("payments", "ledger"):  # the one is not named, and the other is on another node
        with pytest.raises(CallRefused, match=f"node app does not front {workload}"):
            await hosts.membership.sign(APP, Sign(workload, csr(new_key())))


async def test_a_request_that_is_none_is_refused_in_words(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app")
    for ask in (hosts.membership.renew(APP, Renew(b"")), hosts.membership.sign(APP, Sign("orders", b"x"))):
        with pytest.raises(CallRefused, match=r"\w{3}"):
            await ask


# --- reports


async def test_the_answer_to_a_report_is_what_is_wanted(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app")
    orders = await hosts.membership.report(APP, Report(septum="1", clock=NOW))
    assert orders == Orders(issuer=hosts.authority.issuer)
    assert hosts.membership.heard["app"].at == NOW
    hosts.registry.set_standing("app", Standing.DRAINING)
    assert (await hosts.membership.report(APP, Report())).drain


async def test_a_node_that_trusts_other_roots_is_told_which(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    await hosts.join("app")
    roots = hosts.authority.bundle(NOW).roots_pem
    assert (await hosts.membership.report(APP, Report(roots=digest_of(roots)))).roots == b""
    assert (await hosts.membership.report(APP, Report(roots="another"))).roots == roots
    assert (await hosts.membership.report(APP, Report(roots=""))).roots == b"", "it has none, and needs none"


async def test_without_an_authority_there_is_only_a_report(world: World) -> None:
    assert await world.membership.report(Peer("node", "n1"), Report()) == Orders()


async def test_the_more_nodes_there_are_the_less_often_each_should_report(world: World) -> None:
    async def every(nodes: int) -> float:
        for number in range(nodes):
            await world.membership.report(Peer("node", f"n{number}"), Report())
        return (await world.membership.report(Peer("node", "n0"), Report())).every

    assert [await every(nodes) for nodes in (400, 600, 1_500)] == [0.0, 3.0, FRESH / 2]


async def test_what_nodes_report_can_be_waited_for(hosts: World) -> None:
    await hosts.apply_hosts(patience=0)
    drained = lambda: any(heard.report.drained for heard in hosts.membership.heard.values())  # noqa: E731
    assert not await hosts.membership.until(drained, 0.01)
    waiting = asyncio.create_task(hosts.membership.until(drained, 10))
    await hosts.report("app")
    await hosts.report("app", drained=True)
    async with asyncio.timeout(5):
        assert await waiting
