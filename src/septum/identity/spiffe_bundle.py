"""The trust bundle in SPIFFE's own form: a JWK set (SPIFFE Trust Domain and Bundle, section 4; RFC 7517, RFC 7518)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

# How often, in seconds, who federates with this trust domain should look again.
_REFRESH = 3600


def spiffe_bundle(roots: Iterable[x509.Certificate], sequence: int) -> str:
    """The roots as JSON. `sequence` grows with each change of the bundle."""
    keys = [_key(root) for root in roots]
    bundle = {"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": _REFRESH}
    return json.dumps(bundle, indent=2) + "\n"


def _key(root: x509.Certificate) -> dict[str, object]:
    der = root.public_bytes(serialization.Encoding.DER)
    # `x5c` is base64 proper; every other value of a JWK is base64url.
    return {"use": "x509-svid", **_public(root), "x5c": [base64.b64encode(der).decode()]}


def _public(root: x509.Certificate) -> dict[str, str]:
    key = root.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        size = (key.key_size + 7) // 8
        point = key.public_numbers()
        return {"kty": "EC", "crv": f"P-{key.key_size}", "x": _number(point.x, size), "y": _number(point.y, size)}
    raise AssertionError("the authority takes no root of another kind")


def _number(value: int, size: int | None = None) -> str:
    data = value.to_bytes(size or (value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
