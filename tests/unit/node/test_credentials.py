"""Keys and certificates at rest: for their owner alone, whole or not there, and of no use when they are damaged."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.names import Identity, NodeId, WorkloadId
from septum.identity.token import make_token, read_token
from septum.model.spiffe import SpiffeId
from septum.node import credentials as module
from septum.node.credentials import NODE, Credential, Credentials, Member

NOW, TD = 1_800_000_000.0, "shop.test"
MEMBER = Member("web", "shop", TD, "10.0.0.10:7400", "token-1")
ORDERS, WEB = WorkloadId(SpiffeId(TD, "orders")), NodeId(TD, "web")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", TD, NOW)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "identity"


@pytest.fixture
def kept(place: Path) -> Credentials:
    return Credentials(place)


def made(authority: Authority, identity: Identity = ORDERS, key: bytes = b"") -> Credential:
    key = key or new_key()
    return Credential.of(authority.issue(csr(key), identity, 600, NOW).chain_pem, key)


def joined(kept: Credentials, authority: Authority) -> Credential:
    credential = made(authority, WEB, kept.joining_key())
    kept.join(MEMBER, credential.chain, credential.key, authority.bundle(NOW).roots_pem)
    return credential


def modes(place: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}


def test_a_new_host_is_nobody(kept: Credentials) -> None:
    assert (kept.member(), kept.of(NODE), kept.of("orders"), kept.roots(), kept.digest()) == (None, None, None, b"", "")


def test_what_is_kept_is_there_at_the_next_start(kept: Credentials, authority: Authority, place: Path) -> None:
    own, workload = joined(kept, authority), made(authority)
    kept.keep("orders", workload)
    again = Credentials(place)
    assert (again.member(), again.of(NODE), again.of("orders")) == (MEMBER, own, workload)
    assert again.roots() == authority.bundle(NOW).roots_pem
    assert len(again.digest()) == 16


def test_everything_is_its_owner_s_alone(kept: Credentials, authority: Authority, place: Path) -> None:
    before = os.umask(0)
    try:
        joined(kept, authority)
        kept.joining_key()
        kept.keep("orders", made(authority))
    finally:
        os.umask(before)
    assert set(modes(place).values()) == {0o600}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_the_key_to_join_with_is_the_same_until_an_answer_came(
    kept: Credentials, authority: Authority, place: Path
) -> None:
    key = kept.joining_key()
    assert Credentials(place).joining_key() == key
    joined(kept, authority)
    assert "joining.key" not in modes(place)
    assert kept.joining_key() != key


def test_by_which_token_it_joined(kept: Credentials, authority: Authority) -> None:
    token = read_token(make_token(authority, "web", "token-1", 600, NOW), NOW)
    another = read_token(make_token(authority, "web", "token-2", 600, NOW), NOW)
    assert not kept.joined_with(token)
    joined(kept, authority)
    assert kept.joined_with(token)
    assert not kept.joined_with(another)


def test_a_control_plane_elsewhere_is_remembered(kept: Credentials, authority: Authority, place: Path) -> None:
    joined(kept, authority)
    moved = kept.move(MEMBER, "10.0.0.20:7400")
    assert moved == Credentials(place).member()
    assert moved.control == "10.0.0.20:7400"


def test_roots_change_and_are_never_taken_away(kept: Credentials, authority: Authority) -> None:
    joined(kept, authority)
    first = kept.digest()
    kept.set_roots(b"")
    assert kept.digest() == first
    kept.set_roots(b"others")
    assert (kept.roots(), kept.digest() != first) == (b"others", True)


def test_keys_of_no_use_are_removed_and_nothing_else(kept: Credentials, authority: Authority) -> None:
    own = joined(kept, authority)
    for name in ("orders", "payments"):
        kept.keep(name, made(authority, WorkloadId(SpiffeId(TD, name))))
    kept.forget_all_but(["payments"])
    assert kept.of("orders") is None
    assert kept.of("payments") is not None
    assert (kept.of(NODE), kept.member(), bool(kept.roots())) == (own, MEMBER, True)


# --- writes that end half-way


class Killed(BaseException):
    """The process ends here."""


CALLS: list[tuple[str, Callable[[Credentials, Authority], object]]] = [
    ("renewal", lambda kept, authority: kept.keep(NODE, made(authority, WEB))),
    ("roots", lambda kept, _: kept.set_roots(b"others")),
    ("move", lambda kept, _: kept.move(MEMBER, "10.0.0.20:7400")),
]


@pytest.mark.parametrize(("what", "write"), CALLS)
@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_write_that_ends_half_way_leaves_what_was_there(
    kept: Credentials,
    authority: Authority,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    write: Callable[[Credentials, Authority], object],
    at: str,
) -> None:
    own = joined(kept, authority)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if at == "fsync":
            patch.setattr(module.os, "fsync", killed)
        else:
            patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            write(kept, authority)
    again = Credentials(place)
    assert (again.of(NODE), again.member()) == (own, MEMBER), what
    assert again.roots() == authority.bundle(NOW).roots_pem
    assert set(modes(place).values()) == {0o600}, "also what is half-written"
    write(again, authority)
    assert again.of(NODE) is not None


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_join_that_ends_half_way_can_be_made_again_with_the_same_key(
    kept: Credentials, authority: Authority, place: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    key, writes = kept.joining_key(), 0
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        nonlocal writes
        writes += 1
        if writes == step:
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            joined(kept, authority)
    again = Credentials(place)
    assert again.member() is None
    assert again.joining_key() == key, "a token is for one key"
    own = joined(again, authority)
    assert (again.member(), again.of(NODE)) == (MEMBER, own)


def test_a_disk_without_room_is_said_and_leaves_what_was_there(
    kept: Credentials, authority: Authority, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = joined(kept, authority)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.keep(NODE, made(authority, WEB))
    assert kept.of(NODE) == own
    assert not list(place.glob(".*")), "and takes no room"


# --- damage


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def garbled(_: bytes) -> bytes:
    return b"\x00\xff" * 500


def chain_alone(content: bytes) -> bytes:
    return content.partition(b"-----BEGIN PRIVATE KEY-----")[0]


def key_cut(content: bytes) -> bytes:
    return content[:-60]


def another_key(content: bytes) -> bytes:
    return chain_alone(content) + new_key()


@pytest.mark.parametrize("damage", [cut, emptied, garbled, chain_alone, key_cut, another_key])
def test_a_damaged_certificate_is_none(
    kept: Credentials, authority: Authority, place: Path, damage: Callable[[bytes], bytes]
) -> None:
    kept.keep("orders", made(authority))
    file = place / "orders.pem"
    file.write_bytes(damage(file.read_bytes()))
    assert kept.of("orders") is None
    whole = made(authority)
    kept.keep("orders", whole)
    assert kept.of("orders") == whole


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"{}", b'{"node": "web"}', b"\xff\xfe", b'{"more": 1}'])
def test_damage_to_who_the_node_is_is_said(
    kept: Credentials, authority: Authority, place: Path, content: bytes
) -> None:
    joined(kept, authority)
    (place / "member.json").write_bytes(content)
    with pytest.raises(OSError, match=r"member\.json is damaged"):
        kept.member()
