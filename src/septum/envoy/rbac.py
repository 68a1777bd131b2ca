"""The RBAC filter: a base that denies by itself, and the matcher tree that opens what the rules of one target allow.

caller (exact) → method (exact) → path (exact, then longest prefix, then the regexes behind it) → time and claims, where
a rule asks for them. `on_no_match` denies at every level, so a deny is the fall-through and never a branch. An empty
`RBAC{}` would allow everything, hence the base. Where a target is only observed, each of these denials passes, and says
so.

What lies below a match decides: Envoy does not come back to try the next one. So rows that may not hold stand in one
flat list, each with all that its rule asks, and none leads to a list of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RbacPolicy
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import FilterStateInput
from envoy.type.matcher.v3.http_inputs_pb2 import HttpRequestHeaderMatchInput
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.regex_pb2 import RegexMatcher
from xds.type.matcher.v3.string_pb2 import StringMatcher

from septum.envoy import jwt, names, window
from septum.envoy.paths import Behind, Opening, Outcome, PathPlan, ending, plan_paths, regex_of
from septum.envoy.shadow import Shadow
from septum.envoy.wire import matching
from septum.model.mesh import Mesh, Mode, Protocol, Target
from septum.model.operation import HttpPattern, PathPattern
from septum.model.policy import Rule

_CALLER = matching("septum.caller", FilterStateInput(key=names.CALLER))
_METHOD = matching("method", HttpRequestHeaderMatchInput(header_name=":method"))
_PATH = matching("path", HttpRequestHeaderMatchInput(header_name=":path"))
_UPGRADE = matching("upgrade", HttpRequestHeaderMatchInput(header_name="upgrade"))
_RE2 = RegexMatcher.GoogleRE2()


def _action(id: str, *, allow: bool) -> Any:
    action = Action(name=id, action=RbacPolicy.ALLOW if allow else RbacPolicy.DENY)
    return Matcher.OnMatch(action=matching("action", action))


_DENY = _action(names.DENY, allow=False)
_QUARANTINED = _action(names.QUARANTINE, allow=False)
_OBSERVED = _action(names.OBSERVE, allow=True)


def base() -> Any:
    """The filter as every chain carries it: whatever no route opens is denied."""
    return RBAC(matcher=Matcher(on_no_match=_DENY))


def denied() -> Any:
    """A route on which nothing is ever allowed."""
    return RBACPerRoute(rbac=base())


def tunnel() -> Any:
    """A route into the caller's own internal listener, where each request is decided by itself."""
    return RBACPerRoute(rbac=RBAC(matcher=Matcher(on_no_match=_action(names.TUNNEL, allow=True))))


def per_route(
    mesh: Mesh,
    target: Target,
    rules: Sequence[Rule],
    quarantined: Collection[str] = (),
    shadow: Shadow | None = None,
) -> Any:
    """What the rules open on the target: alone or, when the target is observed, by name among all that passes.

    Nothing opens a target that is quarantined, nor any target to a caller that is, observed or not.
    """
    takes_upgrades = target.websocket or mesh.mode(target) is Mode.OBSERVE
    made = RBAC(matcher=_enforced(mesh, target, rules, quarantined))
    if shadow is not None:
        made.shadow_matcher.CopyFrom(beside(mesh, shadow, takes_upgrades=takes_upgrades))
    return RBACPerRoute(rbac=made)


def beside(mesh: Mesh, shadow: Shadow, *, takes_upgrades: bool) -> Any:
    """What a candidate would do, as if it were enforced; `takes_upgrades` is whether the route lets WebSocket by."""
    if shadow.target is None or shadow.target.name in shadow.quarantined:
        return Matcher(on_no_match=_DENY)
    tree = _target_tree(mesh, shadow.target, shadow.rules, takes_upgrades=takes_upgrades)
    return _without(mesh, shadow.quarantined, tree)


def _enforced(mesh: Mesh, target: Target, rules: Sequence[Rule], quarantined: Collection[str]) -> Any:
    if target.name in quarantined:
        return Matcher(on_no_match=_QUARANTINED)
    if mesh.mode(target) is Mode.ENFORCE:
        return _without(mesh, quarantined, _target_tree(mesh, target, rules, takes_upgrades=target.websocket))
    return _without(mesh, quarantined, _passing(_target_tree(mesh, target, rules, takes_upgrades=True)))


def _without(mesh: Mesh, quarantined: Collection[str], matcher: Any) -> Any:
    """The matcher, or, where callers are quarantined, their denial and then the matcher."""
    if not quarantined:
        return matcher
    shut = {str(mesh.spiffe(name)): _QUARANTINED for name in sorted(quarantined)}
    return _exact(_CALLER, shut, _nested(matcher))


def _passing(matcher: Any) -> Any:
    """The same tree, in which every denial is a passage that names itself `OBSERVE`."""
    for on in _ends(matcher):
        if on.HasField("matcher"):
            _passing(on.matcher)
        elif Action.FromString(on.action.typed_config.value).action == RbacPolicy.DENY:
            on.CopyFrom(_OBSERVED)
    return matcher


