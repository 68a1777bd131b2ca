"""A SPIRE agent's Workload API: a real gRPC server on a Unix socket that speaks the standard's messages.

The messages and the service are those that the `spiffe` package generated from the standard, not ours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from spiffe._proto import workload_pb2, workload_pb2_grpc

HEADER = ("workload.spiffe.io", "true")
DER = serialization.Encoding.DER


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pkcs8(key: Any, encryption: serialization.KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(DER, serialization.PrivateFormat.PKCS8, encryption or serialization.NoEncryption())


def usage(*, sign: bool = False, authority: bool = False, crl: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, authority, crl, False, False)


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)

    def revoke(self, *serials: int) -> bytes:
        """A CRL (DER)."""
        now = datetime.now(UTC)
        crl = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject).last_update(now)
        crl = crl.next_update(now + timedelta(hours=1))
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            crl = crl.add_revoked_certificate(revoked)
        return crl.sign(self.key, hashes.SHA256()).public_bytes(DER)


def authority(name: str, above: Authority | None = None, *, ca: bool = True) -> Authority:
    """A root, or an authority below another one."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(key, subject, above.certificate.subject if above else subject)
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    builder = builder.add_extension(usage(authority=True, crl=True), critical=True)
    return Authority(builder.sign(above.key if above else key, hashes.SHA256()), key)


def _builder(key: Any, subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
    )


def svid(
    spiffe_id: str,
    signers: Sequence[Authority],
    *,
    said: str | None = None,
    names: Sequence[x509.GeneralName] | None = None,
    key_usage: x509.KeyUsage | None = None,
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    ca: bool = False,
    chain: bytes | None = None,
    key: bytes | None = None,
    bundle: bytes | None = None,
    hint: str = "",
    own: Any = None,
) -> workload_pb2.X509SVID:
    """A good SVID, but for what is given. `signers`: from who signs the leaf up to the root; `own`: its key."""
    own, signer = own or new_key(), signers[0]
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")])
    builder = _builder(own, subject, signer.certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    builder = builder.add_extension(key_usage or usage(sign=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = [x509.UniformResourceIdentifier(spiffe_id)] if names is None else names
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    leaf = builder.sign(signer.key, hashes.SHA256()).public_bytes(DER)
    return workload_pb2.X509SVID(
        spiffe_id=spiffe_id if said is None else said,
        x509_svid=b"".join((leaf, *(above.der for above in signers[:-1]))) if chain is None else chain,
        x509_svid_key=pkcs8(own) if key is None else key,
        bundle=signers[-1].der if bundle is None else bundle,
        hint=hint,
    )


class FakeSpire(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """Serves while its block runs. Every open stream hears of each change; what is not told to give denies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"unix://{path}"
        self.calls = 0
        self._changed = threading.Condition()
        self._answer: workload_pb2.X509SVIDResponse | tuple[grpc.StatusCode, str] | None
        self._answer = (grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        self._version = self._ended = 0
        self._server: grpc.Server | None = None

    def give(
        self, *svids: workload_pb2.X509SVID, crl: Sequence[bytes] = (), federated: Mapping[str, bytes] | None = None
    ) -> None:
        """From now on this is the whole answer; federated bundles are by the SPIFFE ID of their trust domain."""
        self._set(workload_pb2.X509SVIDResponse(svids=svids, crl=crl, federated_bundles=federated or {}))

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """From now on streams end so."""
        self._set((code, details))

    def be_silent(self) -> None:
        """From now on streams hear nothing."""
        self._set(None)

    def end_streams(self) -> None:
        """End every open stream; the next ones get the same answer."""
        with self._changed:
            self._ended += 1
            self._changed.notify_all()

    def FetchX509SVID(self, _: Any, context: grpc.ServicerContext) -> Iterator[workload_pb2.X509SVIDResponse]:
        yield from self._stream(context)

    def FetchX509Bundles(self, _: Any, context: grpc.ServicerContext) -> Iterator[workload_pb2.X509BundlesResponse]:
        for answer in self._stream(context):
            own = {"spiffe://" + s.spiffe_id.split("/")[2]: s.bundle for s in answer.svids}
            yield workload_pb2.X509BundlesResponse(crl=answer.crl, bundles=own | dict(answer.federated_bundles))

    def _set(self, answer: workload_pb2.X509SVIDResponse | tuple[grpc.StatusCode, str] | None) -> None:
        with self._changed:
            self._answer, self._version = answer, self._version + 1
            self._changed.notify_all()

    def _stream(self, context: grpc.ServicerContext) -> Iterator[workload_pb2.X509SVIDResponse]:
        """What every RPC of a profile does: the answer at once, and again whenever it changes."""
        if HEADER not in {(key, value) for key, value in context.invocation_metadata()}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        context.add_callback(self._wake)
        self.calls += 1
        ended, seen = self._ended, -1
        while self._news(seen, ended, context):
            with self._changed:
                answer, seen = self._answer, self._version
            if isinstance(answer, tuple):
                context.abort(*answer)
            if answer is not None:
                yield answer

    def _news(self, seen: int, ended: int, context: grpc.ServicerContext) -> bool:
        """Wait until there is another answer than the one that was seen; False when the stream is to end."""

        def over() -> bool:
            return self._ended != ended or not context.is_active()

        with self._changed:
            return self._changed.wait_for(lambda: self._version != seen or over(), timeout=60) and not over()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> FakeSpire:
        self._server = grpc.server(ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
        workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.stop(grace=None).wait(10)
        self._wake()
