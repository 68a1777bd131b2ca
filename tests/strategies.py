"""Hypothesis strategies for meshes, policies and requests. Small alphabets, so that what is drawn meets.

What is drawn is valid: a policy has the version, the order and the rule ids that loading its rendering gives it.
`meshes` are of one node and nothing else; in `wide_meshes` there may be nodes, issuers and places outside, and then
policies over them have rules to places outside, rules with `when` and grants, and requests carry claims and a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st

from septum.model.claims import NO_TOKEN, AnyOf, Claims, Contains, Equals, Scope, Test, When
from septum.model.decision import Request
from septum.model.mesh import (
    Address,
    External,
    Issuer,
    Limits,
    Mesh,
    Mode,
    Node,
    Protocol,
    Segment,
    Timeouts,
    Workload,
)
from septum.model.operation import (
    METHODS,
    ConnectOperation,
    GrpcOperation,
    HttpOperation,
    HttpPattern,
    Operation,
    RefusedOperation,
)
from septum.model.policy import Policy, Rule
from septum.model.window import Window
from septum.policy.digest import version_of

_WORKLOADS = ("storefront", "orders", "payments", "ledger", "catalog", "reports")
_SEGMENTS = ("edge", "core", "data")
_WORDS = ("a", "b", "A", "a.b", "orders", "42", "%C3%A9", "healthz")
_SERVICES = ("shop.v1.Payments", "shop.v1.Payments2", "Admin", "grpc.health.v1.Health")
_GRPC_METHODS = ("Authorize", "Refund", "Check")
_STRANGER = "stranger"
_HEALTH = "/healthz"
_NODES = {name: Node(name, Address(f"10.0.0.{index}", 7443)) for index, name in enumerate(("alpha", "beta"), start=11)}
KEYS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "eple42iEORSdoNj90cu7-hdeb5FWONKVjnYoELdRTs4"}]}\n'
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIHnMIGaoAMCAQICAQEwBQYDK2VwMBIxEDAOBgNVBAMMB3BhcnRuZXIwIBcNMjYw
MTAxMDAwMDAwWhgPMjA5OTAxMDEwMDAwMDBaMBIxEDAOBgNVBAMMB3BhcnRuZXIw
KjAFBgMrZXADIQB9gM0zvSBT4GGbM/F6Lv9NHdYxIexTRslCUK9zaqewUqMTMBEw
DwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQDDG9CxycAQWHxfUx+JkW4aR1Mizhop
YUcDvm2G0R8IWpVqanTgpiWnrCcfUMg/wwBM07itYteNEQ9W7hpGt2IC
-----END CERTIFICATE-----
"""
_ISSUERS = (
    Issuer("login", "https://login.test", ("shop",), jwks=KEYS),
    Issuer("partners", "the partners", ("shop", "shop-admin"), jwks_url="https://partners.test:8443/keys?of=shop"),
    Issuer("local", "https://local.test", ("shop",), jwks_url="http://127.0.0.1:9900/keys"),
)
_PLACES = (
    External("partner", "api.partner.test", 443, Protocol.HTTP, originate_tls=True, ca=CERTIFICATE),
    External("weather", "192.0.2.7", 8080, Protocol.HTTP, mode=Mode.OBSERVE),
    External("bank", "bank.test", 443, Protocol.TCP, sni=True),
    External("clock", "2001:db8::1", 123, Protocol.TCP, mode=Mode.OBSERVE),
)
# Moments at which windows begin and end: long ago, one after the other, and long from now.
MOMENTS = (1_000_000_000, 1_000_000_001, 1_100_000_000, 4_000_000_000, 4_100_000_000)
_VALUES = ("support", "admin", "1", "true", 'say "hi"', 1, 0, -7, True, False)
_CLAIMS = ("groups", "https://shop.test/role", "scope", "level")


