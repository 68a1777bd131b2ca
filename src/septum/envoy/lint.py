"""The last look at a resource before it leaves: nothing may be open by omission, and nothing may point nowhere.

Envoy accepts without a word an empty RBAC (which allows everything), a per-filter key that names no filter of the chain
and a route to a cluster that does not exist. None of them passes here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.matching.input_matchers.metadata.v3.metadata_pb2 import Metadata
from envoy.extensions.router.cluster_specifiers.matcher.v3.matcher_pb2 import ClusterAction, MatcherClusterSpecifier
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from septum.envoy import jwt, names, window
from septum.envoy.route import MISDIRECTED_REQUEST
from septum.envoy.tls import TLS_SOCKET
from septum.envoy.wire import pack
from septum.model.mesh import Address, Mode

# Ahead of these stand only what reads the caller from a certificate, and what reads tokens.
_LAST = [names.RBAC_FILTER, names.ROUTER_FILTER]
_HOSTS = (SubjectAltNameMatcher.DNS, SubjectAltNameMatcher.IP_ADDRESS)
_INSPECTOR = pack(TlsInspector()).type_url
# The action by which what an observed target's rules do not allow passes.
_OBSERVED = pack(Action(name=names.OBSERVE, action=RbacPolicy.ALLOW)).value

Reference = tuple[str, str]


class LintError(Exception):
    """A resource that must not be sent. A bug of the compiler, never the author's mistake."""


def lint(message: Any, written: Collection[Address] = ()) -> tuple[Reference, ...]:
    """Raise LintError for a resource that is unsafe; return what it refers to, as (kind, name).

    `written` are the addresses that the author chose: where plain text may be spoken off loopback.
    """
    match message:
        case Listener():
            return tuple(_listener(message, written))
        case RouteConfiguration():
            return tuple(_routes(message))
        case ScopedRouteConfiguration():
            return (("route", message.route_configuration_name),)
        case Cluster():
            _cluster(message)
            return ()
        case _:
            return ()


def consistent(references: Iterable[tuple[str, Reference]], known: Mapping[str, Collection[str]]) -> None:
    """Raise LintError when something refers to what the snapshot does not hold."""
    for holder, (kind, name) in references:
        if name not in known[kind]:
            raise LintError(f"{holder} refers to {kind} {name}, which the snapshot does not hold")


def _listener(listener: Any, written: Collection[Address]) -> Iterator[Reference]:
    if not listener.filter_chains or listener.HasField("default_filter_chain"):
        raise LintError(f"listener {listener.name}: it has no filter chain, or a default one")
    inbound = listener.name == names.INBOUND
    if not inbound and _on_a_network(listener.address, written):
        raise LintError(f"listener {listener.name}: plain text off loopback, where nobody asked for it")
    if names.is_gate(listener.name) and (fault := _gate_fault(listener)):
        raise LintError(f"listener {listener.name}: {fault}")
    for chain in listener.filter_chains:
        if inbound and (fault := _door_fault(chain)):
            raise LintError(f"listener {listener.name}: chain {chain.name}: {fault}")
        last = chain.filters[-1].typed_config
        if last.Is(HttpConnectionManager.DESCRIPTOR):
            fault, routes = _manager(last.value, by_certificate=inbound)
            if fault:
                raise LintError(f"listener {listener.name}: {fault}")
            yield from routes
        elif last.Is(TcpProxy.DESCRIPTOR):
            yield _tcp_proxy(listener.name, last)
        else:
            raise LintError(f"listener {listener.name}: its chain ends in {last.type_url}")


def _on_a_network(address: Any, written: Collection[Address]) -> bool:
    if not address.HasField("socket_address"):
        return False
    host, port = address.socket_address.address, address.socket_address.port_value
    return not ip_address(host).is_loopback and Address(host, port) not in written


def _door_fault(chain: Any) -> str | None:
    """What is unsafe about a filter chain to which anybody on a network may connect."""
    context = DownstreamTlsContext()
    if not chain.filter_chain_match.server_names:
        return "it takes every server name"
    if chain.transport_socket.name != TLS_SOCKET or not chain.transport_socket.typed_config.Unpack(context):
        return "it is not TLS"
    if not context.require_client_certificate.value:
        return "it asks for no certificate"
    if not (context.disable_stateless_session_resumption and context.disable_stateful_session_resumption):
        return "it resumes sessions, and so does not look at certificates again"
    return _identity_fault(context.common_tls_context)


