"""Independent judges of certificates: OpenSSL's command line and Python's `ssl`."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
import threading
from pathlib import Path
from socket import socketpair


def openssl(*arguments: str, data: bytes = b"") -> str:
    ran = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False, timeout=20)
    return (ran.stdout + ran.stderr).decode()


def openssl_text(pem: bytes) -> str:
    return openssl("x509", "-noout", "-text", data=pem)


def openssl_verifies(chain: bytes, roots: bytes, crl: bytes = b"", *options: str) -> bool:
    """`openssl verify`, strictly, as for a TLS client."""
    with tempfile.TemporaryDirectory() as directory:
        files = {"chain": chain, "roots": roots, "crl": crl}
        path = {name: str(Path(directory) / name) for name in files}
        for name, content in files.items():
            Path(path[name]).write_bytes(content)
        lists = ["-crl_check", "-CRLfile", path["crl"]] if crl else []
        trust = ["-CAfile", path["roots"], "-untrusted", path["chain"]]
        said = openssl("verify", "-x509_strict", "-purpose", "sslclient", *lists, *options, *trust, path["chain"])
    return said.strip().endswith(": OK")


def handshake(
    client: tuple[bytes, bytes], server: tuple[bytes, bytes], roots: bytes, name: str, crl: bytes = b""
) -> str:
    """Mutual TLS between two Python programs; nothing when both are content, or else what was said."""
    near, far = socketpair()
    for end in (near, far):
        end.settimeout(10)
    said: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        listening = _context(ssl.PROTOCOL_TLS_SERVER, Path(directory), server, roots, crl)
        calling = _context(ssl.PROTOCOL_TLS_CLIENT, Path(directory), client, roots, crl)
    listening.verify_mode = ssl.CERT_REQUIRED

    def answer() -> None:
        try:
            with listening.wrap_socket(far, server_side=True) as connection:
                connection.sendall(connection.recv(1))
        except OSError as error:
            said.append(f"server: {error}")
        finally:
            far.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with calling.wrap_socket(near, server_hostname=name) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x" or said
    except OSError as error:
        said.append(f"client: {error}")
    finally:
        near.close()
        thread.join()
    return "; ".join(said)


def _context(side: int, directory: Path, own: tuple[bytes, bytes], roots: bytes, crl: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name, content in (("chain", own[0]), ("key", own[1]), ("crl", crl)):
        (directory / name).write_bytes(content)
    context.load_cert_chain(directory / "chain", directory / "key")
    context.load_verify_locations(cadata=roots.decode())
    if crl:
        context.load_verify_locations(directory / "crl")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context
