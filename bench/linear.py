"""The same policy as a list of RBAC `rules`, which is what other meshes emit: each request walks it from the front."""

from __future__ import annotations

from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal
from envoy.config.rbac.v3.rbac_pb2 import Policy as RbacRule
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.type.matcher.v3.filter_state_pb2 import FilterStateMatcher
from envoy.type.matcher.v3.path_pb2 import PathMatcher
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from septum.envoy.names import CALLER
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule


def per_route(policy: Policy, target: str) -> Any:
    """The rules of a target in policy order, which is the order of their names (Envoy sorts by name)."""
    rules = {rule.id: _rule(policy, rule) for rule in policy.rules_to[target]}
    return RBACPerRoute(rbac=RBAC(rules=RbacPolicy(action=RbacPolicy.ALLOW, policies=rules)))


def _rule(policy: Policy, rule: Rule) -> Any:
    callers = [_caller(str(policy.mesh.spiffe(caller))) for caller in rule.callers]
    return RbacRule(principals=callers, permissions=[_operation(pattern) for pattern in rule.operations or ()])


def _caller(identity: str) -> Any:
    return Principal(filter_state=FilterStateMatcher(key=CALLER, string_match=StringMatcher(exact=identity)))


def _operation(pattern: HttpPattern) -> Any:
    methods = [Permission(header=_method(method)) for method in pattern.methods]
    path = Permission(url_path=PathMatcher(path=_path(pattern)))
    return Permission(and_rules=Permission.Set(rules=[Permission(or_rules=Permission.Set(rules=methods)), path]))


def _method(method: str) -> Any:
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact=method))


def _path(pattern: HttpPattern) -> Any:
    if pattern.path.literal is not None:
        return StringMatcher(exact=pattern.path.literal)
    if pattern.path.tail and None not in pattern.path.segments:
        return StringMatcher(prefix=pattern.path.literal_prefix)
    regex = "".join("/" + ("[^/]+" if segment is None else segment) for segment in pattern.path.segments)
    return StringMatcher(safe_regex=RegexMatcher(regex=regex + ("(?:/.*)?" if pattern.path.tail else "")))