@st.composite
def meshes(draw: st.DrawFn, *, at_least: int = 2) -> Mesh:
    """A valid mesh of `at_least` to 5 workloads."""
    segments = draw(st.lists(st.sampled_from(_SEGMENTS), min_size=1, unique=True))
    names = draw(st.lists(st.sampled_from(_WORKLOADS), min_size=at_least, max_size=5, unique=True))
    workloads = {name: draw(_workloads(name, segments, index)) for index, name in enumerate(names)}
    tcp = [name for name, workload in workloads.items() if workload.protocol is Protocol.TCP]
    if tcp and draw(st.booleans()):
        first = names[0]
        workloads[first] = replace(workloads[first], dials={tcp[0]: Address("127.0.0.1", 9301)})
    enforced = draw(st.frozensets(st.sampled_from(segments)))
    described = {name: Segment(name, draw(st.sampled_from(("", "what it is for")))) for name in segments}
    return Mesh("shop", "shop.test", described, workloads, enforced)


@st.composite
def wide_meshes(draw: st.DrawFn, *, at_least: int = 2) -> Mesh:
    """A valid mesh that may also list nodes, issuers and places outside."""
    mesh = draw(meshes(at_least=at_least))
    issuers = {issuer.name: issuer for issuer in draw(st.lists(st.sampled_from(_ISSUERS), unique_by=id))}
    places = st.lists(st.sampled_from(_PLACES), unique_by=id).map(lambda found: {place.name: place for place in found})
    mesh = replace(mesh, issuers=issuers, external=draw(st.one_of(st.none(), places)))
    return draw(_over_nodes(mesh)) if draw(st.booleans()) else mesh


@st.composite
def _over_nodes(draw: st.DrawFn, mesh: Mesh) -> Mesh:
    """The mesh over two nodes; a workload may be at an address of its node that another node has too."""
    placed = {}
    for name, workload in mesh.workloads.items():
        node = draw(st.sampled_from(sorted(_NODES)))
        taken = {other.at for other in placed.values() if other.node == node}
        free = [at for at in (workload.at, Address(_NODES[node].inbound.host, 80), _SHARED) if at not in taken]
        placed[name] = replace(workload, node=node, at=draw(st.sampled_from(free)))
    return replace(mesh, nodes=_NODES, workloads=placed)


_SHARED = Address("127.0.0.1", 9199)


@st.composite
def _workloads(draw: st.DrawFn, name: str, segments: list[str], index: int) -> Workload:
    protocol = draw(st.sampled_from(Protocol))
    health = {Protocol.HTTP: _HEALTH, Protocol.GRPC: "/grpc.health.v1.Health/Check", Protocol.TCP: None}[protocol]
    flag = st.booleans() if protocol is Protocol.HTTP else st.just(False)
    return Workload(
        name=name,
        segment=draw(st.sampled_from(segments)),
        at=Address("127.0.0.1", 9101 + index),
        protocol=protocol,
        health=draw(st.sampled_from((None, health))),
        websocket=draw(flag),
        path_parameters=draw(flag),
        ignore_case=draw(flag),
        mode=draw(st.sampled_from((None, *Mode))),
        outbound=draw(st.sampled_from((None, Address("127.0.0.1", 9201 + index)))),
        timeouts=draw(st.sampled_from((Timeouts(), Timeouts(0.25, 120.0, 0.0)))),
        limits=draw(st.sampled_from((Limits(), Limits(1, 2, 3)))),
    )


def paths() -> st.SearchStrategy[str]:
    """Normalised paths, without query."""
    words = st.sampled_from((*_WORDS, "", "x;y", "administrator"))
    return st.lists(words, min_size=1, max_size=4).map(_merged)


def _merged(words: list[str]) -> str:
    kept = [word for word in words[:-1] if word] + words[-1:]
    return "/" + "/".join(kept)


