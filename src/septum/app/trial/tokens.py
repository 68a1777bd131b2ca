"""Tokens of end users as an issuer would sign them, with a key that is made for one trial."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

_KEY_ID = "septum-test"
# Seconds for which a token is valid: longer than a trial takes.
_VALID = 3600
# Bytes of each of the two numbers of a signature, and of each coordinate of a key (RFC 7518, 3.4 and 6.2.1).
_SIZE = 32


class Signer:
    """One ES256 key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self) -> str:
        """The public key as a JSON Web Key Set."""
        numbers = self._key.public_key().public_numbers()
        point = {name: _encoded(value.to_bytes(_SIZE)) for name, value in (("x", numbers.x), ("y", numbers.y))}
        return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": _KEY_ID, **point}]})

    def token(self, claims: Mapping[str, object], now: float) -> str:
        """A token that says `claims` and is valid at `now` (seconds since 1970)."""
        head = {"alg": "ES256", "typ": "JWT", "kid": _KEY_ID}
        signed = f"{_json(head)}.{_json({**claims, 'exp': int(now) + _VALID})}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(_SIZE) + s.to_bytes(_SIZE))}"


def _json(value: Any) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
