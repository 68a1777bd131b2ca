"""Who proves to be whom between nodes: mutual TLS 1.3 with SVIDs, each side's SPIFFE ID checked by the other.

Certificates and trust come as secrets (SDS) over the node's one stream: a workload's own under its SPIFFE ID, the trust
domain's bundle, with the revocation list, under `spiffe://<trust domain>`. Sessions are never resumed, since resumption
would skip the look at a certificate that is not trusted any more.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from septum.envoy.wire import pack
from septum.model.mesh import Mesh

TLS_SOCKET = "envoy.transport_sockets.tls"
_ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
_PARAMETERS = TlsParameters(
    tls_minimum_protocol_version=TlsParameters.TLSv1_3, tls_maximum_protocol_version=TlsParameters.TLSv1_3
)
_YES = BoolValue(value=True)


def bundle(mesh: Mesh) -> str:
    """The secret with what the trust domain trusts."""
    return f"spiffe://{mesh.trust_domain}"


def svid(mesh: Mesh, workload: str) -> str:
    """The secret with a workload's certificate and key."""
    return str(mesh.spiffe(workload))


def server_name(mesh: Mesh, target: str, caller: str = "") -> str:
    """The SNI for a target, or for one caller's connections to it, which then have a filter chain of their own."""
    name = f"{target}.{mesh.trust_domain}"
    return f"{caller}.{name}" if caller else name


def accepting(mesh: Mesh, target: str, caller: str = "") -> Any:
    """The target's side: it proves to be the target, and takes one caller, or whoever the trust domain names."""
    peer = StringMatcher(exact=svid(mesh, caller)) if caller else StringMatcher(prefix=f"{bundle(mesh)}/")
    context = DownstreamTlsContext(
        common_tls_context=_common(mesh, target, peer, ("h2", "http/1.1")),
        require_client_certificate=_YES,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )
    return TransportSocket(name=TLS_SOCKET, typed_config=pack(context))


def calling(mesh: Mesh, caller: str, target: str, server_name: str) -> Any:
    """The caller's side: it proves to be the caller, and takes the target alone."""
    context = UpstreamTlsContext(
        common_tls_context=_common(mesh, caller, StringMatcher(exact=svid(mesh, target)), ("h2",)),
        sni=server_name,
        max_session_keys=UInt32Value(value=0),
    )
    return TransportSocket(name=TLS_SOCKET, typed_config=pack(context))


def _common(mesh: Mesh, own: str, peer: Any, protocols: tuple[str, ...]) -> Any:
    """An ID is compared as a URI SAN alone: a DNS SAN of the same text says nothing."""
    validation = CertificateValidationContext(
        match_typed_subject_alt_names=[SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.URI, matcher=peer)]
    )
    return CommonTlsContext(
        tls_params=_PARAMETERS,
        tls_certificate_sds_secret_configs=[_secret(svid(mesh, own))],
        combined_validation_context=CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=validation, validation_context_sds_secret_config=_secret(bundle(mesh))
        ),
        alpn_protocols=protocols,
    )


def _secret(name: str) -> Any:
    return SdsSecretConfig(name=name, sds_config=_ADS)
