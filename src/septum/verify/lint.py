"""What in a policy is not needed, too wide or most likely a slip. None of it is wrong; each is worth a look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Mesh
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.window import time_text
from septum.policy import source
from septum.policy.codes import (
    CODES,
    COVERED,
    ENDED,
    IDLE_IGNORE,
    NEEDLESS_GRANT,
    NOBODY_YET,
    SHADOWED,
    TO_ITSELF,
    TOO_WIDE,
    TWIN,
    UNUSED_ISSUER,
)
from septum.policy.grants import ended
from septum.policy.named_files import Files
from septum.policy.roles import Role, role
from septum.policy.text import text_of
from septum.policy.upkeep.comments import is_flow, lines_of
from septum.policy.upkeep.cuts import Cuts
from septum.policy.upkeep.ignored import Ignore, ignores
from septum.verify.needless import Needless, needless

# The codes that lint has.
LINT_CODES = tuple(code for code in CODES if code.startswith("SEP6"))

# What a record says was used of one operation of a rule, in words; empty where nothing is on record.
Used = Callable[[Rule, HttpPattern], str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning, and what would mend it without a change of what is decided; nothing where that is for the author.

    `rule` is the id of the rule that it is about, if it is about one.
    """

    diagnostic: Diagnostic
    rule: str = ""
    cuts: Cuts = field(default_factory=dict)

    @property
    def code(self) -> str:
        """Its code."""
        return self.diagnostic.code


def lint(
    files: Files, policy: Policy, now: float, codes: Iterable[str] = LINT_CODES, used: Used | None = None
) -> tuple[Finding, ...]:
    """Everything that is found in `files`, which load to the policy, of these codes, in the order in which it stands.

    What a comment ignores is left out. All cuts together may be made at once.
    """
    wanted = frozenset(codes)
    written = _written(files, policy)
    found = [
        *_needless(policy, now, written),
        *_ended(policy, now),
        *(finding for rule in policy.rules for finding in _of_rule(rule, policy, written[rule.id], now, used)),
        *_unused_issuers(policy),
    ]
    shown, idle = _ignored([finding for finding in found if finding.code in wanted], files, written, wanted)
    kept = [*shown, *(idle if IDLE_IGNORE in wanted else [])]
    return tuple(sorted(kept, key=lambda finding: finding.diagnostic.order))


def together(findings: Iterable[Finding]) -> Cuts:
    """The cuts of all findings as one."""
    cuts: dict[str, frozenset[int] | None] = {}
    for finding in findings:
        for rule_id, gone in finding.cuts.items():
            known = cuts.get(rule_id, frozenset())
            cuts[rule_id] = None if gone is None or known is None else gone | known
    return cuts


# --- where rules stand


@dataclass(frozen=True, slots=True)
class _Place:
    """A rule as its file has it: its node, and the lines on which a comment is about all of it."""

    node: source.Mapping
    lines: frozenset[int]

    def operation(self, index: int) -> Span:
        """Where one of its operations stands."""
        scalars = source.words(self.node.get("http") or self.node.get("grpc"))
        return scalars[index].span


def _written(files: Files, policy: Policy) -> Mapping[str, _Place]:
    """Rule id → where it is written."""
    places = {}
    for path, content in files.items():
        if role(path) is Role.POLICY and isinstance(content, bytes):
            text, allow = text_of(path, content), source.child(source.read(path, content).root, "allow")
            lines = lines_of(text) if isinstance(text, str) else []
            for item in allow.items if isinstance(allow, source.Sequence) else ():
                if isinstance(item, source.Mapping):
                    about = {item.span.line, *([item.span.end_line] if is_flow(lines, item) else [])}
                    places[source.first(item)] = _Place(item, frozenset(about))
    return {rule.id: places[rule.span] for rule in policy.rules if rule.span is not None}


# --- what is not needed


def _needless(policy: Policy, now: float, written: Mapping[str, _Place]) -> Iterator[Finding]:
    for one in needless(policy, now):
        if one.operation is None:
            yield Finding(_of_needless_rule(one), one.rule.id, {one.rule.id: None})
        else:
            yield Finding(
                _of_operation(one, written[one.rule.id]), one.rule.id, {one.rule.id: frozenset({one.operation})}
            )


def _of_needless_rule(one: Needless) -> Diagnostic:
    rule, by = one.rule, _names(one.by)
    if not one.by:
        return _warning(
            SHADOWED, f"`{rule.id}` can allow nothing", _span(rule), "no token passes what it asks", "remove it"
        )
    label = _places(one.by)
    if rule.window is not None and all(other.window is None for other in one.by):
        message = f"`{rule.id}` ends, and what it allows does not: {by} {_verb(one.by)} it too"
        return _warning(NEEDLESS_GRANT, message, _span(rule), label, "remove it, or take away what makes it needless")
    if one.twin:
        return _warning(TWIN, f"`{rule.id}` says the same as {by}", _span(rule), label, "remove one of them")
    message = f"everything that `{rule.id}` allows, {by} {_verb(one.by)} too"
    return _warning(SHADOWED, message, _span(rule), label, "remove it")


def _of_operation(one: Needless, place: _Place) -> Diagnostic:
    assert one.operation is not None
    pattern = (one.rule.operations or ())[one.operation]
    if one.by == (one.rule,):
        message, label = f"the rule's other operations allow `{pattern.text}` too", ""
    else:
        others = tuple(other for other in one.by if other.id != one.rule.id)
        message, label = f"{_names(others)} {_verb(others)} `{pattern.text}` too", _places(others)
    return _warning(COVERED, message, place.operation(one.operation), label, "remove it from the rule")


