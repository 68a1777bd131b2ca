"""Join tokens: one line of text with all that a node needs to reach the control plane for the first time.

`septum1.` and base64url: the length of the body in two bytes, the body, and four bytes of its digest, so that a token
that was cut off is told from one that was mistyped. The body is compressed MessagePack. The private key in it is a
credential for joining, good until the token ends or is used; no workload and no node ever has it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.leaf import read_leaf
from septum.identity.names import JoinId, NodeId, parse
from septum.identity.pem import UNREADABLE, CertificateError, certificates_pem, key_pem, read_certificates, read_key

_PREFIX = "septum1."
_DIGEST = 4
_MAX_BODY = 64 << 10
_NOT_BASE64URL = re.compile(r"[^A-Za-z0-9_-]")
_ANOTHER = "have another one made for this node"


class TokenError(Exception):
    """A text that is no usable join token; it says why and what to do."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token holds. `expires` is in seconds since 1970."""

    node: str
    trust_domain: str
    id: str
    expires: float
    roots_pem: bytes
    chain_pem: bytes
    key_pem: bytes


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """Certificates are DER, and the key is the number alone."""

    node: str
    trust_domain: str
    key: bytes
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]


def make_token(authority: Authority, node: str, id: str, lifetime: float, now: float) -> str:
    """A token for a node to join with. That it is used once is for the control plane to see to, by its `id`."""
    NodeId(authority.trust_domain, node)
    key = new_key()
    issued = authority.issue(csr(key), JoinId(authority.trust_domain, id), lifetime, now)
    chain, roots = _der(issued.chain_pem), _der(authority.bundle(now).roots_pem)
    return _text(_Body(node, authority.trust_domain, _number(key), chain, roots))


def read_token(text: str, now: float) -> Token:
    """Read a token. Raises TokenError for text that is none, was cut off or mistyped, and for one that has expired."""
    body = _body(text)
    try:
        chain, roots = _pem(body.chain), _pem(body.roots)
        leaf = read_leaf(chain)
        identity = parse(leaf.uri, body.trust_domain)
        key = key_pem(ec.derive_private_key(int.from_bytes(body.key, "big"), ec.SECP256R1()))
    except (*UNREADABLE, CertificateError) as error:
        raise TokenError(f"the join token holds something else than it should: {error}: {_ANOTHER}") from error
    if not isinstance(identity, JoinId):
        raise TokenError(f"the join token holds the certificate of {leaf.uri}: {_ANOTHER}")
    if leaf.not_after <= now:
        ended = datetime.fromtimestamp(leaf.not_after, UTC)
        raise TokenError(f"the join token for `{body.node}` expired at {ended:%F %T} UTC: {_ANOTHER}")
    return Token(body.node, body.trust_domain, identity.id, leaf.not_after, roots, chain, key)


def _text(body: _Body) -> str:
    packed = zlib.compress(msgspec.msgpack.encode(body), 9)
    data = len(packed).to_bytes(2, "big") + packed + hashlib.sha256(packed).digest()[:_DIGEST]
    return _PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _body(text: str) -> _Body:
    data = _data("".join(text.split()))  # a mail may have folded it
    length, packed, digest = int.from_bytes(data[:2], "big"), data[2:-_DIGEST], data[-_DIGEST:]
    whole = 2 + length + _DIGEST
    if len(data) < whole or len(data) < 2:
        raise TokenError(f"the join token was cut off: copy all of it, or {_ANOTHER}")
    if len(data) > whole:
        raise TokenError("something follows the join token: copy only the token")
    if hashlib.sha256(packed).digest()[:_DIGEST] != digest:
        raise TokenError(f"the join token was mistyped: copy it again, or {_ANOTHER}")
    try:
        return msgspec.msgpack.decode(zlib.decompressobj().decompress(packed, _MAX_BODY), type=_Body)
    except (ValueError, zlib.error) as error:
        raise TokenError(f"the join token is of another version of Septum ({error}): {_ANOTHER}") from error


def _data(text: str) -> bytes:
    if not text.startswith(_PREFIX):
        if text and _PREFIX.startswith(text):
            raise TokenError(f"the join token was cut off: copy all of it, or {_ANOTHER}")
        raise TokenError(f"this is no join token: one begins with `{_PREFIX}`")
    encoded = text.removeprefix(_PREFIX)
    if strange := _NOT_BASE64URL.search(encoded):
        raise TokenError(f"the join token was mistyped: `{strange[0]}` is in none")
    # A length that no whole number of bytes has: the last character is dropped, and the digest or length tells.
    if len(encoded) % 4 == 1:
        encoded = encoded[:-1]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def _der(pem: bytes) -> tuple[bytes, ...]:
    return tuple(c.public_bytes(serialization.Encoding.DER) for c in read_certificates(pem))


def _pem(der: tuple[bytes, ...]) -> bytes:
    return certificates_pem(map(x509.load_der_x509_certificate, der))


def _number(key: bytes) -> bytes:
    read = read_key(key)
    assert isinstance(read, ec.EllipticCurvePrivateKey)
    return read.private_numbers().private_value.to_bytes(32, "big")
