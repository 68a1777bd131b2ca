"""The last look at a resource before it leaves: nothing may be open by omission, and nothing may point nowhere.

Envoy accepts without a word an empty RBAC (which allows everything), a per-filter key that names no filter of the chain
and a route to a cluster that does not exist. None of them passes here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from septum.envoy import names

Reference = tuple[str, str]


class LintError(Exception):
    """A resource that must not be sent. A bug of the compiler, never the author's mistake."""


def lint(message: Any) -> tuple[Reference, ...]:
    """Raise LintError for a resource that is unsafe; return what it refers to, as (kind, name)."""
    match message:
        case Listener():
            return tuple(_listener(message))
        case RouteConfiguration():
            return tuple(_routes(message))
        case ScopedRouteConfiguration():
            return (("route", message.route_configuration_name),)
        case _:
            return ()


def consistent(references: Iterable[tuple[str, Reference]], known: Mapping[str, Collection[str]]) -> None:
    """Raise LintError when something refers to what the snapshot does not hold."""
    for holder, (kind, name) in references:
        if name not in known[kind]:
            raise LintError(f"{holder} refers to {kind} {name}, which the snapshot does not hold")


def _listener(listener: Any) -> Iterator[Reference]:
    if not listener.filter_chains or listener.HasField("default_filter_chain"):
        raise LintError(f"listener {listener.name}: it has no filter chain, or a default one")
    for chain in listener.filter_chains:
        last = chain.filters[-1].typed_config
        if last.Is(HttpConnectionManager.DESCRIPTOR):
            if fault := _manager_fault(last.value):
                raise LintError(f"listener {listener.name}: {fault}")
        elif last.Is(TcpProxy.DESCRIPTOR):
            yield _tcp_proxy(listener.name, last)
        else:
            raise LintError(f"listener {listener.name}: its chain ends in {last.type_url}")


def _tcp_proxy(listener: str, config: Any) -> Reference:
    proxy = TcpProxy()
    config.Unpack(proxy)
    if not proxy.HasField("tunneling_config") or not proxy.cluster.startswith("inside/"):
        raise LintError(f"listener {listener}: a raw session must lead inside, where it is decided")
    return ("cluster", proxy.cluster)


@lru_cache(maxsize=64)
def _manager_fault(value: bytes) -> str | None:
    """What is unsafe about a connection manager; remembered, since all of a node's listeners share two."""
    manager = HttpConnectionManager.FromString(value)
    chain = [http_filter.name for http_filter in manager.http_filters]
    if chain != [names.RBAC_FILTER, names.ROUTER_FILTER]:
        return f"the filters are {chain}, not RBAC and then the router"
    base = RBAC()
    faults = {
        "a filter is disabled or optional": any(f.disabled or f.is_optional for f in manager.http_filters),
        "the base RBAC does not deny by itself": not manager.http_filters[0].typed_config.Unpack(base)
        or not _denies(base.matcher),
        "an upgrade replaces the filter chain": any(upgrade.filters for upgrade in manager.upgrade_configs),
        "decisions would not be recorded": not manager.access_log,
        "paths are not normalised": not (manager.normalize_path.value and manager.merge_slashes),
    }
    return next((fault for fault, is_there in faults.items() if is_there), None)


def _denies(matcher: Any) -> bool:
    action = Action()
    return bool(matcher.on_no_match.action.typed_config.Unpack(action)) and action.action == RbacPolicy.DENY


def _routes(configuration: Any) -> Iterator[Reference]:
    for host in configuration.virtual_hosts:
        if host.typed_per_filter_config or configuration.typed_per_filter_config:
            raise LintError(f"routes of {configuration.name}: policy stands on routes alone")
        for route in host.routes:
            _route(configuration.name, route)
            if route.route.cluster:
                yield ("cluster", route.route.cluster)


def _route(name: str, route: Any) -> None:
    if set(route.typed_per_filter_config) != {names.RBAC_FILTER}:
        raise LintError(f"routes of {name}: per-filter keys are {sorted(route.typed_per_filter_config)}")
    per_route = RBACPerRoute()
    if not route.typed_per_filter_config[names.RBAC_FILTER].Unpack(per_route):
        raise LintError(f"routes of {name}: the RBAC is of another type")
    if not per_route.HasField("rbac") or not per_route.rbac.HasField("matcher"):
        raise LintError(f"routes of {name}: an empty RBAC allows everything")
    shadow = per_route.rbac.shadow_matcher if per_route.rbac.HasField("shadow_matcher") else None
    if not (_falls_to_deny(per_route.rbac.matcher) or _deliberately_open(route, per_route.rbac.matcher, shadow)):
        raise LintError(f"routes of {name}: a level of the tree does not fall through to a denial")


def _falls_to_deny(matcher: Any) -> bool:
    """Every level without a match ends in a denial: its own, or that of the matcher it hands on to."""
    otherwise = matcher.on_no_match
    ends = _falls_to_deny(otherwise.matcher) if otherwise.HasField("matcher") else _denies(matcher)
    return ends and all(_falls_to_deny(on.matcher) for on in _branches(matcher) if on.HasField("matcher"))


def _branches(matcher: Any) -> Iterator[Any]:
    tree = matcher.matcher_tree
    yield from tree.exact_match_map.map.values()
    yield from tree.prefix_match_map.map.values()
    for field in matcher.matcher_list.matchers:
        yield field.on_match


def _deliberately_open(route: Any, matcher: Any, shadow: Any) -> bool:
    """An observed target (beside its whole policy as shadow) and the tunnel inside: both say so by name."""
    action = Action()
    if not matcher.on_no_match.action.typed_config.Unpack(action) or matcher.WhichOneof("matcher_type"):
        return False
    if action.name == names.TUNNEL:
        return bool(route.match.HasField("connect_matcher") and route.route.cluster_header == names.INSIDE_HEADER)
    return action.name == names.OBSERVE and shadow is not None and _falls_to_deny(shadow)