def path_patterns() -> st.SearchStrategy[str]:
    """Path patterns, as they are written."""
    words = st.lists(st.sampled_from((*_WORDS, "{id}", "{name}")), max_size=3)
    return st.builds(lambda w, end: "/" + "/".join([*w, *end]), words, st.sampled_from(((), ("",), ("**",))))


def http_patterns() -> st.SearchStrategy[HttpPattern]:
    """Entries of a rule's `http:`."""
    methods = st.one_of(st.just("*"), st.lists(st.sampled_from(METHODS), min_size=1, max_size=2).map(",".join))
    return st.builds(lambda m, path: HttpPattern.parse(f"{m} {path}"), methods, path_patterns())


def grpc_patterns() -> st.SearchStrategy[HttpPattern]:
    """Entries of a rule's `grpc:`."""
    exact = st.builds(
        lambda service, method: f"{service}/{method}",
        st.sampled_from(_SERVICES),
        st.sampled_from((*_GRPC_METHODS, "*")),
    )
    return st.one_of(st.just("*"), exact).map(HttpPattern.parse_grpc)


@st.composite
def policies(draw: st.DrawFn, mesh: Mesh | None = None, *, most: int = 6) -> Policy:
    """A valid policy over a mesh, with up to `most` rules."""
    mesh = draw(meshes()) if mesh is None else mesh
    written = [draw(_rules(mesh, f"rule-{index}")) for index in range(draw(st.integers(0, most)))]
    return with_rules(mesh, written)


def with_rules(mesh: Mesh, rules: list[Rule]) -> Policy:
    """The policy that has these rules, in the order of their ids."""
    ordered = tuple(sorted(_numbered(rules), key=lambda rule: rule.id))
    return Policy(mesh, ordered, version_of(mesh, ordered))


def _numbered(rules: list[Rule]) -> list[Rule]:
    seen: Counter[str] = Counter(rule.id for rule in rules)
    count: Counter[str] = Counter()
    numbered = []
    for rule in rules:
        count[rule.id] += 1
        again = seen[rule.id] > 1 and count[rule.id] > 1
        numbered.append(replace(rule, id=f"{rule.id}#{count[rule.id]}") if again else rule)
    return numbered


@st.composite
def _rules(draw: st.DrawFn, mesh: Mesh, name: str) -> Rule:
    protocol = mesh.targets[draw(st.sampled_from(sorted(mesh.targets)))].protocol
    targets_text, targets = draw(_selectors(mesh, protocol))
    callers_text, callers = draw(_selectors(mesh, None))
    operations = {
        Protocol.HTTP: st.lists(http_patterns(), min_size=1, max_size=3).map(tuple),
        Protocol.GRPC: st.lists(grpc_patterns(), min_size=1, max_size=3).map(tuple),
        Protocol.TCP: st.none(),
    }
    return Rule(
        id=draw(st.sampled_from((name, f"{callers_text}->{targets_text}"))),
        callers=callers,
        targets=targets,
        operations=draw(operations[protocol]),
        because=draw(st.sampled_from(("", "it's so: {id} # always"))),
        callers_text=callers_text,
        targets_text=targets_text,
        when=draw(whens(mesh)) if mesh.issuers and protocol is not Protocol.TCP else None,
        window=draw(windows()) if is_wide(mesh) else None,
    )


def is_wide(mesh: Mesh) -> bool:
    """Whether a mesh has what only those of `wide_meshes` have."""
    return bool(mesh.nodes or mesh.issuers) or mesh.external is not None


def windows() -> st.SearchStrategy[Window | None]:
    """None, mostly, and windows with either end or both."""
    begins, ends = st.sampled_from((None, *MOMENTS[:-1])), st.sampled_from((None, *MOMENTS[1:]))
    drawn = st.builds(Window, begins, ends).filter(lambda window: window != Window() and not _backwards(window))
    return st.one_of(st.none(), st.none(), drawn)


def _backwards(window: Window) -> bool:
    return window.from_time is not None and window.until is not None and window.until <= window.from_time


