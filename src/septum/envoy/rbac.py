"""The RBAC filter: a base that denies by itself, and the matcher tree that opens what the rules of one target allow.

caller (exact) → method (exact) → path (exact, then longest prefix, then the regexes behind it). `on_no_match` denies at
every level, so a deny is the fall-through and never a branch. An empty `RBAC{}` would allow everything, hence the base.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import FilterStateInput
from envoy.type.matcher.v3.http_inputs_pb2 import HttpRequestHeaderMatchInput
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.regex_pb2 import RegexMatcher
from xds.type.matcher.v3.string_pb2 import StringMatcher

from septum.envoy import names
from septum.envoy.paths import Behind, Outcome, PathPlan, plan_paths, regex_of
from septum.envoy.wire import matching
from septum.model.mesh import Mesh, Mode, Protocol, Workload
from septum.model.operation import HttpPattern, PathPattern
from septum.model.policy import Rule

_CALLER = matching("septum.caller", FilterStateInput(key=names.CALLER))
_METHOD = matching("method", HttpRequestHeaderMatchInput(header_name=":method"))
_PATH = matching("path", HttpRequestHeaderMatchInput(header_name=":path"))
_UPGRADE = matching("upgrade", HttpRequestHeaderMatchInput(header_name="upgrade"))
_RE2 = RegexMatcher.GoogleRE2()


def _on_match(outcome: Outcome) -> Any:
    action = Action(name=outcome.id, action=RbacPolicy.ALLOW if outcome.allow else RbacPolicy.DENY)
    return Matcher.OnMatch(action=matching("action", action))


_DENY = _on_match(Outcome(names.DENY, allow=False))


def base() -> Any:
    """The filter as every chain carries it: whatever no route opens is denied."""
    return RBAC(matcher=Matcher(on_no_match=_DENY))


def denied() -> Any:
    """A route on which nothing is ever allowed."""
    return RBACPerRoute(rbac=base())


def tunnel() -> Any:
    """A route into the caller's own internal listener, where each request is decided by itself."""
    return RBACPerRoute(rbac=RBAC(matcher=Matcher(on_no_match=_on_match(Outcome(names.TUNNEL, allow=True)))))


def per_route(mesh: Mesh, target: Workload, rules: Sequence[Rule]) -> Any:
    """What the rules open on the target: enforced, or beside an open door when the target is observed."""
    tree = _target_tree(mesh, target, rules)
    if mesh.mode(target) is Mode.ENFORCE:
        return RBACPerRoute(rbac=RBAC(matcher=tree))
    opened = Matcher(on_no_match=_on_match(Outcome(names.OBSERVE, allow=True)))
    return RBACPerRoute(rbac=RBAC(matcher=opened, shadow_matcher=tree))


def _target_tree(mesh: Mesh, target: Workload, rules: Sequence[Rule]) -> Any:
    by_caller: dict[str, list[Rule]] = {}
    for rule in rules:
        for caller in dict.fromkeys(rule.callers):
            by_caller.setdefault(caller, []).append(rule)
    shared: dict[tuple[str, ...], Any] = {}  # callers under the same rules share one subtree
    branches = {}
    for caller, own in by_caller.items():
        key = tuple(rule.id for rule in own)
        if key not in shared:
            shared[key] = _connect(own) if target.protocol is Protocol.TCP else _nested(_by_method(target, own))
        branches[str(mesh.spiffe(caller))] = shared[key]
    tree = _readable(target, _exact(_CALLER, branches))
    if target.websocket or target.protocol is Protocol.TCP or mesh.mode(target) is Mode.ENFORCE:
        return tree
    # Envoy itself refuses an undeclared upgrade where the target is enforced; an observed one only notes it.
    upgrade = [(_regex(_UPGRADE, "(?i)websocket"), _on_match(Outcome(names.UPGRADE, allow=False)))]
    return _list(upgrade, _nested(tree))


def _connect(rules: Sequence[Rule]) -> Any:
    return _on_match(Outcome(rules[0].id, allow=True))


