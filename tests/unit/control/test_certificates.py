"""The authority as the control plane keeps it: made once, when a mesh has nodes, and for one trust domain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from control_world import HOSTS, NOW

from meshes import SHOP, policy
from septum.control.certificates import Certificates
from septum.control.state import StateError
from septum.identity.authority import Authority

MESH = policy("allow: []\n", HOSTS).mesh
OTHER = policy("allow: []\n", HOSTS.replace("shop.test", "other.test")).mesh


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "ca", lambda: NOW)


def test_a_mesh_without_nodes_needs_none(made: Certificates, tmp_path: Path) -> None:
    assert made.trusted_in(policy("allow: []\n", SHOP).mesh) is None
    assert (made.authority(), made.trusted(), made.ends()) == (None, None, {})
    assert not (tmp_path / "ca").exists()


def test_it_is_made_once(made: Certificates, tmp_path: Path) -> None:
    trusted = made.trusted_in(MESH)
    assert trusted is not None
    assert (trusted.trust_domain, b"BEGIN CERTIFICATE" in trusted.roots) == ("shop.test", True)
    assert made.trusted_in(MESH) == made.trusted() == trusted
    again = Certificates(tmp_path / "ca", lambda: NOW + 1)
    assert again.trusted_in(MESH) == trusted


def test_one_that_was_made_before_is_used(made: Certificates, tmp_path: Path) -> None:
    before = Authority.create(tmp_path / "ca", "shop.test", NOW - 60)
    made.trusted_in(MESH)
    authority = made.authority()
    assert authority is not None
    assert authority.issuer == before.issuer


def test_when_its_parts_end_is_known(made: Certificates) -> None:
    made.trusted_in(MESH)
    ends = made.ends()
    assert ends.keys() == {"root", "intermediate"}
    assert NOW < ends["intermediate"] <= ends["root"]


def test_another_trust_domain_is_not_its(made: Certificates) -> None:
    trusted = made.trusted_in(MESH)
    with pytest.raises(StateError, match=r"is that of `shop\.test`, and the mesh says `other\.test`"):
        made.trusted_in(OTHER)
    assert made.trusted_in(MESH) == trusted, "and the one that there was goes on"


def damaged(directory: Path) -> None:
    for file in directory.iterdir():
        file.write_bytes(b"nonsense")


def in_the_way(directory: Path) -> None:
    directory.write_bytes(b"")


@pytest.mark.parametrize("becomes", [damaged, in_the_way])
def test_one_that_cannot_be_used_is_an_error_of_the_state(tmp_path: Path, becomes: Callable[[Path], None]) -> None:
    if becomes is damaged:
        Authority.create(tmp_path / "ca", "shop.test", NOW)
    becomes(tmp_path / "ca")
    with pytest.raises(StateError, match=str(tmp_path / "ca")):
        Certificates(tmp_path / "ca", lambda: NOW).trusted_in(MESH)