def times(policy: Policy, window: Window | None = None) -> st.SearchStrategy[float | None]:
    """When a request is asked: at the edges of a window, or of any, or nobody knows when."""
    if not any(rule.window for rule in policy.rules):
        return st.none()
    edges = (*MOMENTS, 1_790_000_000)
    if window is not None:
        edges = tuple(edge for edge in (window.from_time, window.until) if edge is not None) * 4 + edges
    near = st.builds(float.__add__, st.sampled_from(edges).map(float), st.sampled_from((0.0, -1e-6, 0.999999)))
    return st.one_of(st.none(), near, near, near)


@st.composite
def whens(draw: st.DrawFn, mesh: Mesh) -> When | None:
    """A condition that the mesh's issuers can meet, or none."""
    if draw(st.booleans()):
        return None
    issuers = draw(
        st.lists(st.sampled_from([issuer.issuer for issuer in mesh.issuers.values()]), min_size=1, unique=True)
    )
    issuer: Test = Equals(issuers[0]) if len(issuers) == 1 else AnyOf(tuple(issuers))
    others = draw(st.dictionaries(st.sampled_from(_CLAIMS), tests(), max_size=2))
    return When((("iss", issuer), *sorted(others.items(), key=lambda entry: entry[0])))


def tests() -> st.SearchStrategy[Test]:
    """Tests of one claim."""
    values = st.sampled_from(_VALUES)
    several = st.lists(values, min_size=1, max_size=3, unique_by=repr).map(tuple)
    words = st.sampled_from(("orders:read", "orders:write", "orders"))
    return st.one_of(
        st.builds(Equals, values), st.builds(AnyOf, several), st.builds(Contains, values), st.builds(Scope, words)
    )


@st.composite
def tokens(draw: st.DrawFn, mesh: Mesh, when: When | None = None) -> Claims:
    """The claims of a request's token: of one that meets a condition, of one that may not, or of none."""
    if not mesh.issuers or draw(st.integers(0, 3)) == 0:
        return NO_TOKEN
    claims = draw(st.dictionaries(st.sampled_from(_CLAIMS), _claim_values(), max_size=2))
    claims["iss"] = draw(st.sampled_from([issuer.issuer for issuer in mesh.issuers.values()]))
    met = when.claims if when is not None else ()
    return claims | {name: draw(_meeting(test)) for name, test in met if draw(st.integers(0, 7))}


def _claim_values() -> st.SearchStrategy[object]:
    scopes = st.sampled_from(("orders:read", "orders:readx", "a orders:read", "orders", ""))
    plain = st.one_of(st.sampled_from(_VALUES), st.just(1.0), st.none(), scopes)
    return st.one_of(plain, st.lists(plain, max_size=3))


@st.composite
def _meeting(draw: st.DrawFn, test: Test) -> object:
    """A claim's value that passes the test."""
    match test:
        case Equals(value):
            return value
        case AnyOf(values):
            return draw(st.sampled_from(values))
        case Contains(value):
            return draw(st.permutations([value, "another"]))
        case Scope(word):
            return " ".join(draw(st.permutations([word, "another"])))


def quarantines(mesh: Mesh) -> st.SearchStrategy[frozenset[str]]:
    """Names to quarantine, also of what is not there."""
    return st.frozensets(st.sampled_from([*mesh.targets, _STRANGER]), max_size=2)


@st.composite
def _selectors(draw: st.DrawFn, mesh: Mesh, protocol: Protocol | None) -> tuple[str, tuple[str, ...]]:
    """One or two selectors as they are written, and whom they select; all of one protocol, if one is given."""
    named = mesh.workloads if protocol is None else mesh.targets
    words = {name: (name,) for name in named} | {f"segment:{s}": mesh.members(s) for s in mesh.segments}
    fitting = {
        word: names
        for word, names in words.items()
        if protocol is None or (names and all(mesh.targets[name].protocol is protocol for name in names))
    }
    chosen = draw(st.lists(st.sampled_from(sorted(fitting)), min_size=1, max_size=2, unique=True))
    return ",".join(chosen), tuple(sorted({name for word in chosen for name in fitting[word]}))


