"""What proxies prove and trust, as SDS resources. A private key is in one of them only on the node that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from septum.envoy.wire import resource
from septum.model.snapshot import Resource


def svid(name: str, chain: bytes, key: bytes) -> Resource:
    """A workload's certificate chain and key (PEM), under its SPIFFE ID."""
    made = TlsCertificate(certificate_chain=DataSource(inline_bytes=chain), private_key=DataSource(inline_bytes=key))
    return resource(name, Secret(name=name, tls_certificate=made))


@dataclass(frozen=True, slots=True)
class Trusted:
    """The roots (PEM) that vouch for a trust domain, and the lists of what was revoked (PEM), where there are any."""

    trust_domain: str
    roots: bytes
    revoked: bytes = b""


def trust(trusted: Trusted) -> Any:
    """What is trusted, as a secret without a secret. Whoever uses it says which identities it expects.

    Only leaves are looked up in the lists: an issuing certificate is taken out by taking its root out.
    """
    made = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=trusted.roots))
    if trusted.revoked:
        made.crl.CopyFrom(DataSource(inline_bytes=trusted.revoked))
        made.only_verify_leaf_cert_crl = True
    return Secret(name=f"spiffe://{trusted.trust_domain}", validation_context=made)
