"""The certificate of the control plane's port: its names, its life, and the issuer that signs now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509

from fakes.waiting import until
from septum.control.port import Port
from septum.identity.authority import Authority
from septum.identity.leaf import read_leaf
from septum.identity.names import ControlId
from septum.identity.rotation import Rotation, Step, carry_out

pytestmark = pytest.mark.anyio
NOW, DAY = 1_800_000_000.0, 24 * 3600.0


class World:
    """A port, with the clock that it goes by."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.authority = Authority.create(directory / "ca", "shop.test", NOW)
        self.port = Port(self.authority, ("control.example", "10.0.0.10"), lambda: self.now)

    def chain(self) -> bytes:
        return self.port.credentials()[1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_it_is_the_control_plane_under_all_of_its_names(world: World) -> None:
    key, chain, roots = world.port.credentials()
    assert world.authority.verify(chain, NOW) == ControlId("shop.test")
    leaf = x509.load_pem_x509_certificate(chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["septum.shop.test", "control.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.10"]
    assert roots == world.authority.bundle(NOW).roots_pem
    assert b"PRIVATE KEY" in key
    assert world.port.ends() == read_leaf(chain).not_after == NOW + DAY


def test_it_is_renewed_at_half_its_life_and_not_before(world: World) -> None:
    first = world.chain()
    world.now += 0.4 * DAY
    world.port.refresh()
    assert world.chain() == first
    world.now += 0.2 * DAY
    world.port.refresh()
    assert world.chain() != first
    assert world.port.ends() == world.now + DAY


def test_it_follows_who_signs_and_what_is_trusted(world: World) -> None:
    first, trusted = world.chain(), world.port.credentials()[2]
    carry_out(world.authority, Step.PREPARE, Rotation(), NOW)
    world.port.refresh()
    assert world.chain() == first, "the old issuer signs still"
    assert world.port.credentials()[2] != trusted
    carry_out(world.authority, Step.ACTIVATE, Rotation(), NOW)
    world.port.refresh()
    assert read_leaf(world.chain()).issuer == world.authority.issuer
    assert read_leaf(first).issuer != world.authority.issuer


async def test_it_keeps_itself_fresh(world: World) -> None:
    first = world.chain()
    running = asyncio.create_task(world.port.run())
    world.now += 0.6 * DAY
    await until(lambda: world.chain() != first)
    running.cancel()