@st.composite
def requests(draw: st.DrawFn, policy: Policy) -> Request:
    """A request, mostly one that some rule is about."""
    names = [*policy.mesh.targets, _STRANGER]
    if policy.rules and draw(st.booleans()):
        rule = draw(st.sampled_from(policy.rules))
        callers, targets = [*rule.callers, *names[:1]], [*rule.targets, *names[:1]]
        operation = draw(st.one_of(_near(rule), operations()))
        claims, time = draw(tokens(policy.mesh, rule.when)), draw(times(policy, rule.window))
        return Request(draw(st.sampled_from(callers)), draw(st.sampled_from(targets)), operation, claims, time)
    claims, time = draw(tokens(policy.mesh)), draw(times(policy))
    return Request(draw(st.sampled_from(names)), draw(st.sampled_from(names)), draw(operations()), claims, time)


@st.composite
def probes(draw: st.DrawFn, policy: Policy) -> list[Request]:
    """Requests from every workload to every target: of each rule about the target one that it allows, and another."""
    found = []
    for name, target in policy.mesh.targets.items():
        asked = [draw(_asked(policy, rule)) for rule in policy.rules_to[name]]
        if target.websocket:
            opened = [
                (replace(what, websocket=True), *more) for what, *more in asked if isinstance(what, HttpOperation)
            ]
            asked += opened
        asked.append((draw(operations()), draw(tokens(policy.mesh)), draw(times(policy))))
        found += [Request(caller, name, *what) for caller in policy.mesh.workloads for what in asked]
    return found


@st.composite
def _asked(draw: st.DrawFn, policy: Policy, rule: Rule) -> tuple[Operation, Claims, float | None]:
    """What a rule opens, mostly to claims and at a time for which it does."""
    return draw(_near(rule)), draw(tokens(policy.mesh, rule.when)), draw(times(policy, rule.window))


def operations() -> st.SearchStrategy[Operation]:
    """Operations of every kind, also those that no rule can open."""
    methods = st.sampled_from((*METHODS, "TRACE", "get"))
    return st.one_of(
        st.builds(HttpOperation, methods, paths(), st.booleans()),
        st.builds(GrpcOperation, st.sampled_from(_SERVICES), st.sampled_from(_GRPC_METHODS)),
        st.just(ConnectOperation()),
        st.just(RefusedOperation("GET /a%2Fb", "the path holds an encoded slash")),
    )


@st.composite
def _near(draw: st.DrawFn, rule: Rule) -> Operation:
    """An operation that the rule opens, if the target takes it."""
    if rule.operations is None:
        return ConnectOperation()
    pattern = draw(st.sampled_from(rule.operations))
    words = [draw(st.sampled_from(_WORDS)) if segment is None else segment for segment in pattern.path.segments]
    tail = draw(st.lists(st.sampled_from(_WORDS), max_size=2)) if pattern.path.tail else []
    return HttpOperation(draw(st.sampled_from(pattern.methods)), "/" + "/".join([*words, *tail]))


@st.composite
def changed(draw: st.DrawFn, policy: Policy) -> Policy:
    """A policy that came of another by one or two changes of its mesh or its rules; also of none that matters."""
    mesh, rules = policy.mesh, list(policy.rules)
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.booleans()):
            mesh = draw(_changed_mesh(mesh))
        elif rules:
            at = draw(st.integers(0, len(rules) - 1))
            rules[at : at + 1] = draw(_changed_rule(rules[at], mesh))
        else:
            rules = list(draw(policies(mesh)).rules)
    fitting = [fits for rule in rules if (fits := _fitting(rule, mesh)) is not None]
    return with_rules(mesh, fitting)


