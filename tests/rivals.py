"""Two sets of rules about one caller and one target, and requests that tell them apart if anything does.

The words are few, so that patterns meet; every flag that a target can have is drawn; and the second set is often the
first one in other words, or that and a little more or less, so that differences are empty as often as not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

import strategies
from septum.model.claims import AnyOf, Claims, Contains, Equals, Scope, Test, When
from septum.model.decision import Request
from septum.model.mesh import Address, External, Issuer, Mesh, Protocol, Segment, Target, Workload
from septum.model.operation import METHODS, ConnectOperation, HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.window import Window

CALLER, TARGET = "asking", "asked"
LOGIN, PARTNERS = "https://login.test", "https://partners.test"

_WORDS = ("a", "b", "A", "ab", "4", "%C3%A9")
_SERVICES, _CALLED = ("p.S", "p.Sx"), ("M", "N")
_VALUES = ("a", "b", "a b", "b a", "", "1", "true", 1, 0, True, False)
_CLAIMS = ("level", "scope")
_MOMENTS = (10, 20, 21, 30)


@dataclass(frozen=True)
class Rivals:
    """Two sets of rules over one mesh, which is CALLER and TARGET."""

    mesh: Mesh
    one: tuple[Rule, ...]
    other: tuple[Rule, ...]

    @property
    def target(self) -> Target:
        return self.mesh.targets[TARGET]

    @property
    def policies(self) -> tuple[Policy, Policy]:
        return policy_of(self.mesh, self.one), policy_of(self.mesh, self.other)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.one + self.other


def policy_of(mesh: Mesh, rules: Iterable[Rule]) -> Policy:
    return strategies.with_rules(mesh, list(rules))


def mesh_of(target: Target) -> Mesh:
    """The mesh in which a target, which has to be called TARGET, is asked by CALLER."""
    asking = Workload(CALLER, "all", Address("127.0.0.1", 9101), Protocol.HTTP)
    workloads = {CALLER: asking} | ({TARGET: target} if isinstance(target, Workload) else {})
    issuers = {name: Issuer(name, iss, ("shop",), strategies.KEYS) for name, iss in (("l", LOGIN), ("p", PARTNERS))}
    external = {TARGET: target} if isinstance(target, External) else None
    return Mesh("rivals", "rivals.test", {"all": Segment("all")}, workloads, frozenset({"all"}), {}, issuers, external)


def rule_of(*patterns: str, on: Target, when: When | None = None, window: Window | None = None, id: str = "r") -> Rule:
    """A rule that opens patterns, as they are written for the target; none is for a session."""
    read = HttpPattern.parse_grpc if on.protocol is Protocol.GRPC else HttpPattern.parse
    operations = tuple(read(text) for text in patterns) or None
    return Rule(
        id, (CALLER,), (TARGET,), operations, when=when, window=window, callers_text=CALLER, targets_text=TARGET
    )


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """One that takes requests, mostly of HTTP, with whatever it can declare."""
    protocol = draw(st.sampled_from((*[Protocol.HTTP] * 8, Protocol.GRPC, Protocol.TCP)))
    at = Address("127.0.0.1", 9102)
    if protocol is not Protocol.HTTP:
        health = "/p.S/M" if protocol is Protocol.GRPC and draw(st.booleans()) else None
        return Workload(TARGET, "all", at, protocol, health=health)
    if draw(st.integers(0, 9)) == 0:
        return External(TARGET, "asked.test", 80, Protocol.HTTP)
    flags = {name: draw(st.booleans()) for name in ("websocket", "path_parameters", "ignore_case")}
    return Workload(TARGET, "all", at, protocol, health=draw(st.sampled_from((None, "/a", "/a/b", "/A/4"))), **flags)


@st.composite
def rivals(draw: st.DrawFn) -> Rivals:
    mesh = mesh_of(draw(targets()))
    one = draw(_rules(mesh.targets[TARGET], "one"))
    told = [draw(_in_other_words(rule)) for rule in one]
    same = tuple(part for parts in told for part in parts)
    kinds: tuple[Callable[[], tuple[Rule, ...]], ...] = (
        lambda: same,
        lambda: same,
        lambda: same + draw(_rules(mesh.targets[TARGET], "more", most=1)),
        lambda: tuple(draw(st.permutations(same)))[1:],
        lambda: tuple(draw(_under_other_conditions(rule)) for rule in one),
        lambda: draw(_rules(mesh.targets[TARGET], "other")),
    )
    return Rivals(mesh, one, _numbered(draw(st.sampled_from(kinds))()))


def _numbered(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(replace(rule, id=f"other-{index}") for index, rule in enumerate(rules))


@st.composite
def _rules(draw: st.DrawFn, target: Target, name: str, most: int = 3) -> tuple[Rule, ...]:
    count = draw(st.sampled_from([*range(1, most + 1), *range(1, most + 1), 0]))
    return tuple(draw(_rule(target, f"{name}-{index}")) for index in range(count))


@st.composite
def _rule(draw: st.DrawFn, target: Target, name: str) -> Rule:
    patterns: tuple[str, ...] = ()
    if target.protocol is not Protocol.TCP:
        drawn = _http_texts() if target.protocol is Protocol.HTTP else _grpc_texts()
        patterns = tuple(draw(st.lists(drawn, min_size=1, max_size=3)))
    when = draw(_whens()) if target.protocol is not Protocol.TCP and draw(st.integers(0, 2)) == 0 else None
    window = draw(_windows()) if draw(st.integers(0, 3)) == 0 else None
    return rule_of(*patterns, on=target, when=when, window=window, id=name)


@st.composite
def _http_texts(draw: st.DrawFn) -> str:
    method = draw(st.sampled_from(("GET", "GET", "POST", "GET,HEAD", "*")))
    words = draw(st.lists(st.sampled_from((*_WORDS, "{id}", "{id}", "{id}")), max_size=3))
    return f"{method} /" + "/".join([*words, *draw(st.sampled_from(((), (), ("",), ("**",))))])


@st.composite
def _grpc_texts(draw: st.DrawFn) -> str:
    service, called = draw(st.sampled_from(_SERVICES)), draw(st.sampled_from((*_CALLED, "*")))
    return draw(st.sampled_from((f"{service}/{called}", f"{service}/{called}", "*")))


@st.composite
def _whens(draw: st.DrawFn) -> When:
    issuer: Test = draw(st.sampled_from((Equals(LOGIN), Equals(PARTNERS), AnyOf((LOGIN, PARTNERS)))))
    others = draw(st.dictionaries(st.sampled_from(_CLAIMS), _tests(), max_size=2))
    return When((("iss", issuer), *sorted(others.items(), key=lambda entry: entry[0])))


def _tests() -> st.SearchStrategy[Test]:
    values = st.sampled_from(_VALUES)
    several = st.lists(values, min_size=2, max_size=3, unique_by=repr).map(tuple)
    words = st.sampled_from(("a", "b"))
    return st.one_of(
        st.builds(Equals, values), st.builds(AnyOf, several), st.builds(Contains, values), st.builds(Scope, words)
    )


def _windows() -> st.SearchStrategy[Window]:
    ends = st.lists(st.sampled_from(_MOMENTS), min_size=2, max_size=2, unique=True).map(sorted)
    whole = ends.map(lambda pair: Window(*pair))
    half = st.sampled_from([Window(moment) for moment in _MOMENTS] + [Window(None, moment) for moment in _MOMENTS])
    return st.one_of(whole, half)


@st.composite
def _under_other_conditions(draw: st.DrawFn, rule: Rule) -> Rule:
    """The same operations, for other tokens or at another time."""
    if rule.operations is not None and draw(st.booleans()):
        return replace(rule, when=draw(st.none() | _whens()))
    return replace(rule, window=draw(st.none() | _windows()))


@st.composite
def _in_other_words(draw: st.DrawFn, rule: Rule) -> list[Rule]:
    """Rules that mean what one means, if it is said right."""
    ways = [[rule, rule], [rule], [replace(rule, operations=rule.operations and rule.operations[::-1])]]
    if rule.operations is not None:
        ways.append([replace(rule, operations=(pattern,)) for pattern in rule.operations])
        ways += [[replace(rule, operations=tuple(_apart(rule.operations)))]] * 4
    if rule.window is not None:
        inside = [moment for moment in (15, *_MOMENTS) if _splits(rule.window, moment)]
        ways += [_at(rule, rule.window, moment) for moment in inside]
    if rule.when is not None:
        ways += [_by_value(rule, rule.when)] * 2
    return draw(st.sampled_from(ways))


def _apart(patterns: Iterable[HttpPattern]) -> Iterable[HttpPattern]:
    """Patterns of one method each, and in the place of a tail what is under it."""
    for pattern in patterns:
        for method in pattern.methods:
            if pattern.path.tail and pattern.path.segments:
                prefix = pattern.path.text.removesuffix("/**")
                yield from (HttpPattern.parse(f"{method} {prefix}{end}") for end in ("", "/", "/{x}", "/{x}/**"))
            elif " " in pattern.text:
                yield HttpPattern.parse(f"{method} {pattern.path.text}")
            else:
                yield pattern


def _splits(window: Window, moment: int) -> bool:
    return (window.from_time is None or window.from_time < moment) and (window.until is None or moment < window.until)


def _at(rule: Rule, window: Window, moment: int) -> list[Rule]:
    parts = (Window(window.from_time, moment), Window(moment, window.until))
    return [replace(rule, window=part) for part in parts]


def _by_value(rule: Rule, when: When) -> list[Rule]:
    """A rule for each value of the first claim that may be several."""
    for at, (name, test) in enumerate(when.claims):
        if isinstance(test, AnyOf):
            others = (*when.claims[:at], *when.claims[at + 1 :])
            return [replace(rule, when=When(((name, Equals(value)), *others))) for value in test.values]
    return [rule]


@st.composite
def requests(draw: st.DrawFn, both: Rivals) -> Request:
    """A request near to what some rule opens."""
    rule = draw(st.sampled_from(both.rules)) if both.rules else None
    moments = st.sampled_from([float(moment) + by for moment in _MOMENTS for by in (-0.5, 0, 0.5)])
    claims = draw(_claims(rule.when if rule else None))
    if both.target.protocol is Protocol.TCP and draw(st.booleans()):
        return Request(CALLER, TARGET, ConnectOperation(), claims, draw(moments))
    pattern = draw(st.sampled_from(rule.operations)) if rule and rule.operations else HttpPattern.parse("* /a/**")
    methods = st.sampled_from((*pattern.methods * 2, *METHODS, "TRACE"))
    operation = HttpOperation(draw(methods), draw(_paths(pattern)), draw(st.integers(0, 5)) == 0)
    return Request(CALLER, TARGET, operation, claims, draw(moments))


@st.composite
def _paths(draw: st.DrawFn, pattern: HttpPattern) -> str:
    words = [draw(st.sampled_from(_WORDS)) if word is None else word for word in pattern.path.segments]
    more = st.lists(st.sampled_from(_WORDS), max_size=2)
    words += draw(more) if pattern.path.tail or draw(st.integers(0, 3)) == 0 else []
    if words and draw(st.booleans()):
        at = draw(st.integers(0, len(words) - 1))
        word = words[at]
        words[at] = draw(st.sampled_from((word.swapcase(), f"{word};v=1", "..;v=1", ".;", "new", "a", "A")))
    words = [word for word in words if word] + draw(st.sampled_from(([], [], [""])))
    return "/" + "/".join(words)


@st.composite
def _claims(draw: st.DrawFn, when: When | None) -> Claims:
    if draw(st.integers(0, 4)) == 0:
        return {}
    single = st.one_of(st.sampled_from((*_VALUES, 1.0, None)), st.lists(st.sampled_from(_VALUES), max_size=3))
    claims = {"iss": draw(st.sampled_from((LOGIN, PARTNERS)))}
    claims |= draw(st.dictionaries(st.sampled_from(_CLAIMS), single, max_size=2))
    met = [] if when is None else [entry for entry in when.claims if draw(st.integers(0, 5))]
    return claims | {name: draw(_meeting(test)) for name, test in met}


def _meeting(test: Test) -> st.SearchStrategy[object]:
    match test:
        case Equals(value):
            return st.just(value)
        case AnyOf(values):
            return st.sampled_from(values)
        case Contains(value):
            return st.lists(st.sampled_from(_VALUES), max_size=2).map(lambda more: [*more, value])
        case Scope(word):
            return st.sampled_from((word, f"{word} x", f"x {word}", f"x {word} y", f"b {word} a"))
