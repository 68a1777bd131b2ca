"""Certificates are there when they are wanted, are renewed in time, and outlast whoever signs them."""

from __future__ import annotations

import asyncio
import os
import resource as limits
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from structlog.testing import capture_logs

from fakes.waiting import until
from septum.identity.authority import Authority
from septum.identity.names import NodeId, WorkloadId
from septum.identity.rotation import Rotation, Step, carry_out
from septum.model.snapshot import Resource
from septum.model.spiffe import SpiffeId
from septum.node.certifier import Certifier
from septum.node.credentials import NODE, Credentials
from septum.rpc.client import ControlRefuses, ControlUnavailable
from septum.rpc.messages import Renew, Sign, Signed

pytestmark = pytest.mark.anyio
NOW, HOUR, TD = 1_800_000_000.0, 3600.0, "shop.test"
LIFETIME = 6 * HOUR
ORDERS, PAYMENTS = f"spiffe://{TD}/orders", f"spiffe://{TD}/payments"


@dataclass
class Control:
    """Signs with a real authority, by a clock of its own; or is away, or refuses some."""

    authority: Authority
    now: float = NOW
    away: bool = False
    refuses: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def sign(self, request: Renew | Sign) -> Signed:
        name = request.workload if isinstance(request, Sign) else NODE
        self.asked.append(name)
        if self.away:
            raise ControlUnavailable("failed to connect")
        if name in self.refuses:
            raise ControlRefuses(self.refuses[name])
        identity = NodeId(TD, "app") if isinstance(request, Renew) else WorkloadId(SpiffeId(TD, name))
        issued = self.authority.issue(request.csr, identity, LIFETIME, self.now)
        return Signed(issued.chain_pem, self.authority.bundle(self.now).roots_pem)


