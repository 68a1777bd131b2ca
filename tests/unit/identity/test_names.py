"""SPIFFE IDs to identities and back, and when certificates are renewed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.identity.names import ControlId, JoinId, NodeId, WorkloadId, parse
from septum.identity.renewal import renew_at
from septum.model.spiffe import SpiffeId

DOMAIN = "shop.test"
_name = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_identity = st.one_of(
    _name.filter(lambda name: name != "septum").map(lambda name: WorkloadId(SpiffeId(DOMAIN, name))),
    _name.map(lambda name: NodeId(DOMAIN, name)),
    _name.map(lambda id: JoinId(DOMAIN, id)),
    st.just(ControlId(DOMAIN)),
)


@given(_identity)
def test_parsing_what_was_written_is_the_identity(identity: WorkloadId | NodeId | JoinId | ControlId) -> None:
    assert parse(identity.uri, DOMAIN) == identity
    with pytest.raises(ValueError, match="trust domain"):
        parse(identity.uri, "other.test")


@given(st.text(st.sampled_from("spiffe:/.hotaxn-_%\0\n")) | st.text())
def test_nothing_else_is_one(text: str) -> None:
    for uri in (text, f"spiffe://{DOMAIN}/{text}"):
        try:
            assert parse(uri, DOMAIN).uri == uri
        except ValueError:
            continue


def test_the_forms() -> None:
    assert WorkloadId(SpiffeId(DOMAIN, "orders")).uri == "spiffe://shop.test/orders"
    assert NodeId(DOMAIN, "alpha").uri == "spiffe://shop.test/septum/node/alpha"
    assert ControlId(DOMAIN).uri == "spiffe://shop.test/septum/control"
    assert JoinId(DOMAIN, "k3").uri == "spiffe://shop.test/septum/join/k3"


@pytest.mark.parametrize(
    "make",
    [
        lambda: WorkloadId(SpiffeId(DOMAIN, "septum")),
        lambda: NodeId(DOMAIN, "a/b"),
        lambda: NodeId(DOMAIN, ""),
        lambda: NodeId("a/b", "x"),
        lambda: JoinId(DOMAIN, "A"),
        lambda: ControlId("shop.test/x"),
    ],
)
def test_what_cannot_be_an_identity(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]


@given(st.floats(0, 1), st.floats(0, 2e9), st.floats(1, 1e7))
def test_a_certificate_is_renewed_about_half_way(draw: float, start: float, life: float) -> None:
    at = renew_at(start, start + life, draw)
    assert start + 0.449 * life <= at <= start + 0.551 * life


def test_not_all_at_once() -> None:
    assert [renew_at(0, 100, draw) for draw in (0, 0.5, 1)] == [45, 50, pytest.approx(55)]
