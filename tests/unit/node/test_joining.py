"""A host becomes a node: by a real token, at a real port, with a key that is made here."""

from __future__ import annotations

import io
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import aio
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key, requested_key
from septum.identity.leaf import read_leaf
from septum.identity.names import ControlId, JoinId, NodeId, parse
from septum.identity.token import Token, make_token, read_token
from septum.node.credentials import NODE, Credentials, Member
from septum.node.joining import JoinError, join, read_given
from septum.rpc.messages import Enrol, Enrolled
from septum.rpc.server import CallRefused, Operation, Peer, serve
from septum.xds.fleet import Fleet

TD = "shop.test"


def authority(directory: Path, trust_domain: str = TD) -> Authority:
    return Authority.create(directory, trust_domain, time.time())


def token(of: Authority, id: str = "token-1", lifetime: float = 60.0, now: float = 0.0) -> Token:
    made = now or time.time()
    return read_token(make_token(of, "web", id, lifetime, made), made)


class Control:
    """The port of a control plane: it enrols whoever has a token, and only with the key that used it first."""

    def __init__(self, of: Authority) -> None:
        self.authority = of
        self.used: dict[str, bytes] = {}
        self.loses = ""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    async def enrol(self, peer: Peer, request: Enrol) -> Enrolled:
        key = csr_key(request.csr)
        if self.used.setdefault(peer.name, key) != key:
            raise CallRefused("the token was used already")
        if self.loses:
            lost, self.loses = self.loses, ""
            raise CallRefused(lost)
        now = time.time()
        issued = self.authority.issue(request.csr, NodeId(TD, "web"), 600, now)
        return Enrolled("web", "shop", TD, issued.chain_pem, self.authority.bundle(now).roots_pem)

    def recognise(self, certificate: bytes) -> Peer:
        identity = parse(read_leaf(certificate).uri, TD)
        assert isinstance(identity, JoinId)
        return Peer("join", identity.id, certificate)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        key, now = new_key(), time.time()
        issued = self.authority.issue(csr(key), ControlId(self.authority.trust_domain), 600, now, (f"septum.{TD}",))
        proof = (key, issued.chain_pem, self.authority.bundle(now).roots_pem)
        operations: Mapping[str, Operation] = {"Enrol": Operation(frozenset({"join"}), Enrol, self.enrol)}
        fleet = Fleet(lambda: 0.0, lambda _: None)
        async with serve(fleet, operations, address=self.address, credentials=lambda: proof, recognise=self.recognise):
            yield self.address


def csr_key(request: bytes) -> bytes:
    return requested_key(request).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(authority(tmp_path / "ca"))


@pytest.fixture
def host(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path / "host" / "identity")


# --- joining


@aio.runs
async def test_a_host_is_a_node_afterwards(control: Control, host: Credentials) -> None:
    async with control.listening() as address:
        member = await join(host, token(control.authority), address, 5.0)
    assert member == host.member() == Member("web", "shop", TD, address, "token-1")
    own = host.of(NODE)
    assert own is not None
    assert own.leaf.uri == f"spiffe://{TD}/septum/node/web"
    assert host.roots() == control.authority.bundle(time.time()).roots_pem


@aio.runs
async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key(control: Control, host: Credentials) -> None:
    given = token(control.authority)
    async with control.listening() as address:
        control.loses = "the wire broke"
        with pytest.raises(JoinError, match="the wire broke"):
            await join(host, given, address, 5.0)
        assert host.member() is None
        assert (await join(host, given, address, 5.0)).node == "web"


@aio.runs
async def test_a_token_that_another_host_has_used(control: Control, host: Credentials, tmp_path: Path) -> None:
    given = token(control.authority)
    async with control.listening() as address:
        await join(Credentials(tmp_path / "thief"), given, address, 5.0)
        with pytest.raises(JoinError, match=f"the control plane at {address} refuses: the token was used already"):
            await join(host, given, address, 5.0)
    assert (host.member(), host.of(NODE), host.roots()) == (None, None, b"")


@aio.runs
async def test_nobody_there(control: Control, host: Credentials) -> None:
    with pytest.raises(JoinError, match=f"the control plane at {control.address} does not answer"):
        await join(host, token(control.authority), control.address, 2.0)


@aio.runs
async def test_a_control_plane_of_another_mesh_is_told_nothing(
    control: Control, host: Credentials, tmp_path: Path
) -> None:
    other = authority(tmp_path / "other")
    async with control.listening() as address:
        with pytest.raises(JoinError, match="does not answer"):
            await join(host, token(other), address, 2.0)
    assert (control.used, host.member()) == ({}, None)


@aio.runs
async def test_a_token_that_has_expired_is_not_even_tried(control: Control, host: Credentials) -> None:
    late = token(control.authority, lifetime=60, now=time.time() - 61)
    async with control.listening() as address:
        with pytest.raises(JoinError, match="has expired"):
            await join(host, late, address, 5.0)
    assert control.used == {}


# --- where a token comes from


@pytest.fixture
def text(control: Control) -> str:
    return make_token(control.authority, "web", "token-1", 60, time.time())


def given(source: str) -> Token:
    found = read_given(source)
    assert found is not None
    return found


def test_a_token_as_text(text: str) -> None:
    assert (given(text).node, given(text).id) == ("web", "token-1")


def test_a_token_in_a_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "web.token"
    file.write_text(f"\n{text}\n")
    assert given(str(file)) == given(text)


def test_a_token_on_standard_input(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{text}\n"))
    assert given("-") == given(text)


@pytest.mark.parametrize("blank", ["", "\n", "  \n\n"])
def test_a_blank_one_is_none(blank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "web.token"
    file.write_text(blank)
    assert read_given(str(file)) is None
    monkeypatch.setattr(sys, "stdin", io.StringIO(blank))
    assert read_given("-") is None


def test_what_is_no_token(text: str, tmp_path: Path) -> None:
    for damaged in (text[:-10], f"{text}xx", "septum1.", "septum1.nonsense"):
        with pytest.raises(JoinError, match="token"):
            read_given(damaged)
    file = tmp_path / "web.token"
    file.write_text("nonsense\n")
    with pytest.raises(JoinError, match="token"):
        read_given(str(file))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(JoinError, match=f"no join token and no file with one: {path}: {why}"):
            read_given(str(path))


def test_a_file_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "web.token"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JoinError, match="token"):
        read_given(str(file))
