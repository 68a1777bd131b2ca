"""Places outside, compiled: on which node, for whom, how the host is believed, and what the lint refuses of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.clusters.common.dns.v3.dns_pb2 import V4_PREFERRED
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher, TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from google.protobuf.wrappers_pb2 import BoolValue

from septum.envoy import names, outside
from septum.envoy.compile import Compiler, Front
from septum.envoy.lint import LintError, lint
from septum.envoy.reach import Survey, reach, touched
from septum.envoy.wire import pack
from septum.model.mesh import Address, External, Mesh, Mode, Node, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.resource_types import CLUSTER, LISTENER, ROUTE, SCOPE
from septum.model.snapshot import Snapshot
from septum.policy.quarantine import quarantined

PLACES = (
    External("partner", "api.partner.test", 443, Protocol.HTTP, originate_tls=True, ca="pem"),
    External("plain", "plain.test", 8080, Protocol.HTTP),
    External("bank", "bank.test", 443, Protocol.TCP, sni=True),
    External("vault", "192.0.2.7", 5432, Protocol.TCP),
)
READ = (HttpPattern.parse("GET /**"),)
MESSAGES: Mapping[str, Any] = {CLUSTER: Cluster, LISTENER: Listener, ROUTE: RouteConfiguration}


def _mesh(*places: External) -> Mesh:
    """`web` and `shop` on one node, `tool` on another."""
    nodes = {name: Node(name, Address("192.0.2.1", port)) for name, port in (("alpha", 7443), ("beta", 7444))}
    workloads = {
        name: Workload(name, "all", Address("127.0.0.1", at), Protocol.HTTP, node=node)
        for name, node, at in (("web", "alpha", 1), ("shop", "alpha", 2), ("tool", "beta", 3))
    }
    listed = {place.name: place for place in places or PLACES}
    return Mesh("m", "m.test", {"all": Segment("all")}, workloads, frozenset({"all"}), nodes, external=listed)


def _policy(*callers: str, mesh: Mesh | None = None) -> Policy:
    rules = (
        Rule("read", callers, ("partner", "plain"), READ),
        Rule("sessions", callers, ("bank", "vault"), None),
    )
    return Policy(mesh or _mesh(), rules if callers else (), "v")


def _front(mesh: Mesh, node: str) -> Front:
    outbound = {name: Address("127.0.0.1", 19000 + at) for at, name in enumerate(mesh.workloads)}
    return Front(node, mesh.on(node), outbound, "decisions.jsonl")


def _held(policy: Policy, node: str = "alpha") -> Snapshot:
    return Compiler().compile(policy, _front(policy.mesh, node))


def _of_places(snapshot: Snapshot) -> set[str]:
    words = ("partner", "plain", "bank", "vault", "192.0.2.7")
    held = [name for kind in (CLUSTER, LISTENER, ROUTE, SCOPE) for name in snapshot.of(kind)]
    return {name for name in held if any(word in name for word in words)}


def _resource(type_url: str, name: str, policy: Policy | None = None) -> Any:
    return MESSAGES[type_url].FromString(_held(policy or _policy("web")).of(type_url)[name].body)


def test_a_place_is_there_where_a_caller_of_it_is() -> None:
    policy = _policy("web")
    assert _of_places(_held(policy, "alpha")) == {
        "outside/partner", "outside/plain", "outside/vault", "gated/bank", "gate/web/bank",
        "partner", "plain", "bank", "vault", *(name for place in PLACES for name in place.names),
    }  # fmt: skip
    assert _of_places(_held(policy, "beta")) == set()
    assert _of_places(_held(_policy())) == set()


def test_what_is_observed_is_there_for_everyone() -> None:
    policy = _policy(mesh=_mesh(replace(PLACES[2], mode=Mode.OBSERVE)))
    assert {"gate/web/bank", "gate/shop/bank"} <= _of_places(_held(policy, "alpha"))
    assert "gate/tool/bank" in _of_places(_held(policy, "beta"))


def test_a_node_is_not_told_of_callers_elsewhere() -> None:
    body = _held(_policy("web", "tool")).of(ROUTE)["partner"].body
    assert b"m.test/web" in body
    assert b"m.test/tool" not in body


def test_another_caller_is_news_for_its_own_node_and_leaves_the_others() -> None:
    before, after = _policy("web"), replace(_policy("web", "tool"), mesh=_policy("web").mesh)
    after = replace(after, mesh=before.mesh)
    changed = touched(before, after)
    assert changed is not None
    assert {"web", "tool", "partner"} <= changed
    assert "shop" not in changed
    compiler = Compiler(Survey())
    for policy in (before, after, before):
        step = compiler.compile(policy, _front(policy.mesh, "beta"))
        assert step == _held(policy, "beta")


@pytest.mark.parametrize("shut", ["web", "bank"])
def test_quarantine_reaches_the_nodes_of_callers(shut: str) -> None:
    policy = _policy("web")
    closed = quarantined(policy, [shut])
    changed = touched(policy, closed)
    assert changed is not None
    assert "web" in changed
    assert names.QUARANTINE.encode() in _held(closed).of(ROUTE)["bank"].body


def test_everyone_who_may_come_is_counted() -> None:
    watched = _mesh(replace(PLACES[1], mode=Mode.OBSERVE))
    found = reach(_policy(mesh=watched))
    assert found.observed == {"plain"}
    assert reach(_policy("web")).targets["web"] == {"partner", "plain", "bank", "vault"}


@pytest.mark.parametrize(
    ("place", "authority"),
    [
        (PLACES[0], "api.partner.test"),
        (replace(PLACES[0], port=8443), "api.partner.test:8443"),
        (PLACES[1], "plain.test:8080"),
        (replace(PLACES[1], port=80), "plain.test"),
        (replace(PLACES[1], port=443), "plain.test:443"),
        (replace(PLACES[1], host="2001:db8::1", port=80), "[2001:db8::1]"),
    ],
)
def test_the_host_hears_its_own_name(place: External, authority: str) -> None:
    routes = outside.place_routes(_policy(mesh=_mesh(place)), place, ["web"], ())
    assert routes.virtual_hosts[0].routes[1].route.host_rewrite_literal == authority


def test_names_are_looked_up_and_addresses_are_not() -> None:
    by_name, by_address = outside.place_cluster(PLACES[2]), outside.place_cluster(PLACES[3])
    lookup = DnsCluster()
    assert by_name.cluster_type.typed_config.Unpack(lookup)
    assert (lookup.respect_dns_ttl, lookup.dns_lookup_family) == (True, V4_PREFERRED)
    assert by_name.HasField("wait_for_warm_on_init")
    assert not by_name.wait_for_warm_on_init.value
    assert not by_address.HasField("cluster_type")
    assert by_address.type == Cluster.STATIC


@pytest.mark.parametrize(
    ("host", "kind", "sni"),
    [
        ("api.partner.test", SubjectAltNameMatcher.DNS, "api.partner.test"),
        ("192.0.2.7", SubjectAltNameMatcher.IP_ADDRESS, ""),
    ],
)
def test_a_host_proves_its_name_to_its_own_authorities(host: str, kind: int, sni: str) -> None:
    tls = UpstreamTlsContext()
    assert outside.place_cluster(replace(PLACES[0], host=host)).transport_socket.typed_config.Unpack(tls)
    validation = tls.common_tls_context.validation_context
    (san,) = validation.match_typed_subject_alt_names
    assert (san.san_type, san.matcher.exact, tls.sni) == (kind, host, sni)
    assert validation.trusted_ca.inline_string == "pem"
    rooted = outside.place_cluster(replace(PLACES[0], ca=""), "roots.pem")
    assert rooted.transport_socket.typed_config.Unpack(tls)
    assert tls.common_tls_context.validation_context.trusted_ca.filename == "roots.pem"


def _without_inspector(gate: Any) -> None:
    del gate.listener_filters[:]


def _impatient(gate: Any) -> None:
    gate.continue_on_listener_filters_timeout = True


def _unrecorded(gate: Any) -> None:
    del gate.access_log[:]


def _on_a_socket(gate: Any) -> None:
    gate.ClearField("internal_listener")
    gate.address.socket_address.address, gate.address.socket_address.port_value = "127.0.0.1", 1


def _any_name(gate: Any) -> None:
    del gate.filter_chains[0].filter_chain_match.server_names[:]


def _wildcard(gate: Any) -> None:
    gate.filter_chains[0].filter_chain_match.server_names[:] = ["*.test"]


def _two_names(gate: Any) -> None:
    gate.filter_chains[0].filter_chain_match.server_names.append("evil.test")


def _default_chain(gate: Any) -> None:
    gate.default_filter_chain.CopyFrom(gate.filter_chains[0])


def _elsewhere(gate: Any) -> None:
    gate.filter_chains[0].filters[0].typed_config.CopyFrom(pack(TcpProxy(cluster="outside/vault")))


Change = Callable[[Any], None]


@pytest.mark.parametrize(
    "change",
    [_without_inspector, _impatient, _unrecorded, _on_a_socket, _any_name, _wildcard, _two_names, _default_chain,
     _elsewhere],
)  # fmt: skip
def test_a_gate_that_lets_others_through_is_refused(change: Change) -> None:
    gate = _resource(LISTENER, "gate/web/bank")
    lint(gate)
    change(gate)
    with pytest.raises(LintError):
        lint(gate)


def test_a_listener_that_is_no_gate_does_not_lead_outside() -> None:
    gate = _resource(LISTENER, "gate/web/bank")
    gate.name = "dial/web/bank"
    with pytest.raises(LintError, match="must lead inside"):
        lint(gate)


@pytest.mark.parametrize("cluster", ["gated/bank", "gate/web/bank", "forward/web/x"])
def test_a_route_leads_to_no_gated_place_and_to_nobody_s_own_gate(cluster: str) -> None:
    routes = _resource(ROUTE, "vault")
    lint(routes)
    routes.virtual_hosts[0].routes[0].route.cluster = cluster
    with pytest.raises(LintError):
        lint(routes)


def test_a_caller_s_cluster_is_a_gate_or_another_node() -> None:
    routes = _resource(ROUTE, "bank")
    assert lint(routes) == (("cluster", "gate/web/bank"),)
    plugin = routes.virtual_hosts[0].routes[0].route.inline_cluster_specifier_plugin.extension.typed_config
    plugin.value = plugin.value.replace(b"gate/web/bank", b"gated/at/bank")
    with pytest.raises(LintError):
        lint(routes)


def _address(cluster: Any) -> Any:
    return cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address


def _to_another_gate(cluster: Any) -> None:
    _address(cluster).envoy_internal_address.server_listener_name = "gate/shop/bank"


def _to_a_pipe(cluster: Any) -> None:
    _address(cluster).pipe.path = "admin.sock"


def _inside(cluster: Any) -> None:
    _address(cluster).envoy_internal_address.server_listener_name = "inside/shop"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gate/web/bank", _to_another_gate),
        ("gate/web/bank", _to_a_pipe),
        ("outside/vault", _to_a_pipe),
        ("gated/bank", _inside),
    ],
)
def test_a_cluster_leads_where_its_name_says(name: str, change: Change) -> None:
    cluster = _resource(CLUSTER, name)
    lint(cluster)
    change(cluster)
    with pytest.raises(LintError):
        lint(cluster)


def _old_tls(context: Any) -> None:
    context.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_1


def _any_tls(context: Any) -> None:
    context.ClearField("tls_params")


def _no_roots(context: Any) -> None:
    context.validation_context.ClearField("trusted_ca")


def _no_name(context: Any) -> None:
    del context.validation_context.match_typed_subject_alt_names[:]


def _a_prefix(context: Any) -> None:
    context.validation_context.match_typed_subject_alt_names[0].matcher.prefix = "api."


def _another_kind(context: Any) -> None:
    context.validation_context.match_typed_subject_alt_names[0].san_type = SubjectAltNameMatcher.EMAIL


def _accepting(context: Any) -> None:
    context.validation_context.trust_chain_verification = context.validation_context.ACCEPT_UNTRUSTED


@pytest.mark.parametrize("change", [_old_tls, _any_tls, _no_roots, _no_name, _a_prefix, _another_kind, _accepting])
def test_a_host_that_is_believed_without_a_look_is_refused(change: Change) -> None:
    cluster = _resource(CLUSTER, "outside/partner")
    lint(cluster)
    tls = UpstreamTlsContext()
    assert cluster.transport_socket.typed_config.Unpack(tls)
    change(tls.common_tls_context)
    cluster.transport_socket.typed_config.CopyFrom(pack(tls))
    with pytest.raises(LintError):
        lint(cluster)


def test_another_transport_is_no_tls() -> None:
    cluster = _resource(CLUSTER, "outside/partner")
    cluster.transport_socket.typed_config.CopyFrom(pack(BoolValue(value=True)))
    with pytest.raises(LintError, match="not TLS"):
        lint(cluster)
