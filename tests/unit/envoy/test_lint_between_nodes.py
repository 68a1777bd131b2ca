"""The lint of what leads from node to node: real resources, each made unsafe once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.router.cluster_specifiers.matcher.v3.matcher_pb2 import ClusterAction, MatcherClusterSpecifier
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher, TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from septum.envoy import names
from septum.envoy.compile import Compiler, Front
from septum.envoy.lint import LintError, lint
from septum.envoy.wire import pack
from septum.model.mesh import Address
from septum.model.resource_types import CLUSTER, LISTENER, ROUTE
from septum.policy.load import load

FILES = {
    "septum.yaml": b"""
mesh: lab
trust_domain: lab.test
nodes: {alpha: {inbound: 10.0.0.11:7443}, beta: {inbound: 10.0.0.12:7443}}
segments: {core: all}
workloads:
  web: {segment: core, at: 127.0.0.1:1, protocol: http, outbound: 127.0.0.1:2, node: alpha}
  api: {segment: core, at: 127.0.0.1:3, protocol: http, outbound: 127.0.0.1:4, node: beta}
enforce: [core]
""",
    "policy/a.yaml": b'allow: [{from: web, to: api, http: ["GET /a"]}]',
}
MESSAGES = {LISTENER: Listener, CLUSTER: Cluster, ROUTE: RouteConfiguration}


def _resource(node: str, type_url: str, name: str) -> Any:
    policy = load(FILES).policy
    assert policy is not None
    snapshot = Compiler().compile(policy, Front(node, policy.mesh.on(node), {}, "decisions.jsonl"))
    return MESSAGES[type_url].FromString(snapshot.of(type_url)[name].body)


def _refused(message: Any) -> None:
    with pytest.raises(LintError):
        lint(message)


def _with_context(socket: Any, context: Any, change: Callable[[Any], None]) -> None:
    socket.typed_config.Unpack(context)
    change(context)
    socket.typed_config.CopyFrom(pack(context))


def _sans(context: Any) -> Any:
    return context.common_tls_context.combined_validation_context.default_validation_context


def _older_tls(context: Any) -> None:
    context.common_tls_context.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_2


def _no_own_certificate(context: Any) -> None:
    del context.common_tls_context.tls_certificate_sds_secret_configs[:]


def _no_trust(context: Any) -> None:
    context.common_tls_context.combined_validation_context.ClearField("validation_context_sds_secret_config")


def _anybody(context: Any) -> None:
    del _sans(context).match_typed_subject_alt_names[:]


def _by_dns(context: Any) -> None:
    _sans(context).match_typed_subject_alt_names[0].san_type = SubjectAltNameMatcher.DNS


def _neighbours(context: Any) -> None:
    _sans(context).match_typed_subject_alt_names[0].matcher.prefix = "spiffe://lab.test"


EITHER_SIDE = [_older_tls, _no_own_certificate, _no_trust, _anybody, _by_dns, _neighbours]


def _no_client_certificate(context: Any) -> None:
    context.require_client_certificate.value = False


def _tickets(context: Any) -> None:
    context.disable_stateless_session_resumption = False


def _cached_sessions(context: Any) -> None:
    context.disable_stateful_session_resumption = False


@pytest.mark.parametrize("change", [*EITHER_SIDE, _no_client_certificate, _tickets, _cached_sessions])
@pytest.mark.parametrize("chain", [0, 1])
def test_a_door_for_strangers_is_refused(change: Callable[[Any], None], chain: int) -> None:
    listener = _resource("beta", LISTENER, names.INBOUND)
    lint(listener)
    _with_context(listener.filter_chains[chain].transport_socket, DownstreamTlsContext(), change)
    _refused(listener)


def _plain_text(listener: Any) -> None:
    listener.filter_chains[0].ClearField("transport_socket")


def _every_server_name(listener: Any) -> None:
    del listener.filter_chains[0].filter_chain_match.server_names[:]


def _default_chain(listener: Any) -> None:
    listener.default_filter_chain.CopyFrom(listener.filter_chains[0])


@pytest.mark.parametrize("change", [_plain_text, _every_server_name, _default_chain])
def test_an_inbound_listener_that_is_open_is_refused(change: Callable[[Any], None]) -> None:
    listener = _resource("beta", LISTENER, names.INBOUND)
    change(listener)
    _refused(listener)


def _no_caller(manager: Any) -> None:
    del manager.http_filters[0]


def _caller_last(manager: Any) -> None:
    manager.http_filters.append(manager.http_filters.pop(0))


def _believed(manager: Any) -> None:
    manager.forward_client_cert_details = HttpConnectionManager.APPEND_FORWARD


def _all_targets(manager: Any) -> None:
    manager.scoped_routes.name = "septum"


@pytest.mark.parametrize("change", [_no_caller, _caller_last, _believed, _all_targets])
def test_a_manager_that_does_not_know_its_caller_is_refused(change: Callable[[Any], None]) -> None:
    listener = _resource("beta", LISTENER, names.INBOUND)
    config, manager = listener.filter_chains[0].filters[-1].typed_config, HttpConnectionManager()
    config.Unpack(manager)
    change(manager)
    config.CopyFrom(pack(manager))
    _refused(listener)


def test_the_inbound_manager_has_no_place_on_a_listener_without_certificates() -> None:
    listener = _resource("beta", LISTENER, "outbound/api")
    inbound = _resource("beta", LISTENER, names.INBOUND)
    listener.filter_chains[0].filters[-1].CopyFrom(inbound.filter_chains[0].filters[-1])
    _refused(listener)


def test_plain_text_on_a_network_is_for_the_author_alone_to_ask_for() -> None:
    listener = _resource("beta", LISTENER, "outbound/api")
    lint(listener)
    listener.address.socket_address.address = "10.0.0.12"
    _refused(listener)
    lint(listener, [Address("10.0.0.12", 4)])


def _resumed(context: Any) -> None:
    context.ClearField("max_session_keys")


@pytest.mark.parametrize("change", [*EITHER_SIDE, _resumed])
def test_a_way_to_a_stranger_is_refused(change: Callable[[Any], None]) -> None:
    cluster = _resource("alpha", CLUSTER, "forward/web/api")
    lint(cluster)
    _with_context(cluster.transport_socket, UpstreamTlsContext(), change)
    _refused(cluster)


def test_plain_text_to_another_node_is_refused() -> None:
    cluster = _resource("alpha", CLUSTER, "forward/web/api")
    cluster.ClearField("transport_socket")
    _refused(cluster)


def _forwarding() -> tuple[Any, Any]:
    routes = _resource("alpha", ROUTE, "api")
    lint(routes)
    return routes, routes.virtual_hosts[0].routes[1]


def test_what_is_forwarded_leads_to_another_node_and_nowhere_else() -> None:
    routes, route = _forwarding()
    assert ("cluster", "forward/web/api") in lint(routes)
    config, specifier = route.route.inline_cluster_specifier_plugin.extension.typed_config, MatcherClusterSpecifier()
    config.Unpack(specifier)
    for on in specifier.cluster_matcher.matcher_tree.exact_match_map.map.values():
        on.action.typed_config.CopyFrom(pack(ClusterAction(cluster="web")))
    config.CopyFrom(pack(specifier))
    _refused(routes)


def test_a_way_that_is_open_to_every_caller_is_refused() -> None:
    routes, route = _forwarding()
    config, per_route = route.typed_per_filter_config[names.RBAC_FILTER], RBACPerRoute()
    config.Unpack(per_route)
    action = Action(name=names.FORWARD)
    per_route.rbac.matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    config.CopyFrom(pack(per_route))
    _refused(routes)


def test_who_asks_for_another_target_gets_an_answer_and_no_way() -> None:
    routes = _resource("beta", ROUTE, "api")
    lint(routes)
    misdirected = routes.virtual_hosts[1].routes[1]
    misdirected.route.cluster = "api"
    _refused(routes)