@st.composite
def _changed_mesh(draw: st.DrawFn, mesh: Mesh) -> Mesh:
    """The mesh with another workload, mode or place outside, or with one gone."""
    name = draw(st.sampled_from(sorted(mesh.targets)))
    if draw(st.integers(0, 3)) == 0:
        kept = {other: _without_dial(workload, name) for other, workload in mesh.workloads.items() if other != name}
        places = {other: place for other, place in (mesh.external or {}).items() if other != name}
        return replace(mesh, workloads=kept, external=None if mesh.external is None else places) if kept else mesh
    if name not in mesh.workloads:
        place = (mesh.external or {})[name]
        other = draw(st.sampled_from((replace(place, port=place.port + 1), replace(place, mode=draw(_modes())), place)))
        return replace(mesh, external={**(mesh.external or {}), name: other})
    workload = mesh.workloads[name]
    if workload.protocol is not Protocol.HTTP or draw(st.booleans()):
        return replace(mesh, workloads={**mesh.workloads, name: replace(workload, mode=draw(_modes()))})
    flag = draw(st.sampled_from(("websocket", "path_parameters", "ignore_case", "health")))
    value = draw(st.sampled_from((None, _HEALTH, "/a")) if flag == "health" else st.booleans())
    return replace(mesh, workloads={**mesh.workloads, name: replace(workload, **{flag: value})})


def _without_dial(workload: Workload, target: str) -> Workload:
    return replace(workload, dials={name: at for name, at in workload.dials.items() if name != target})


def _modes() -> st.SearchStrategy[Mode]:
    return st.sampled_from(Mode)


@st.composite
def _changed_rule(draw: st.DrawFn, rule: Rule, mesh: Mesh) -> list[Rule]:
    """What stands in the place of a rule: nothing, the rule with more or less in it, or the same in other words."""
    fewer_callers = replace(rule, callers=rule.callers[1:] or rule.callers)
    all_callers = replace(rule, callers=tuple(sorted({*rule.callers, *mesh.workloads})))
    others = [
        st.just([]),
        st.sampled_from(([replace(rule, because="another reason")], [replace(rule, id="another-id")])),
        st.sampled_from(([fewer_callers], [all_callers])),
        policies(mesh, most=2).map(lambda more: [rule, *more.rules]),
    ]
    if rule.operations is not None:
        others += [_changed_operations(rule, rule.operations)] * 3
        if mesh.issuers:
            others += [whens(mesh).map(lambda when: [replace(rule, when=when)])] * 3
    if is_wide(mesh):
        others += [windows().map(lambda window: [replace(rule, window=window)])] * 3
    return draw(st.one_of(others))


@st.composite
def _changed_operations(draw: st.DrawFn, rule: Rule, patterns: tuple[HttpPattern, ...]) -> list[Rule]:
    http = any(" " in pattern.text for pattern in patterns)
    another = draw(http_patterns() if http else grpc_patterns())
    everything = HttpPattern.parse("* /**") if http else HttpPattern.parse_grpc("*")
    first = patterns[0]
    fewer_methods = HttpPattern.parse(f"{','.join(first.methods[1:])} {first.path}") if first.methods[1:] else another
    changed_to = [(*patterns[::-1], another), (everything,), patterns[1:] or (another,), (fewer_methods, *patterns[1:])]
    apart = [replace(rule, id=f"part-{index}", operations=(pattern,)) for index, pattern in enumerate(patterns)]
    return draw(st.sampled_from([apart, *([replace(rule, operations=to)] for to in changed_to)]))


def _fitting(rule: Rule, mesh: Mesh) -> Rule | None:
    """The rule as far as the mesh has whom it names."""
    callers = tuple(name for name in rule.callers if name in mesh.workloads)
    targets = tuple(name for name in rule.targets if name in mesh.targets)
    return replace(rule, callers=callers, targets=targets) if callers and targets else None