def _gate_fault(gate: Any) -> str | None:
    """What is unsafe about a listener that lets sessions outside by what they say."""
    if not gate.HasField("internal_listener"):
        return "it takes sessions that nobody decided about"
    if [filter.typed_config.type_url for filter in gate.listener_filters] != [_INSPECTOR]:
        return "it does not look into sessions"
    if gate.continue_on_listener_filters_timeout:
        return "it does not wait for what a session says"
    if not gate.access_log:
        return "what it stops would not be recorded"
    for chain in gate.filter_chains:
        if [bool(name) and "*" not in name for name in chain.filter_chain_match.server_names] != [True]:
            return "it takes more than one server name"
    return None


def _identity_fault(context: Any, *, exact: bool = False) -> str | None:
    """What is unsafe about how a side of a connection proves who it is, and looks at who the other is."""
    sans = context.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    if context.tls_params.tls_minimum_protocol_version != TlsParameters.TLSv1_3:
        return "it takes less than TLS 1.3"
    if not context.tls_certificate_sds_secret_configs:
        return "it shows no certificate"
    if not context.combined_validation_context.validation_context_sds_secret_config.name:
        return "it checks certificates against nothing"
    if len(sans) != 1 or sans[0].san_type != SubjectAltNameMatcher.URI:
        return "it does not compare one SPIFFE ID"
    if not (sans[0].matcher.exact or (sans[0].matcher.prefix.endswith("/") and not exact)):
        return "it takes SPIFFE IDs that it should not"
    return None


def _cluster(cluster: Any) -> None:
    """What leads to another node proves who calls, and looks at who answers."""
    if fault := _way_fault(cluster):
        raise LintError(f"cluster {cluster.name}: {fault}")
    if not names.to_another_node(cluster.name):
        return
    context = UpstreamTlsContext()
    if cluster.transport_socket.name != TLS_SOCKET or not cluster.transport_socket.typed_config.Unpack(context):
        raise LintError(f"cluster {cluster.name}: plain text to another node")
    if not context.HasField("max_session_keys") or context.max_session_keys.value:
        raise LintError(f"cluster {cluster.name}: it resumes sessions, and so does not look at certificates again")
    if fault := _identity_fault(context.common_tls_context, exact=True):
        raise LintError(f"cluster {cluster.name}: {fault}")


def _way_fault(cluster: Any) -> str | None:
    """What is unsafe about a way to a gate, or to a place outside."""
    addresses = [end.endpoint.address for group in cluster.load_assignment.endpoints for end in group.lb_endpoints]
    if names.is_gate(cluster.name):
        inside = [address.envoy_internal_address.server_listener_name for address in addresses]
        return None if inside == [cluster.name] else "it does not lead to its gate alone"
    if not names.leads_outside(cluster.name):
        return None
    if [address.HasField("socket_address") for address in addresses] != [True]:
        return "it leads somewhere else than to one host outside"
    return _certificate_fault(cluster.transport_socket) if cluster.HasField("transport_socket") else None


def _certificate_fault(socket: Any) -> str | None:
    """What is unsafe about how the certificate of a host outside is looked at."""
    context = UpstreamTlsContext()
    if socket.name != TLS_SOCKET or not socket.typed_config.Unpack(context):
        return "it is not TLS"
    common = context.common_tls_context
    validation, lowest = common.validation_context, common.tls_params.tls_minimum_protocol_version
    sans = validation.match_typed_subject_alt_names
    if lowest not in (TlsParameters.TLSv1_2, TlsParameters.TLSv1_3):
        return "it takes less than TLS 1.2"
    if not validation.trusted_ca.WhichOneof("specifier"):
        return "it checks certificates against nothing"
    if validation.trust_chain_verification != CertificateValidationContext.VERIFY_TRUST_CHAIN:
        return "it takes certificates that nobody vouches for"
    if len(sans) != 1 or sans[0].san_type not in _HOSTS or not sans[0].matcher.exact:
        return "it does not compare the host with that of the certificate"
    return None


