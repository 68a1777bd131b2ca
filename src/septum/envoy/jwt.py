"""End users' tokens (JWT, RFC 7519): who may sign them, where the keys are, and what of their claims a rule asks.

Envoy verifies a token only on routes to targets with a rule that has `when`. A token that is missing or not valid is
no error: the request goes on without claims, so that no such rule holds for it, and rules that ask nothing of a token
decide as ever. The token itself is passed on as it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, assert_never
from urllib.parse import SplitResult, urlsplit

from envoy.config.core.v3.backoff_pb2 import BackoffStrategy
from envoy.config.core.v3.base_pb2 import DataSource, RetryPolicy
from envoy.config.core.v3.http_uri_pb2 import HttpUri
from envoy.extensions.clusters.common.dns.v3.dns_pb2 import ALL
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwksAsyncFetch,
    JwtAuthentication,
    JwtCacheConfig,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementOrList,
    PerRouteConfig,
    RemoteJwks,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import DynamicMetadataInput
from envoy.extensions.matching.input_matchers.metadata.v3.metadata_pb2 import Metadata
from envoy.type.matcher.v3.http_inputs_pb2 import HttpRequestHeaderMatchInput
from envoy.type.matcher.v3.number_pb2 import DoubleMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import UInt32Value
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.regex_pb2 import RegexMatcher
from xds.type.matcher.v3.string_pb2 import StringMatcher as XdsStringMatcher

from septum.envoy.host import SYSTEM_ROOTS, checked, host_cluster
from septum.envoy.wire import matching, pack, seconds
from septum.model.claims import AnyOf, Contains, Equals, Scope, Test, Value, When
from septum.model.mesh import Issuer, Mesh
from septum.model.policy import Rule

# The filter's name is also the metadata namespace under which it leaves a verified token's claims, at `PAYLOAD`.
FILTER = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"
# The one requirement there is: any issuer's token, or none.
_TOKEN = "token"  # noqa: S105 - a name, not a secret

# Seconds: how far clocks may differ; how old fetched keys may be; how long a request waits for the first of them.
SKEW = 60
KEYS_KEPT = 300.0
_FETCH = 2.0
# Verified tokens that each worker of each listener remembers, and the longest that is (groups make tokens long). One
# that is remembered passes until it expires, even when its key is withdrawn meanwhile.
_REMEMBERED = JwtCacheConfig(jwt_cache_size=1000, jwt_max_token_size=16384)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

# A token has one place. Envoy also finds one behind other words, in a second header and in the query, where a service
# would read another or none; what does not look like this has no claims.
_PLACE = JwtHeader(name="authorization", value_prefix="Bearer ")
_BEARER = XdsStringMatcher(
    safe_regex=RegexMatcher(google_re2=RegexMatcher.GoogleRE2(), regex=r"^Bearer [\w-]+\.[\w-]+\.[\w-]+")
)
_AUTHORIZATION = matching("authorization", HttpRequestHeaderMatchInput(header_name="authorization"))


def http_filters(mesh: Mesh) -> list[Any]:
    """What verifies tokens, to stand ahead of RBAC in every chain; nothing in a mesh without issuers."""
    if not mesh.issuers:
        return []
    requirements = [JwtRequirement(provider_name=name) for name in mesh.issuers]
    # Of providers that each refuse a token none leaves claims, and Envoy waits for all of them before it goes on.
    requirements.append(JwtRequirement(allow_missing_or_failed=Empty()))
    any_of = JwtRequirement(requires_any=JwtRequirementOrList(requirements=requirements))
    config = JwtAuthentication(
        providers={name: _provider(issuer) for name, issuer in mesh.issuers.items()},
        requirement_map={_TOKEN: any_of},
    )
    return [HttpFilter(name=FILTER, typed_config=pack(config))]


def per_route(mesh: Mesh, rules: Iterable[Rule]) -> Any | None:
    """What a route to a target with these rules carries for the filter: None where no rule looks at a token.

    Nothing is verified then, and without a configuration too: claims are missing, and no rule that asks for them holds.
    """
    asks = bool(mesh.issuers) and any(rule.when is not None for rule in rules)
    return PerRouteConfig(requirement_name=_TOKEN) if asks else None


def clusters(mesh: Mesh, roots: str = SYSTEM_ROOTS) -> Iterator[tuple[str, Any]]:
    """Where keys are fetched, by cluster name; `roots` is the file of certificates that their servers must chain to.

    Raises ValueError for a URL that is neither https nor http on loopback: keys in plain text are anybody's keys.
    """
    for issuer in mesh.issuers.values():
        if issuer.jwks_url:
            yield cluster_name(issuer), _cluster(issuer, urlsplit(issuer.jwks_url), roots)


def cluster_name(issuer: Issuer) -> str:
    """The cluster that leads to an issuer's keys."""
    return f"jwks/{issuer.name}"