def _ends(matcher: Any) -> Iterator[Any]:
    """Where a matcher leads: by each of its branches, and without a match."""
    tree = matcher.matcher_tree
    yield from tree.exact_match_map.map.values()
    yield from tree.prefix_match_map.map.values()
    for field in matcher.matcher_list.matchers:
        yield field.on_match
    yield matcher.on_no_match


def _target_tree(mesh: Mesh, target: Target, rules: Sequence[Rule], *, takes_upgrades: bool) -> Any:
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
    if target.websocket or target.protocol is Protocol.TCP or not takes_upgrades:
        return tree
    # Envoy itself refuses an upgrade that the route does not take; what the target does not declare is denied here.
    upgrade = [(_regex(_UPGRADE, "(?i)websocket"), _action(names.UPGRADE, allow=False))]
    return _list(upgrade, _nested(tree))


def _connect(rules: Sequence[Rule]) -> Any:
    return _on_match(ending(map(_opening, rules)))


def _opening(rule: Rule) -> Opening:
    return Opening(rule.id, rule.when, rule.window)


def _by_method(target: Target, rules: Sequence[Rule]) -> Any:
    by_method: dict[str, list[tuple[HttpPattern, Opening]]] = {}
    for rule in rules:
        opening = _opening(rule)
        for pattern in rule.operations or ():
            for method in pattern.methods:
                by_method.setdefault(method, []).append((pattern, opening))
    shared: dict[tuple[tuple[HttpPattern, Opening], ...], Any] = {}
    branches = {}
    for method, patterns in by_method.items():
        key = tuple(patterns)
        if key not in shared:
            shared[key] = _nested(_path_tree(target, plan_paths(target, patterns)))
        branches[method] = shared[key]
    return _exact(_METHOD, branches)


def _readable(target: Target, tree: Any) -> Any:
    """The tree, behind the denial of paths that have no safe reading (`unreadable` in `decide`).

    Few requests hold a `;`, so that is asked first, and where it stands only then.
    """
    if target.protocol is not Protocol.HTTP:
        return tree
    where = r"[^?]*/\.{1,2};\C*" if target.path_parameters else r"[^?;]*;\C*"
    return _list([(_all([_string(_PATH, contains=";"), _regex(_PATH, where)]), _DENY)], _nested(tree))


def _path_tree(target: Target, plan: PathPlan) -> Any:
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


def _below(target: Target, prefix: str, behind: Behind) -> Any:
    """What a path that starts with the prefix may be allowed by."""
    if behind.rest is not None and not behind.rows:
        return _action(behind.rest, allow=True)
    rows = _rows(target, behind.rows)
    if behind.rest is not None:
        rows.append((_string(_PATH, prefix=prefix), _action(behind.rest, allow=True)))
    return _nested(_list(rows, _DENY))


def _rows(target: Target, leaves: Sequence[tuple[str | None, Opening]]) -> list[tuple[Any, Any]]:
    rows = [(_row(regex, opening), _action(opening.rule, allow=True)) for regex, opening in leaves]
    if not (target.ignore_case and target.health):
        return rows
    health = HttpPattern(target.health, (), PathPattern.parse(target.health))
    probed = regex_of(health, target)
    spelled_out = [
        row for row, (regex, _) in zip(rows, leaves, strict=True) if regex and regex.lower() == probed.lower()
    ]
    return [*spelled_out, (_regex(_PATH, probed), _action(names.HEALTH, allow=False)), *rows]


def _row(regex: str | None, opening: Opening) -> Any:
    """All that an opening asks: the path, which is cheap and rarely matches, then the time, and then the claims."""
    path = [] if regex is None else [_regex(_PATH, regex)]
    time = [] if opening.window is None else [window.inside(opening.window)]
    return _all([*path, *time, *([] if opening.when is None else jwt.claims(opening.when))])


def _on_match(outcome: Outcome) -> Any:
    otherwise = _action(outcome.id, allow=outcome.allow)
    if not outcome.asking:
        return otherwise
    rows = [(_row(None, opening), _action(opening.rule, allow=True)) for opening in outcome.asking]
    if outcome.allow:
        return _nested(_list([*rows, (_ANY_METHOD, otherwise)], _DENY))
    return _nested(_list(rows, otherwise))


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


def _all(predicates: Sequence[Any]) -> Any:
    """Envoy stops at the first that does not hold."""
    if len(predicates) == 1:
        return predicates[0]
    both = Matcher.MatcherList.Predicate.PredicateList(predicate=predicates)
    return Matcher.MatcherList.Predicate(and_matcher=both)


def _list(rows: Iterable[tuple[Any, Any]], otherwise: Any) -> Any:
    fields = [Matcher.MatcherList.FieldMatcher(predicate=predicate, on_match=on) for predicate, on in rows]
    return Matcher(matcher_list=Matcher.MatcherList(matchers=fields), on_no_match=otherwise)


# Holds for every request, so that a rule can stand at the end of a list that falls through to a denial.
_ANY_METHOD = _regex(_METHOD, "[A-Z]+")