def _tcp_proxy(listener: str, config: Any) -> Reference:
    proxy = TcpProxy()
    config.Unpack(proxy)
    if names.is_gate(listener):
        if proxy.HasField("tunneling_config") or not names.behind_a_gate(proxy.cluster):
            raise LintError(f"listener {listener}: a gate leads to the place outside that is behind it")
        return ("cluster", proxy.cluster)
    if not proxy.HasField("tunneling_config") or not proxy.cluster.startswith("inside/"):
        raise LintError(f"listener {listener}: a raw session must lead inside, where it is decided")
    return ("cluster", proxy.cluster)


# The listeners of a node share few managers; on the inbound one each target has its own.
@lru_cache(maxsize=1024)
def _manager(value: bytes, *, by_certificate: bool) -> tuple[str | None, tuple[Reference, ...]]:
    """What is unsafe about a connection manager, and what it refers to."""
    manager = HttpConnectionManager.FromString(value)
    chain = [http_filter.name for http_filter in manager.http_filters]
    first = [names.CALLER_FILTER] if by_certificate else []
    if chain not in ([*first, *_LAST], [*first, jwt.FILTER, *_LAST]):
        return f"the filters are {chain}, not {[*first, f'({jwt.FILTER})', *_LAST]}", ()
    if by_certificate != manager.HasField("rds"):
        return "routes are found by scope exactly where the listener knows its caller", ()
    base = RBAC()
    faults = {
        "a filter is disabled or optional": any(f.disabled or f.is_optional for f in manager.http_filters),
        "the base RBAC does not deny by itself": not manager.http_filters[-2].typed_config.Unpack(base)
        or not _denies(base.matcher),
        "an upgrade replaces the filter chain": any(upgrade.filters for upgrade in manager.upgrade_configs),
        "decisions would not be recorded": not manager.access_log,
        "paths are not normalised": not (manager.normalize_path.value and manager.merge_slashes),
        "a client's word for its certificate is believed": manager.forward_client_cert_details
        not in (HttpConnectionManager.SANITIZE, HttpConnectionManager.SANITIZE_SET),
    }
    fault = next((fault for fault, is_there in faults.items() if is_there), None)
    return fault, (("route", manager.rds.route_config_name),) if by_certificate else ()


def _denies(matcher: Any) -> bool:
    return _ends_in_denial(matcher.on_no_match)


def _routes(configuration: Any) -> Iterator[Reference]:
    for host in configuration.virtual_hosts:
        if host.typed_per_filter_config or configuration.typed_per_filter_config:
            raise LintError(f"routes of {configuration.name}: policy stands on routes alone")
        for route in host.routes:
            _route(configuration.name, route)
            yield from (("cluster", name) for name in _clusters(configuration.name, route.route))


def _clusters(name: str, action: Any) -> Iterator[str]:
    """Where a route leads. By the caller is chosen what is for one caller alone: ways to other nodes, and gates."""
    if action.cluster:
        if names.of_one_caller(action.cluster) or names.behind_a_gate(action.cluster):
            raise LintError(f"routes of {name}: {action.cluster} is not for whoever a route lets through")
        yield action.cluster
    if not action.HasField("inline_cluster_specifier_plugin"):
        return
    specifier, chosen = MatcherClusterSpecifier(), ClusterAction()
    if not action.inline_cluster_specifier_plugin.extension.typed_config.Unpack(specifier):
        raise LintError(f"routes of {name}: clusters are chosen by something else than the caller")
    for on in _branches(specifier.cluster_matcher):
        if not on.action.typed_config.Unpack(chosen) or not names.of_one_caller(chosen.cluster):
            raise LintError(f"routes of {name}: what is chosen by the caller leads to {chosen.cluster or 'nowhere'}")
        yield chosen.cluster


def _route(name: str, route: Any) -> None:
    keys = set(route.typed_per_filter_config)
    if keys not in ({names.RBAC_FILTER}, {names.RBAC_FILTER, jwt.FILTER}):
        raise LintError(f"routes of {name}: per-filter keys are {sorted(keys)}")
    per_route = RBACPerRoute()
    if not route.typed_per_filter_config[names.RBAC_FILTER].Unpack(per_route):
        raise LintError(f"routes of {name}: the RBAC is of another type")
    if not per_route.HasField("rbac") or not per_route.rbac.HasField("matcher"):
        raise LintError(f"routes of {name}: an empty RBAC allows everything")
    if not (_falls_to_deny(per_route.rbac.matcher) or _deliberately_open(route, per_route.rbac.matcher)):
        raise LintError(f"routes of {name}: a level of the tree does not fall through to a denial")
    if not all(map(_asks_positively, (per_route.rbac.matcher, per_route.rbac.shadow_matcher))):
        raise LintError(f"routes of {name}: a row asks for what is not so, or for what nobody knows here")
    if per_route.rbac.HasField("shadow_matcher"):
        _beside(name, route, per_route.rbac.shadow_matcher)


