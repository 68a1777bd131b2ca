"""End users' tokens as issuers make them, and as forgers do; keys as JSON, and a server of them.

Tokens are put together from bytes, so that what no library signs can be sent too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

ISSUER = "https://login.lab.test"
AUDIENCE = "lab"
# In place of a claim that a token should lack.
ABSENT = object()
ALGORITHMS = ("RS256", "ES256", "EdDSA")


def encoded(value: bytes | dict[str, Any]) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Signer:
    """A key of an issuer, by its algorithm and `kid`."""

    algorithm: str
    kid: str
    key: Any

    @classmethod
    def new(cls, algorithm: str, kid: str) -> Signer:
        keys: dict[str, Callable[[], Any]] = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        return cls(algorithm, kid, keys[algorithm]())

    @property
    def public_pem(self) -> bytes:
        found: bytes = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return found

    def jwk(self) -> dict[str, Any]:
        made = pyjwt.get_algorithm_by_name(self.algorithm).to_jwk(self.key.public_key(), as_dict=True)
        return {**made, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def token(self, claims: dict[str, Any] | None = None, *, headers: dict[str, Any] | None = None) -> str:
        """A token that is valid for ten minutes, but for what `claims` and `headers` put in place of that."""
        head = encoded({"alg": self.algorithm, "typ": "JWT", "kid": self.kid, **(headers or {})})
        signed = f"{head}.{encoded(valid_claims(claims))}"
        signature = pyjwt.get_algorithm_by_name(self.algorithm).sign(signed.encode(), self.key)
        return f"{signed}.{encoded(signature)}"


def valid_claims(claims: dict[str, Any] | None = None) -> dict[str, Any]:
    """All that a token needs, and `claims` over that."""
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 600, **(claims or {})}
    return {name: value for name, value in whole.items() if value is not ABSENT}


def jwks(*signers: Signer) -> str:
    return json.dumps({"keys": [signer.jwk() for signer in signers]})


def unsigned(claims: dict[str, Any]) -> str:
    """`alg: none`."""
    return f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(valid_claims(claims))}."


def with_public_key_as_secret(signer: Signer, claims: dict[str, Any]) -> str:
    """HS256, with what everybody knows as the secret."""
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': signer.kid})}.{encoded(valid_claims(claims))}"
    return f"{signed}.{encoded(hmac.digest(signer.public_pem, signed.encode(), hashlib.sha256))}"


def with_another_payload(token: str, claims: dict[str, Any]) -> str:
    """A good signature, over other claims."""
    head, _, signature = token.split(".")
    return f"{head}.{encoded(valid_claims(claims))}.{signature}"


class Authority:
    """A certificate authority of its own, whose certificate is written to the file `roots`."""

    def __init__(self, roots: Path) -> None:
        self.roots = roots
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        made = self._certificate(self._name, self._key, constraints)
        roots.write_bytes(made.public_bytes(Encoding.PEM))

    def serves(self, host: str, directory: Path) -> ssl.SSLContext:
        """What a server needs to serve as a host."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        made = self._certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), key, names)
        file = directory / f"{host}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + made.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _certificate(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(hours=1),
        )
        return builder.add_extension(extension, critical=True).sign(self._key, hashes.SHA256())


class KeyServer:
    """Serves keys over HTTP, or TLS with a context, `takes` seconds after it is asked.

    `keys` may change while it runs, and `asked` counts.
    """

    def __init__(self, keys: str, tls: ssl.SSLContext | None = None, takes: float = 0.0) -> None:
        self.keys, self.asked, self.takes = keys, 0, takes
        self._tls = tls

    @contextmanager
    def running(self, port: int = 0) -> Iterator[int]:
        """The port on which it listens."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                threading.Event().wait(outer.takes)
                body = outer.keys.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is printed."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128  # all listeners ask at once

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that goes away is no news."""

        with Server(("127.0.0.1", port), Handler) as server:
            if self._tls is not None:
                server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join()