def _by_method(target: Workload, rules: Sequence[Rule]) -> Any:
    by_method: dict[str, list[tuple[HttpPattern, str]]] = {}
    for rule in rules:
        for pattern in rule.operations or ():
            for method in pattern.methods:
                by_method.setdefault(method, []).append((pattern, rule.id))
    shared: dict[tuple[tuple[HttpPattern, str], ...], Any] = {}
    branches = {}
    for method, patterns in by_method.items():
        key = tuple(patterns)
        if key not in shared:
            shared[key] = _nested(_path_tree(target, plan_paths(target, patterns)))
        branches[method] = shared[key]
    return _exact(_METHOD, branches)


def _readable(target: Workload, tree: Any) -> Any:
    """The tree, behind the denial of paths that have no safe reading (`unreadable` in `decide`).

    Few requests hold a `;`, so that is asked first, and where it stands only then.
    """
    if target.protocol is not Protocol.HTTP:
        return tree
    where = r"[^?]*/\.{1,2};\C*" if target.path_parameters else r"[^?;]*;\C*"
    both = Matcher.MatcherList.Predicate.PredicateList(predicate=[_string(_PATH, contains=";"), _regex(_PATH, where)])
    return _list([(Matcher.MatcherList.Predicate(and_matcher=both), _DENY)], _nested(tree))


def _path_tree(target: Workload, plan: PathPlan) -> Any:
    prefixes = {prefix: _on_match(outcome) for prefix, outcome in plan.prefixes.items()}
    prefixes |= {prefix: _below(target, prefix, behind) for prefix, behind in plan.lists.items()}
    below = Matcher(
        matcher_tree=Matcher.MatcherTree(input=_PATH, prefix_match_map=Matcher.MatcherTree.MatchMap(map=prefixes)),
        on_no_match=_DENY,
    )
    if not prefixes:
        return _exact(_PATH, {})
    if not plan.exact:
        return below
    return _exact(_PATH, {path: _on_match(outcome) for path, outcome in plan.exact.items()}, _nested(below))


def _below(target: Workload, prefix: str, behind: Behind) -> Any:
    """What a path that starts with the prefix may be allowed by."""
    if behind.rest is not None and not behind.regexes:
        return _on_match(Outcome(behind.rest, allow=True))
    rows = _regexes(target, behind.regexes)
    if behind.rest is not None:
        rows.append((_string(_PATH, prefix=prefix), _on_match(Outcome(behind.rest, allow=True))))
    return _nested(_list(rows, _DENY))


def _regexes(target: Workload, leaves: Sequence[tuple[str, str]]) -> list[tuple[Any, Any]]:
    rows = [(_regex(_PATH, regex), _on_match(Outcome(rule, allow=True))) for regex, rule in leaves]
    if not (target.ignore_case and target.health):
        return rows
    health = HttpPattern(target.health, (), PathPattern.parse(target.health))
    probed = regex_of(health, target)
    spelled_out = [row for row, (regex, _) in zip(rows, leaves, strict=True) if regex == probed]
    return [*spelled_out, (_regex(_PATH, probed), _on_match(Outcome(names.HEALTH, allow=False))), *rows]


def _nested(matcher: Any) -> Any:
    return Matcher.OnMatch(matcher=matcher)


def _exact(on: Any, branches: Mapping[str, Any], otherwise: Any = _DENY) -> Any:
    if not branches:  # Envoy refuses an empty map
        return Matcher(on_no_match=otherwise)
    return Matcher(
        matcher_tree=Matcher.MatcherTree(input=on, exact_match_map=Matcher.MatcherTree.MatchMap(map=branches)),
        on_no_match=otherwise,
    )


def _regex(on: Any, regex: str) -> Any:
    return _string(on, safe_regex=RegexMatcher(google_re2=_RE2, regex=regex))


def _string(on: Any, **how: Any) -> Any:
    matcher = StringMatcher(**how)
    single = Matcher.MatcherList.Predicate.SinglePredicate(input=on, value_match=matcher)
    return Matcher.MatcherList.Predicate(single_predicate=single)


def _list(rows: Iterable[tuple[Any, Any]], otherwise: Any) -> Any:
    fields = [Matcher.MatcherList.FieldMatcher(predicate=predicate, on_match=on) for predicate, on in rows]
    return Matcher(matcher_list=Matcher.MatcherList(matchers=fields), on_no_match=otherwise)
