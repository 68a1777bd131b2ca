"""Hosts outside the mesh: found by DNS name or address, and believed by their certificate, as a browser does it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.clusters.common.dns.v3.dns_pb2 import V4_PREFERRED
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, UpstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.wrappers_pb2 import BoolValue

from septum.envoy.cluster import static
from septum.envoy.tls import TLS_SOCKET
from septum.envoy.wire import pack

# Where Debian and most others keep the system's root certificates; Envoy has no default of its own.
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
_PARAMETERS = TlsParameters(
    tls_minimum_protocol_version=TlsParameters.TLSv1_2, tls_maximum_protocol_version=TlsParameters.TLSv1_3
)


def is_address(host: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def host_cluster(name: str, host: str, port: int, connect: float, family: int = V4_PREFERRED) -> Any:
    """The connections to a host in plain text; `connect` is in seconds.

    A name is asked for again when its DNS records say so. One that does not resolve yet must not hold up the node.
    """
    cluster = static(name, Address(socket_address=SocketAddress(address=host, port_value=port)), connect)
    if not is_address(host):
        lookup = DnsCluster(dns_lookup_family=family, respect_dns_ttl=True, all_addresses_in_single_endpoint=True)
        cluster.cluster_type.CopyFrom(Cluster.CustomClusterType(name="envoy.cluster.dns", typed_config=pack(lookup)))
        cluster.wait_for_warm_on_init.CopyFrom(BoolValue(value=False))
    return cluster


def checked(host: str, roots: Any, protocols: tuple[str, ...] = ()) -> Any:
    """TLS to a host, whose certificate has to chain to the roots (a DataSource) and to be the host's own."""
    kind = SubjectAltNameMatcher.IP_ADDRESS if is_address(host) else SubjectAltNameMatcher.DNS
    validation = CertificateValidationContext(
        trusted_ca=roots,
        match_typed_subject_alt_names=[SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=host))],
    )
    context = UpstreamTlsContext(
        sni="" if is_address(host) else host,
        common_tls_context=CommonTlsContext(
            tls_params=_PARAMETERS, validation_context=validation, alpn_protocols=protocols
        ),
    )
    return TransportSocket(name=TLS_SOCKET, typed_config=pack(context))
