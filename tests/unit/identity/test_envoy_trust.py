"""A real Envoy as the judge: whom it takes with our chain, our bundle and our lists of revoked certificates."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pki import DAY, DOMAIN, NOW, Held, authority, dns, leaf, uri
from tls_envoy import ORDERS, Envoy, Server, client_context, running

from septum.identity.authority import Authority, Bundle
from septum.identity.csr import csr, new_key
from septum.identity.issuer import Issued, Upstream
from septum.identity.ledger import What
from septum.identity.names import Identity, NodeId, WorkloadId
from septum.identity.pem import read_certificates, read_key
from septum.model.spiffe import SpiffeId

pytestmark = pytest.mark.xdist_group("identity-envoy")

Own = tuple[bytes, bytes]
HOUR = 3600.0


def workload(name: str) -> Identity:
    return WorkloadId(SpiffeId(DOMAIN, name))


def issue(made: Authority, identity: Identity, now: float = NOW, lifetime: float = HOUR) -> tuple[Issued, bytes]:
    key = new_key()
    return made.issue(csr(key), identity, lifetime, now), key


def own(made: Authority, identity: Identity, now: float = NOW, lifetime: float = HOUR) -> Own:
    issued, key = issue(made, identity, now, lifetime)
    return issued.chain_pem, key


def stolen(directory: Path, made: Authority) -> Held:
    """The intermediate with its key, as a thief of the directory has it: it signs whatever is wanted."""
    [key] = directory.glob("intermediate-*.key")
    issuing = read_certificates(own(made, workload("x"))[0])[1]
    return Held(issuing, read_key(key.read_bytes()))


@dataclass
class World:
    """Envoy with four listeners, and a client for each case."""

    envoy: Envoy
    roots: bytes
    clients: dict[str, Own | None]

    def refused(self, listener: str, client: Own | None, why: str) -> None:
        before = self.envoy.stats()
        with pytest.raises(OSError, match=r"ALERT|alert|reset|closed|EOF|expired|revoked|unknown"):
            self.envoy.call(listener, client, self.roots)
        after = self.envoy.stats()
        changed = {name for name in after if after[name] != before.get(name, 0)}
        assert f"{listener}.{why}" in changed, changed
        assert f"{listener}.handshake" not in changed

    def status(self, listener: str, client: Own | None) -> int:
        return self.envoy.call(listener, client, self.roots)[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("envoy")
    # Ten days old, so that there are certificates that have ended.
    made = Authority.create(place / "ca", DOMAIN, NOW - 10 * DAY)
    thief = stolen(place / "ca", made)
    other = Authority.create(place / "other", DOMAIN, NOW - DAY)
    revoked, revoked_key = issue(made, workload("orders"))
    made.revoke({revoked.serial: revoked.not_after}, NOW)

    def signed(*names: object, **how: object) -> Own:
        held = leaf(thief, *names, **how)  # type: ignore[arg-type]
        return held.pem + thief.pem, held.key_pem

    clients: dict[str, Own | None] = {
        "orders": own(made, workload("orders")),
        "web": own(made, workload("web")),
        "node": own(made, NodeId(DOMAIN, "alpha")),
        "expired": own(made, workload("orders"), NOW - 2 * DAY),
        "not yet valid": own(made, workload("orders"), NOW + HOUR),
        "revoked": (revoked.chain_pem, revoked_key),
        "wrong CA": own(other, workload("orders")),
        "none": None,
        "another domain by the thief": signed(uri("spiffe://other.test/orders")),
        "two URIs": signed(uri("spiffe://shop.test/web"), uri(ORDERS)),
        "two URIs, the right one first": signed(uri(ORDERS), uri("spiffe://shop.test/web")),
        "DNS SAN equal to the ID": signed(dns(ORDERS)),
        "common name equal to the ID": signed(common_name=ORDERS),
        "an authority of the thief's": _below(thief),
    }
    server, key = own(made, workload("orders"))
    rotated, old = _rotated(place / "rotated")
    clients |= old
    shared, sharing = _shared(place / "shared")
    clients |= sharing
    servers = {
        "strict": Server(server, key, made.bundle(NOW)),
        "tickets": Server(server, key, made.bundle(NOW), tickets=True),
        "rotated": Server(server, key, rotated),
        "shared": Server(server, key, shared),
    }
    with running(servers) as envoy:
        yield World(envoy, made.bundle(NOW).roots_pem, clients)


def _below(thief: Held) -> Own:
    more = authority(thief, name="More")
    held = leaf(more, uri(ORDERS))
    return held.pem + more.pem + thief.pem, held.key_pem


def _rotated(place: Path) -> tuple[Bundle, dict[str, Own | None]]:
    """An authority whose first intermediate is retired, under the same root."""
    made = Authority.create(place, DOMAIN, NOW)
    first = own(made, workload("orders"))
    made.prepare(What.INTERMEDIATE, NOW)
    made.activate()
    second = own(made, workload("orders"))
    made.retire()
    return made.bundle(NOW), {"of the retired intermediate": first, "of the new intermediate": second}


def _shared(place: Path) -> tuple[Bundle, dict[str, Own | None]]:
    """Two trust domains below the intermediate authority of one PKI: each trusts the other's root."""
    root = authority()
    company = authority(root, name="Company")
    upstream = Upstream(company.chain_pem + root.pem, company.key_pem)
    ours = Authority.create(place / "ours", DOMAIN, NOW, upstream=upstream)
    theirs = Authority.create(place / "theirs", "other.test", NOW, upstream=upstream)
    # Both issuers have lists here, so that it is the name that decides.
    lists = ours.bundle(NOW).crl_pem + theirs.bundle(NOW).crl_pem
    return Bundle(root.pem, lists, ""), {
        "ours below a shared root": own(ours, workload("orders")),
        "theirs below a shared root": own(theirs, WorkloadId(SpiffeId("other.test", "orders"))),
    }


