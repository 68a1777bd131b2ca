"""What is sent to Envoy of issuers: nothing without them, keys over checked TLS alone, and one place for a token."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from septum.envoy import jwt
from septum.model.claims import Equals, When
from septum.model.mesh import Issuer, Mesh
from septum.model.policy import Rule

FILE = Issuer("file", "https://file.test", ("shop", "admin"), jwks='{"keys": []}')
URL = Issuer("url", "https://login.test", ("shop",), jwks_url="https://login.test/keys?v=1")


def _mesh(*issuers: Issuer) -> Mesh:
    return Mesh("m", "m.test", {}, {}, frozenset(), issuers={issuer.name: issuer for issuer in issuers})


def _config(*issuers: Issuer) -> Any:
    (http_filter,) = jwt.http_filters(_mesh(*issuers))
    config = JwtAuthentication()
    assert http_filter.typed_config.Unpack(config)
    assert http_filter.name == jwt.FILTER
    return config


def _rule(when: When | None) -> Rule:
    return Rule("r", ("a",), ("b",), None, when=when)


def test_a_mesh_without_issuers_has_no_filter_and_no_clusters() -> None:
    assert jwt.http_filters(_mesh()) == []
    assert list(jwt.clusters(_mesh(FILE))) == []


def test_a_route_looks_at_tokens_only_where_a_rule_asks() -> None:
    asking = _rule(When((("iss", Equals("https://file.test")),)))
    assert jwt.per_route(_mesh(FILE), [_rule(None)]) is None
    assert jwt.per_route(_mesh(FILE), []) is None
    assert jwt.per_route(_mesh(), [asking]) is None
    named = jwt.per_route(_mesh(FILE), [_rule(None), asking])
    assert named is not None
    assert named.requirement_name in _config(FILE).requirement_map  # Envoy answers 403 to everything if it is not


def test_any_token_and_none_will_do_but_only_a_checked_one_leaves_claims() -> None:
    config = _config(FILE, URL)
    (requirement,) = config.requirement_map.values()
    kinds = [one.WhichOneof("requires_type") for one in requirement.requires_any.requirements]
    assert kinds == ["provider_name", "provider_name", "allow_missing_or_failed"]
    assert not config.rules
    for name, issuer in (("file", FILE), ("url", URL)):
        provider = config.providers[name]
        assert (provider.issuer, tuple(provider.audiences)) == (issuer.issuer, issuer.audiences)
        assert provider.require_expiration
        assert provider.forward
        assert [(place.name, place.value_prefix) for place in provider.from_headers] == [("authorization", "Bearer ")]
        assert not provider.from_params
        assert not provider.from_cookies
        assert not provider.failed_status_in_metadata


def test_keys_are_in_the_configuration_or_at_a_cluster_of_it() -> None:
    config = _config(FILE, URL)
    assert config.providers["file"].local_jwks.inline_string == FILE.jwks
    remote = config.providers["url"].remote_jwks
    assert remote.http_uri.uri == URL.jwks_url
    assert [name for name, _ in jwt.clusters(_mesh(FILE, URL))] == [remote.http_uri.cluster]
    assert remote.async_fetch.fast_listener


@pytest.mark.parametrize(
    ("url", "kind", "host", "port", "name"),
    [
        ("https://login.test/keys", "envoy.cluster.dns", "login.test", 443, ("login.test", SubjectAltNameMatcher.DNS)),
        (
            "https://login.test:8443/keys",
            "envoy.cluster.dns",
            "login.test",
            8443,
            ("login.test", SubjectAltNameMatcher.DNS),
        ),
        ("https://10.0.0.1/keys", "", "10.0.0.1", 443, ("", SubjectAltNameMatcher.IP_ADDRESS)),
        ("https://[fd00::1]:1/keys", "", "fd00::1", 1, ("", SubjectAltNameMatcher.IP_ADDRESS)),
        ("http://127.0.0.1:81/keys", "", "127.0.0.1", 81, None),
        ("http://[::1]/keys", "", "::1", 80, None),
        ("http://localhost/keys", "envoy.cluster.dns", "localhost", 80, None),
    ],
)
def test_the_server_of_keys_is_checked(url: str, kind: str, host: str, port: int, name: tuple[str, int] | None) -> None:
    ((_, cluster),) = jwt.clusters(_mesh(Issuer("i", "https://i.test", ("a",), jwks_url=url)), roots="roots.pem")
    address = cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    assert (cluster.cluster_type.name, address.address, address.port_value) == (kind, host, port)
    assert cluster.HasField("transport_socket") == (name is not None)
    if name is not None:
        tls = UpstreamTlsContext()
        assert cluster.transport_socket.typed_config.Unpack(tls)
        validation = tls.common_tls_context.validation_context
        (san,) = validation.match_typed_subject_alt_names
        assert (tls.sni, san.san_type, san.matcher.exact) == (name[0], name[1], host)
        assert validation.trusted_ca.filename == "roots.pem"


@pytest.mark.parametrize("url", ["http://login.test/keys", "http://127.0.0.1.evil.test/", "ftp://127.0.0.1/", "keys"])
def test_keys_in_plain_text_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="issuer i: keys are fetched by https"):
        list(jwt.clusters(_mesh(Issuer("i", "https://i.test", ("a",), jwks_url=url))))