def claims(when: When) -> list[Any]:
    """What must all hold of a request's token, as predicates."""
    tests = [_custom(_claim(name), Metadata(value=_passing(test))) for name, test in when.claims]
    single = Matcher.MatcherList.Predicate.SinglePredicate(input=_AUTHORIZATION, value_match=_BEARER)
    return [*tests, Matcher.MatcherList.Predicate(single_predicate=single)]


def _provider(issuer: Issuer) -> Any:
    provider = JwtProvider(
        issuer=issuer.issuer,
        audiences=issuer.audiences,
        from_headers=[_PLACE],
        forward=True,
        payload_in_metadata=PAYLOAD,
        require_expiration=True,
        clock_skew_seconds=SKEW,
        jwt_cache_config=_REMEMBERED,
    )
    if issuer.jwks_url:
        provider.remote_jwks.CopyFrom(_remote(issuer))
    else:
        provider.local_jwks.CopyFrom(DataSource(inline_string=issuer.jwks))
    return provider


def _remote(issuer: Issuer) -> Any:
    """Fetched in the background, before they are too old; only requests with a token wait for the first fetch.

    Envoy ends each try after the longest back-off, so that is no shorter than the whole fetch.
    """
    again = BackoffStrategy(base_interval=seconds(0.1), max_interval=seconds(_FETCH))
    return RemoteJwks(
        http_uri=HttpUri(uri=issuer.jwks_url, cluster=cluster_name(issuer), timeout=seconds(_FETCH)),
        cache_duration=seconds(KEYS_KEPT),
        async_fetch=JwksAsyncFetch(fast_listener=True, failed_refetch_duration=seconds(5)),
        retry_policy=RetryPolicy(num_retries=UInt32Value(value=2), retry_back_off=again),
    )


def _cluster(issuer: Issuer, url: SplitResult, roots: str) -> Any:
    host = url.hostname or ""
    if url.scheme != "https" and not (url.scheme == "http" and host in _LOOPBACK):
        raise ValueError(f"issuer {issuer.name}: keys are fetched by https, or by http from loopback")
    name = cluster_name(issuer)
    port = url.port or (443 if url.scheme == "https" else 80)
    cluster = host_cluster(name, host, port, connect=1, family=ALL)  # whichever of both families answers
    if url.scheme == "https":
        cluster.transport_socket.CopyFrom(checked(host, DataSource(filename=roots)))
    return cluster


def _claim(name: str) -> Any:
    path = [DynamicMetadataInput.PathSegment(key=key) for key in (PAYLOAD, name)]
    return matching("claim", DynamicMetadataInput(filter=FILTER, path=path))


def _custom(on: Any, matcher: Any) -> Any:
    """A predicate that does not hold where there is no such claim."""
    single = Matcher.MatcherList.Predicate.SinglePredicate(input=on, custom_match=matching("claim", matcher))
    return Matcher.MatcherList.Predicate(single_predicate=single)


def _passing(test: Test) -> Any:
    """What Envoy asks of a claim, for `passes` in the model."""
    match test:
        case Equals(value):
            return _same(value)
        case AnyOf(values):
            return _either([_same(value) for value in values])
        case Contains(value):
            return ValueMatcher(list_match=ListMatcher(one_of=_same(value)))
        case Scope(word):
            ways = (
                StringMatcher(exact=word),
                StringMatcher(prefix=f"{word} "),
                StringMatcher(suffix=f" {word}"),
                StringMatcher(contains=f" {word} "),
            )
            return _either([ValueMatcher(string_match=way) for way in ways])
        case _:
            assert_never(test)


def _same(value: Value) -> Any:
    """A claim of the value's own type: Python's `True` is an int, and JSON's is no number."""
    if isinstance(value, bool):
        return ValueMatcher(bool_match=value)
    if isinstance(value, str):
        return ValueMatcher(string_match=StringMatcher(exact=value))
    return ValueMatcher(double_match=DoubleMatcher(exact=value))


def _either(matchers: Sequence[Any]) -> Any:
    """One of them. Envoy refuses a choice of one."""
    assert matchers, "a choice of nothing is the author's mistake, found where rules are read"
    return matchers[0] if len(matchers) == 1 else ValueMatcher(or_match=OrMatcher(value_matchers=matchers))