class World:
    """A certifier, its clock and its disk; `served` is what Envoy was given last, by name."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.now = directory / "identity", NOW
        self.control = Control(Authority.create(directory / "ca", TD, NOW - 2 * LIFETIME))
        self.served: list[Mapping[str, Resource]] = []
        self.certifier = self.another()

    def another(self, *, member: bool = True) -> Certifier:
        """The certifier of another start, on the same disk."""
        self.credentials = Credentials(self.directory)
        self.certifier = Certifier(self.credentials, self.control, self.served.append, lambda: self.now, member=member)
        return self.certifier

    @asynccontextmanager
    async def running(self, *workloads: str) -> AsyncIterator[Certifier]:
        certifier = self.certifier
        certifier.want(workloads)
        task = asyncio.create_task(certifier.run())
        try:
            yield certifier
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), "nothing that goes wrong ends it"

    def names(self) -> set[str]:
        return set(self.served[-1]) if self.served else set()

    def end(self, identity: str) -> float:
        """When the certificate that Envoy has ends."""
        (end,) = (c.not_after for c in self.certifier.certificates() if c.identity == identity)
        return end

    async def has(self, *identities: str) -> None:
        await until(lambda: self.names() == set(identities))

    def renews(self) -> None:
        """Say that something changed, so that it looks at once."""
        self.certifier._changed.set()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- what is wanted is there


async def test_what_is_missing_is_asked_for_and_given_to_envoy(world: World) -> None:
    async with world.running("orders", "payments") as certifier:
        await world.has(ORDERS, PAYMENTS)
        assert sorted(world.control.asked) == ["orders", "payments", NODE]
        assert {c.identity for c in certifier.certificates()} == {ORDERS, PAYMENTS, f"spiffe://{TD}/septum/node/app"}
        assert certifier.troubles() == ()
    secret = Secret.FromString(world.served[-1][ORDERS].body)
    kept = world.credentials.of("orders")
    assert kept is not None
    assert secret.tls_certificate.certificate_chain.inline_bytes == kept.chain
    assert secret.tls_certificate.private_key.inline_bytes == kept.key


async def test_the_node_s_own_is_for_nobody_s_envoy(world: World) -> None:
    async with world.running():
        await until(lambda: world.control.asked == [NODE])
        await until(lambda: world.credentials.of(NODE))
    assert all(not served for served in world.served)


async def test_the_control_plane_s_own_machine_has_no_certificate_of_a_node(world: World) -> None:
    world.another(member=False)
    async with world.running("orders"):
        await world.has(ORDERS)
    assert world.control.asked == ["orders"]


@pytest.mark.parametrize("name", ["node", "roots", "member", "joining"])
async def test_a_workload_may_have_any_name(world: World, name: str) -> None:
    async with world.running(name):
        await world.has(f"spiffe://{TD}/{name}")
    assert world.credentials.roots() == world.control.authority.bundle(NOW).roots_pem
    own, workload = world.credentials.of(NODE), world.credentials.of(name)
    assert own is not None
    assert workload is not None
    assert (own.leaf.uri, workload.leaf.uri) == (f"spiffe://{TD}/septum/node/app", f"spiffe://{TD}/{name}")


async def test_workloads_come_and_go(world: World) -> None:
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        certifier.want(["payments", "orders"])
        await world.has(ORDERS, PAYMENTS)
        certifier.want(["payments"])
        await world.has(PAYMENTS)
        assert world.credentials.of("orders") is None, "a key that is of no use is not kept"
        assert world.credentials.of("payments") is not None
        certifier.want([])
        await world.has()
    assert world.control.asked.count("orders") == 1


async def test_what_was_kept_is_used_without_asking(world: World) -> None:
    async with world.running("orders"):
        await world.has(ORDERS)
    world.served.clear()
    world.control.asked.clear()
    world.control.away = True
    world.another()
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        assert certifier.troubles() == ()
    assert world.control.asked == []


async def test_the_roots_that_come_along_are_trusted(world: World) -> None:
    async with world.running("orders"):
        await world.has(ORDERS)
        first = world.credentials.roots()
        carry_out(world.control.authority, Step.PREPARE, Rotation(), NOW)
        world.now += 4 * HOUR
        world.control.now = world.now
        world.renews()
        await until(lambda: world.credentials.roots() != first)
    assert world.credentials.roots() == world.control.authority.bundle(NOW).roots_pem


# --- renewal


async def test_it_is_renewed_at_half_its_life_and_not_before(world: World) -> None:
    async with world.running("orders"):
        await world.has(ORDERS)
        first, asked = world.end(ORDERS), len(world.control.asked)
        world.now += 2.6 * HOUR
        world.renews()
        await asyncio.sleep(0.01)
        assert (world.end(ORDERS), len(world.control.asked)) == (first, asked)
        world.now += 0.8 * HOUR
        world.control.now = world.now
        world.renews()
        await until(lambda: world.end(ORDERS) == world.now + LIFETIME)
        assert len(world.served) == 2


async def test_each_renewal_has_a_key_of_its_own(world: World) -> None:
    async with world.running("orders"):
        await world.has(ORDERS)
        first = world.credentials.of("orders")
        world.now = world.control.now = NOW + 4 * HOUR
        world.renews()
        await until(lambda: world.end(ORDERS) == world.now + LIFETIME)
        second = world.credentials.of("orders")
    assert first is not None
    assert second is not None
    assert first.key != second.key


async def test_who_does_not_sign_any_more_is_followed_at_once(world: World) -> None:
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        certifier.expect_issuer(world.control.authority.issuer)
        await asyncio.sleep(0.01)
        assert len(world.control.asked) == 2, "the same one as before is nothing new"
        carry_out(world.control.authority, Step.PREPARE, Rotation(), NOW)
        carry_out(world.control.authority, Step.ACTIVATE, Rotation(), NOW)
        certifier.expect_issuer(world.control.authority.issuer)
        new = world.control.authority.issuer
        await until(lambda: {c.issuer for c in certifier.certificates()} == {new})
        assert len(world.served) == 2


# --- when it cannot be had


async def test_a_control_plane_that_is_away_is_asked_again_and_takes_nothing_away(world: World) -> None:
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        world.control.away = True
        world.now += 4 * HOUR
        world.renews()
        await until(lambda: "no certificate for orders: failed to connect" in certifier.troubles())
        assert "no certificate for the node: failed to connect" in certifier.troubles()
        assert len(world.served) == 1, "Envoy goes on with what it has"
        asked = len(world.control.asked)
        world.renews()
        await asyncio.sleep(0.01)
        assert len(world.control.asked) == asked, "not in the same moment again"
        world.control.away, world.now = False, world.now + 6
        world.control.now = world.now
        world.renews()
        await until(lambda: certifier.troubles() == ())
        assert world.end(ORDERS) == world.now + LIFETIME


async def test_one_that_has_ended_is_said(world: World) -> None:
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        world.control.away = True
        world.now += LIFETIME + 1
        assert set(certifier.troubles()) == {
            "the certificate of orders has ended",
            "the certificate of the node has ended",
        }


async def test_what_is_refused_to_one_is_not_refused_to_the_others(world: World) -> None:
    world.control.refuses["orders"] = "node app does not front orders"
    async with world.running("orders", "payments") as certifier:
        await world.has(PAYMENTS)
        await until(certifier.troubles)
        assert certifier.troubles() == ("no certificate for orders: node app does not front orders",)
        world.control.refuses.clear()
        world.now += 1
        world.renews()
        await world.has(ORDERS, PAYMENTS)
        assert certifier.troubles() == ()


async def test_a_refusal_of_what_nobody_wants_any_more_is_forgotten(world: World) -> None:
    world.control.refuses["orders"] = "node app does not front orders"
    async with world.running("orders") as certifier:
        await until(certifier.troubles)
        certifier.want([])
        await until(lambda: not certifier.troubles())


async def test_an_answer_that_is_no_certificate_is_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nonsense(_: Renew | Sign) -> Signed:
        return Signed(b"nonsense", b"")

    monkeypatch.setattr(world.control, "sign", nonsense)
    async with world.running("orders") as certifier:
        await until(lambda: len(certifier.troubles()) == 2)
    assert world.names() == set()


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Nothing can be written to any file."""
    before, handler = limits.getrlimit(limits.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits.setrlimit(limits.RLIMIT_FSIZE, (0, before[1]))
    with capture_logs():  # pytest's own file is one as well
        yield
    limits.setrlimit(limits.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_takes_nothing_from_what_is_in_use(world: World, full_disk: None) -> None:
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        assert [trouble.partition(": ")[0] for trouble in certifier.troubles()] == [
            "the certificate of the node cannot be kept",
            "the certificate of orders cannot be kept",
        ]
    assert [path.name for path in world.directory.iterdir()] == []


# --- clocks


async def test_a_node_an_hour_behind_says_so_and_asks_again(world: World) -> None:
    """Its Envoy would refuse the certificate, and peers whose clocks are right would not."""
    world.control.now = NOW + HOUR
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        assert "the certificate of orders is not valid yet: is a clock wrong?" in certifier.troubles()
        asked = len(world.control.asked)
        world.renews()
        await asyncio.sleep(0.01)
        assert len(world.control.asked) == asked, "not without a pause"
        world.now += 6
        world.control.now = world.now
        world.renews()
        await until(lambda: certifier.troubles() == ())


async def test_a_node_an_hour_ahead_renews_early_and_has_no_trouble(world: World) -> None:
    world.now = NOW + HOUR
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        assert certifier.troubles() == ()
        asked = len(world.control.asked)
        world.now += 2.4 * HOUR
        world.renews()
        await until(lambda: len(world.control.asked) > asked)


async def test_a_clock_far_ahead_is_said_and_asks_with_a_pause(world: World) -> None:
    world.now = NOW + 2 * LIFETIME
    async with world.running("orders") as certifier:
        await world.has(ORDERS)
        assert "the certificate of orders has ended" in certifier.troubles()


def test_the_directory_is_its_owner_s(world: World) -> None:
    assert os.stat(world.directory).st_mode & 0o777 == 0o700  # noqa: PTH116 - as the kernel has it
