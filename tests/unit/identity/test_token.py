"""Join tokens: all that a node needs, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openssl_judge import handshake
from pki import DAY, DOMAIN, NOW, authority

from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.issuer import Upstream
from septum.identity.leaf import read_leaf
from septum.identity.ledger import What
from septum.identity.names import ControlId, JoinId
from septum.identity.token import TokenError, make_token, read_token

HOUR = 3600.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("token") / "ca", DOMAIN, NOW)


@pytest.fixture(scope="module")
def text(made: Authority) -> str:
    return make_token(made, "alpha", "k3", HOUR, NOW)


def test_what_is_in_it(made: Authority, text: str) -> None:
    token = read_token(text, NOW)
    assert (token.node, token.id, token.trust_domain, token.expires) == ("alpha", "k3", DOMAIN, int(NOW + HOUR))
    assert token.roots_pem == made.bundle(NOW).roots_pem
    assert made.verify(token.chain_pem, NOW) == JoinId(DOMAIN, "k3")
    assert read_leaf(token.chain_pem).uri == "spiffe://shop.test/septum/join/k3"


def test_it_is_one_line_and_short(text: str) -> None:
    assert text.startswith("septum1.")
    assert text.isascii()
    assert len(text.split()) == 1
    print(f"a token has {len(text)} characters")
    assert len(text) < 1800


def test_it_is_enough_for_a_connection(made: Authority, text: str) -> None:
    token, key = read_token(text, NOW), new_key()
    control = made.issue(csr(key), ControlId(DOMAIN), HOUR, NOW).chain_pem
    said = handshake((token.chain_pem, token.key_pem), (control, key), token.roots_pem, "septum.shop.test")
    assert said == ""


def test_while_the_root_rotates_it_trusts_both(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "ca", DOMAIN, NOW)
    made.prepare(What.ROOT, NOW)
    assert read_token(make_token(made, "alpha", "k3", HOUR, NOW), NOW).roots_pem.count(b"BEGIN") == 2


def test_below_a_long_upstream(tmp_path: Path) -> None:
    root = authority()
    upstream = authority(authority(root, name="a"), name="b")
    chain = upstream.chain_pem + root.pem
    made = Authority.create(tmp_path / "ca", DOMAIN, NOW, upstream=Upstream(chain, upstream.key_pem))
    token = read_token(make_token(made, "alpha", "k3", HOUR, NOW), NOW)
    assert made.verify(token.chain_pem, NOW) == JoinId(DOMAIN, "k3")


def test_a_mail_may_fold_it(text: str) -> None:
    folded = "\n  ".join(text[at : at + 70] for at in range(0, len(text), 70)) + "\n"
    assert read_token(folded, NOW) == read_token(text, NOW)


def test_expired(text: str) -> None:
    with pytest.raises(TokenError, match=r"the join token for `alpha` expired at \d{4}-.* UTC: have another one made"):
        read_token(text, NOW + HOUR + 1)


@settings(deadline=None)
@given(data=st.data())
def test_cut_off(text: str, data: st.DataObject) -> None:
    with pytest.raises(TokenError, match=r"was cut off: copy all of it|this is no join token"):
        read_token(text[: data.draw(st.integers(1, len(text) - 1))], NOW)


@settings(deadline=None)
@given(data=st.data())
def test_mistyped(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(len("septum1."), len(text) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_*+/.").filter(lambda c: c != text[at]))
    try:
        read = read_token(text[:at] + other + text[at + 1 :], NOW)
    except TokenError:
        return
    # The last character of base64 has bits that mean nothing.
    assert at == len(text) - 1
    assert read == read_token(text, NOW)


def test_two_tokens(text: str) -> None:
    with pytest.raises(TokenError, match=r"mistyped: `\.` is in none|something follows"):
        read_token(text + text, NOW)
    with pytest.raises(TokenError, match="something follows the join token"):
        read_token(text + "AAAAAAAA", NOW)


@pytest.mark.parametrize("text", ["", "hello", "septum2.AAAA", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(TokenError, match=r"this is no join token: one begins with `septum1\.`"):
        read_token(text, NOW)


@pytest.mark.parametrize("name", ["Alpha", "a/b", ""])
def test_a_node_that_cannot_be(made: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="not a node's name"):
        make_token(made, name, "k3", HOUR, NOW)


def test_a_token_does_not_outlive_the_authority(made: Authority) -> None:
    token = read_token(make_token(made, "alpha", "k3", 900 * DAY, NOW), NOW)
    assert token.expires == int(NOW + 365 * DAY)
