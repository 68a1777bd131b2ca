"""What is written differently in two policies: rules, guarantees and all that a mesh declares, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeVar

from septum.model.diagnostic import Span
from septum.model.guarantee import Guarantee
from septum.model.mesh import External, Issuer, Mesh, Mode, Node, Segment, Target, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule
from septum.model.window import time_text
from septum.policy.times import window_text
from septum.verify.conditions import when_text

T = TypeVar("T")


class What(StrEnum):
    """What became of a thing."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a thing that differs, as text before and after; empty where it is not there."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """A thing that one of the two policies has and the other has not, or has otherwise.

    `kind` is its word in the language: rule, guarantee, workload, segment, node, issuer, external, mesh. `span` is
    where it stands, in the new files unless it was removed.
    """

    kind: str
    name: str
    what: What
    parts: tuple[Part, ...] = ()
    span: Span | None = None


def changes(old: Policy, new: Policy) -> tuple[Change, ...]:
    """What differs, kind by kind, each in the order of the files."""
    return (*rule_changes(old, new), *_guarantee_changes(old, new), *mesh_changes(old.mesh, new.mesh))


def rule_changes(old: Policy, new: Policy) -> tuple[Change, ...]:
    """The rules that were added, removed and changed. One that has only another name is changed."""
    before, after = ({rule.id: rule for rule in policy.rules} for policy in (old, new))
    gone = {rule.id: rule for rule in old.rules if rule.id not in after}
    renamed = _renamed(gone.values(), (rule for rule in new.rules if rule.id not in before))
    found = []
    for rule in new.rules:
        known = before.get(rule.id) or renamed.get(rule.id)
        if known is None:
            found.append(Change("rule", rule.id, What.ADDED, span=rule.span))
        elif known is not rule and known.canonical != rule.canonical:
            found.append(Change("rule", rule.id, What.CHANGED, _rule_parts(known, rule), rule.span))
    kept = {rule.id for rule in renamed.values()}
    left = (rule for name, rule in gone.items() if name not in kept)
    return (*found, *(Change("rule", rule.id, What.REMOVED, span=rule.span) for rule in left))


def _renamed(gone: Iterable[Rule], come: Iterable[Rule]) -> Mapping[str, Rule]:
    """New name → the rule that has it now and says the same as before."""
    nameless = {replace(rule, id="").canonical: rule for rule in gone}
    found: dict[str, Rule] = {}
    for rule in come if nameless else ():
        known = nameless.pop(replace(rule, id="").canonical, None)
        if known is not None:
            found[rule.id] = known
    return found


def _rule_parts(before: Rule, after: Rule) -> tuple[Part, ...]:
    one, other = _rule_texts(before), _rule_texts(after)
    parts = [Part(name, one[name], other[name]) for name in one if one[name] != other[name]]
    if before.operations != after.operations:
        parts.insert(0, _operations(before.operations, after.operations))
    return tuple(parts)


def _rule_texts(rule: Rule) -> dict[str, str]:
    return {
        "name": rule.id,
        "from": _members(rule.callers_text, rule.callers),
        "to": _members(rule.targets_text, rule.targets),
        "when": when_text(rule.when) if rule.when else "",
        "time": window_text(rule.window) if rule.window else "",
        "because": rule.because,
    }


def _members(written: str, names: tuple[str, ...]) -> str:
    """A selector, with those whom it selects where it is not they who are written."""
    return written if "segment:" not in written else f"{written} ({', '.join(names) or 'nobody'})"


def _operations(before: tuple[HttpPattern, ...] | None, after: tuple[HttpPattern, ...] | None) -> Part:
    """What is gone from the list and what has come."""
    gone, come = _texts(before), _texts(after)
    less, more = [t for t in gone if t not in come], [t for t in come if t not in gone]
    if not less and not more:
        return Part("operations", ", ".join(gone), ", ".join(come))  # in another order
    return Part("operations", ", ".join(less), ", ".join(more))


def _texts(patterns: tuple[HttpPattern, ...] | None) -> list[str]:
    return ["connect"] if patterns is None else [pattern.text for pattern in patterns]