def _beside(name: str, route: Any, shadow: Any) -> None:
    """What is recorded beside the decision is a candidate's answer, and says whose: an older record means otherwise."""
    if not _said(route, names.CANDIDATE):
        raise LintError(f"routes of {name}: a candidate is asked that has no name in records")
    if not _falls_to_deny(shadow):
        raise LintError(f"routes of {name}: a level of the candidate's tree does not fall through to a denial")


def _said(route: Any, key: str) -> str:
    """What a route's metadata tells the record."""
    metadata = route.metadata.filter_metadata
    fields = metadata[names.METADATA].fields if names.METADATA in metadata else {}
    return str(fields[key].string_value) if key in fields else ""


def _falls_to_deny(matcher: Any) -> bool:
    """Every level without a match ends in a denial: its own, or that of the matcher it hands on to.

    And no branch passes as observed: that is for targets of which every branch does.
    """
    otherwise = matcher.on_no_match
    if not (_falls_to_deny(otherwise.matcher) if otherwise.HasField("matcher") else _denies(matcher)):
        return False
    return all(
        _falls_to_deny(on.matcher) if on.HasField("matcher") else on.action.typed_config.value != _OBSERVED
        for on in _branches(matcher)
    )


def _only_passes(matcher: Any) -> bool:
    """Every level without a match passes as observed, and nothing denies but what is in quarantine."""
    otherwise = matcher.on_no_match
    if not (_only_passes(otherwise.matcher) if otherwise.HasField("matcher") else _named(otherwise) == names.OBSERVE):
        return False
    return all(
        _only_passes(on.matcher) if on.HasField("matcher") else not _ends_in_denial(on) or _is_quarantine(on)
        for on in _branches(matcher)
    )


def _branches(matcher: Any) -> Iterator[Any]:
    tree = matcher.matcher_tree
    yield from tree.exact_match_map.map.values()
    yield from tree.prefix_match_map.map.values()
    for field in matcher.matcher_list.matchers:
        yield field.on_match


def _asks_positively(matcher: Any) -> bool:
    """Whether every row of every list holds only where all that it asks is there: what cannot be read opens nothing."""
    rows = all(_positive(field.predicate) for field in matcher.matcher_list.matchers)
    below = [on.matcher for on in (*_branches(matcher), matcher.on_no_match) if on.HasField("matcher")]
    return rows and all(map(_asks_positively, below))


def _positive(predicate: Any) -> bool:
    if predicate.HasField("and_matcher"):
        return all(map(_positive, predicate.and_matcher.predicate))
    if not predicate.HasField("single_predicate"):
        return False
    single = predicate.single_predicate
    if single.HasField("value_match"):
        return True
    return bool(single.custom_match.typed_config.Is(Metadata.DESCRIPTOR)) or window.is_window(predicate)


def _deliberately_open(route: Any, matcher: Any) -> bool:
    """What says by name that it is open, and may be.

    That is a target that its route calls observed (its whole tree, behind quarantine), the tunnel inside, and the
    answer to who asks for another target.
    """
    if _said(route, "mode") == Mode.OBSERVE and _only_passes(matcher):
        return True
    if matcher.WhichOneof("matcher_type"):
        return False
    name = _named(matcher.on_no_match)
    if name == names.TUNNEL:
        return bool(route.match.HasField("connect_matcher") and route.route.cluster_header == names.INSIDE_HEADER)
    return bool(name == names.MISDIRECTED and route.direct_response.status == MISDIRECTED_REQUEST)


def _named(on: Any) -> str:
    """The name of an action; none of what is no action."""
    action = Action()
    return str(action.name) if on.action.typed_config.Unpack(action) else ""


def _is_quarantine(on: Any) -> bool:
    return _named(on) == names.QUARANTINE


def _ends_in_denial(on: Any) -> bool:
    action = Action()
    return bool(on.action.typed_config.Unpack(action)) and action.action == RbacPolicy.DENY