def test_who_is_right_passes(world: World) -> None:
    assert world.envoy.call("strict", world.clients["orders"], world.roots)[:2] == (200, "seen")


@pytest.mark.parametrize("client", ["web", "node"])
def test_who_is_somebody_else_is_known_as_that(world: World, client: str) -> None:
    assert world.status("strict", world.clients[client]) == 403


@pytest.mark.parametrize(
    ("client", "why"),
    [
        ("expired", "fail_verify_error"),
        ("not yet valid", "fail_verify_error"),
        ("revoked", "fail_verify_error"),
        ("wrong CA", "fail_verify_error"),
        ("none", "fail_verify_no_cert"),
        ("another domain by the thief", "fail_verify_error"),
        ("DNS SAN equal to the ID", "fail_verify_san"),
        ("common name equal to the ID", "fail_verify_san"),
        ("an authority of the thief's", "fail_verify_error"),
    ],
)
def test_refused_by_tls(world: World, client: str, why: str) -> None:
    world.refused("strict", world.clients[client], why)


@pytest.mark.parametrize("client", ["two URIs", "two URIs, the right one first"])
def test_two_uris_are_nobody(world: World, client: str) -> None:
    """Only a thief of the intermediate's key can have one. TLS takes it, and no name is equal to two."""
    assert world.status("strict", world.clients[client]) == 403


def test_what_a_retired_intermediate_issued_is_refused_although_its_root_is_trusted(world: World) -> None:
    assert world.status("rotated", world.clients["of the new intermediate"]) == 200
    world.refused("rotated", world.clients["of the retired intermediate"], "fail_verify_error")


def test_another_trust_domain_below_the_same_root_is_refused_by_its_name(world: World) -> None:
    assert world.status("shared", world.clients["ours below a shared root"]) == 200
    world.refused("shared", world.clients["theirs below a shared root"], "fail_verify_san")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed_without_tickets(world: World, version: ssl.TLSVersion) -> None:
    """A resumed session would skip the check against the roots and lists of now."""

    def twice(listener: str) -> bool:
        context = client_context(world.clients["orders"], world.roots, version)
        call: Callable[..., tuple[int, str, ssl.SSLSession | None, bool]] = world.envoy.call
        status, _, session, _ = call(listener, None, world.roots, context=context)
        assert status == 200
        status, _, _, resumed = call(listener, None, world.roots, context=context, session=session)
        assert status == 200
        return resumed

    assert twice("tickets"), "this client does resume where it may"
    assert not twice("strict")