def _guarantee_changes(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({one.name: one for one in policy.guarantees} for policy in (old, new))
    yield from _compared("guarantee", before, after, _guarantee_texts)


def _guarantee_texts(guarantee: Guarantee) -> dict[str, str]:
    override = guarantee.override
    until = "" if override is None else f"{override.name}, until {time_text(override.until)}: {override.because}"
    return {
        "states": str(guarantee.kind) + (", through any" if guarantee.through else ""),
        "from": _members(guarantee.callers_text, guarantee.callers),
        "to": _members(guarantee.targets_text, guarantee.targets),
        "operations": "" if guarantee.operations is None else ", ".join(_texts(guarantee.operations)),
        "override": until,
    }


def mesh_changes(old: Mesh, new: Mesh) -> Iterator[Change]:
    """What was added to a mesh, taken from it, and is declared otherwise."""
    yield from _of_mesh(old, new)
    yield from _compared("segment", old.segments, new.segments, _segment_texts)
    yield from _compared("node", old.nodes, new.nodes, _plain_texts)
    yield from _compared("workload", old.workloads, new.workloads, _plain_texts, _modes(old, new))
    yield from _compared("external", old.external or {}, new.external or {}, _plain_texts)
    yield from _compared("issuer", old.issuers, new.issuers, _issuer_texts)


def _of_mesh(old: Mesh, new: Mesh) -> Iterator[Change]:
    one, other = _mesh_texts(old), _mesh_texts(new)
    parts = tuple(Part(name, one[name], other[name]) for name in one if one[name] != other[name])
    if parts:
        yield Change("mesh", new.name, What.CHANGED, parts)


def _mesh_texts(mesh: Mesh) -> dict[str, str]:
    outside = "nothing is said" if mesh.external is None else "only what is listed"
    enforced = ", ".join(sorted(mesh.enforced)) or "none"
    return {"mesh": mesh.name, "trust_domain": mesh.trust_domain, "enforce": enforced, "external": outside}


def _modes(old: Mesh, new: Mesh) -> Callable[[Target, Target], Iterable[Part]]:
    """The mode that a workload has, whether it says so itself or its segment does."""

    def of(before: Target, after: Target) -> Iterable[Part]:
        modes = old.mode(before), new.mode(after)
        return () if modes[0] is modes[1] else (Part("mode", str(modes[0]), str(modes[1])),)

    return of


def _compared(
    kind: str,
    before: Mapping[str, T],
    after: Mapping[str, T],
    texts: Callable[[T], Mapping[str, str]],
    also: Callable[[Any, Any], Iterable[Part]] = lambda _before, _after: (),
) -> Iterator[Change]:
    for name, thing in after.items():
        known = before.get(name)
        if known is None:
            yield Change(kind, name, What.ADDED, span=_span(thing))
            continue
        if known == thing and not tuple(also(known, thing)):
            continue
        one, other = texts(known), texts(thing)
        parts = (*(Part(part, one[part], other[part]) for part in one if one[part] != other[part]), *also(known, thing))
        if parts:
            yield Change(kind, name, What.CHANGED, parts, _span(thing))
    for name, thing in before.items():
        if name not in after:
            yield Change(kind, name, What.REMOVED, span=_span(thing))


def _span(thing: object) -> Span | None:
    span: Span | None = getattr(thing, "span", None)
    return span


def _segment_texts(segment: Segment) -> dict[str, str]:
    return {"description": segment.description}


def _plain_texts(thing: Workload | External | Node) -> dict[str, str]:
    """Every field as text."""
    shown = {field.name: getattr(thing, field.name) for field in fields(thing) if field.name not in ("name", "span")}
    if isinstance(thing, Workload):
        shown["mode of its own"] = shown.pop("mode")
    if isinstance(thing, External):
        shown["ca"] = _digest_text(thing.ca)
    return {name: _text(value) for name, value in shown.items()}


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Mode():
            return str(value)
        case Mapping():
            return ", ".join(f"{key} at {item}" for key, item in sorted(value.items()))
        case _ if hasattr(value, "__dataclass_fields__") and type(value).__str__ is object.__str__:
            return ", ".join(f"{field.name} {getattr(value, field.name):g}" for field in fields(value))  # type: ignore[arg-type]
        case _:
            return str(value)


def _issuer_texts(issuer: Issuer) -> dict[str, str]:
    keys = issuer.jwks_url or _digest_text(issuer.jwks)
    return {"issuer": issuer.issuer, "audiences": ", ".join(sorted(issuer.audiences)), "jwks": keys}


def _digest_text(content: str) -> str:
    """A file's content by its digest: its bytes would tell nobody anything."""
    return f"sha256 {sha256(content.encode()).hexdigest()[:12]}" if content else ""