def _ended(policy: Policy, now: float) -> Iterator[Finding]:
    for rule in ended(policy, now):
        assert rule.window is not None  # it would not have ended
        message = f"`{rule.id}` ended at {time_text(rule.window.until or 0)}, and allows nothing any more"
        yield Finding(_warning(ENDED, message, _span(rule), help="remove it"), rule.id, {rule.id: None})


# --- what is too wide, or a slip


def _of_rule(rule: Rule, policy: Policy, place: _Place, now: float, used: Used | None) -> Iterator[Finding]:
    if rule.window is not None and rule.window.over(now):
        return
    for index, pattern in enumerate(rule.operations or ()):
        if is_everything(pattern):
            message = f"`{pattern.text}` is everything that {_what(rule, pattern)}"
            help = (used(rule, pattern) if used else "") or "name the operations that are needed"
            yield Finding(_warning(TOO_WIDE, message, place.operation(index), help=help), rule.id)
    yield from (Finding(diagnostic, rule.id) for diagnostic in _of_selectors(policy.mesh, place.node))


def _of_selectors(mesh: Mesh, node: source.Mapping) -> Iterator[Diagnostic]:
    callers, targets = (source.words(node.get(key)) for key in ("from", "to"))
    for one in (*callers, *targets):
        kind, _, name = one.text.partition(":")
        if kind == "segment" and not mesh.members(name):
            message = f"no workload is in segment `{name}`, so this names nobody"
            yield _warning(NOBODY_YET, message, one.span, help="put a workload into it, or remove it here")
    for one in targets:
        if one.text in mesh.workloads and one.text in {caller.text for caller in callers}:
            yield _warning(TO_ITSELF, f"`{one.text}` would call itself", one.span, help="name who is meant")


def is_everything(pattern: HttpPattern) -> bool:
    """Whether a pattern has no part that says what it is about: `/**`, or `*` of gRPC."""
    return pattern.text == "*" or (pattern.path.tail and not pattern.path.segments)


def _what(rule: Rule, pattern: HttpPattern) -> str:
    if pattern.text == "*":
        return f"{rule.targets_text} has"
    methods, _, _ = pattern.text.partition(" ")
    return f"{rule.targets_text} has" if methods == "*" else f"can be asked of {rule.targets_text} by {methods}"


def _unused_issuers(policy: Policy) -> Iterator[Finding]:
    asked = {issuer for rule in policy.rules if rule.when is not None for issuer in rule.when.issuers}
    for issuer in policy.mesh.issuers.values():
        if issuer.issuer not in asked and issuer.span is not None:
            message = f"no rule asks for a token of `{issuer.name}`"
            yield Finding(
                _warning(UNUSED_ISSUER, message, issuer.span, help="remove it, or write `when` with its `iss`")
            )


# --- what is meant so


def _ignored(
    found: Sequence[Finding], files: Files, written: Mapping[str, _Place], wanted: frozenset[str]
) -> tuple[list[Finding], list[Finding]]:
    """The findings that no comment ignores, and those about comments that ignore nothing."""
    said = list(_said(files))
    used: set[Ignore] = set()
    shown = []
    for finding in found:
        matching = [one for one in said if _is_about(one, finding, written)]
        used.update(matching)
        shown += [] if matching else [finding]
    idle = [one for one in said if one not in used and (one.code in wanted or one.code not in LINT_CODES)]
    return shown, [Finding(_idle(one)) for one in idle]


def _said(files: Files) -> Iterator[Ignore]:
    for path, content in files.items():
        if role(path) in (Role.MESH, Role.POLICY) and isinstance(content, bytes):
            text = text_of(path, content)
            if isinstance(text, str) and "septum:" in text:
                yield from ignores(path, text, source.read(path, content).root)


def _is_about(ignore: Ignore, finding: Finding, written: Mapping[str, _Place]) -> bool:
    """Whether a comment ignores a finding: on its own line, or on that of the rule that it is about."""
    span, place = finding.diagnostic.span, written.get(finding.rule)
    lines = {span.line} if place is None else {span.line, *place.lines}
    return (ignore.code, ignore.span.file) == (finding.code, span.file) and ignore.line in lines


def _idle(ignore: Ignore) -> Diagnostic:
    if ignore.code in LINT_CODES:
        message = f"there is no {ignore.code} here to ignore"
    else:
        message = f"{ignore.code} cannot be ignored" if ignore.code in CODES else f"there is no code {ignore.code}"
    return _warning(IDLE_IGNORE, message, ignore.span, help="remove the comment")


# --- words


def _warning(code: str, message: str, span: Span, label: str = "", help: str = "") -> Diagnostic:
    return Diagnostic(code, message, span, label, help, Severity.WARNING)


def _span(rule: Rule) -> Span:
    assert rule.span is not None  # it was read from a file
    return rule.span


def _names(rules: Sequence[Rule]) -> str:
    shown = [f"`{rule.id}`" for rule in rules[:3]] + ([f"{len(rules) - 3} more"] if len(rules) > 3 else [])
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _places(rules: Sequence[Rule]) -> str:
    where = [rule.span.place for rule in rules[:3] if rule.span is not None]
    return f"at {', '.join(where)}" if where else ""


def _verb(rules: Sequence[Rule]) -> str:
    return "allows" if len(rules) == 1 else "allow"
