"""A grant written into a policy file: the policy is what it was and this one rule, or nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count

from septum.model.diagnostic import Diagnostic
from septum.model.mesh import Mesh, Protocol
from septum.model.policy import Policy, Rule
from septum.model.window import Window, time_text
from septum.policy.load import load
from septum.policy.named_files import Files
from septum.policy.upkeep.edit import Append, CannotEdit, edited
from septum.policy.upkeep.quoting import as_written

GRANTS_FILE = "policy/grants.yaml"
_NEW = b"# Rules that end by themselves. `septum grant` adds one, `septum tidy` takes out those that are over.\n"


@dataclass(frozen=True, slots=True)
class Grant:
    """Who is granted what, as it is to be written. `claims` are entries of `when`, in the policy's own language."""

    callers: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[str, ...]
    window: Window
    because: str
    name: str = ""
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """The file as it is to be, the policy that comes of it, and the one rule by which that differs."""

    content: bytes
    policy: Policy
    rule: Rule


class NotGranted(Exception):
    """The grant cannot be written; `diagnostics` say what is wrong with it, in `files`."""

    def __init__(self, why: str, diagnostics: tuple[Diagnostic, ...] = (), files: Files | None = None) -> None:
        super().__init__(why)
        self.diagnostics, self.files = diagnostics, files or {}


def granted(files: Files, before: Policy, grant: Grant, file: str = GRANTS_FILE) -> Granted:
    """The grant beside the rules of `before`, which is what the files say. Raises NotGranted."""
    named = replace(grant, name=grant.name or _name(grant, before))
    try:
        content = edited(file, _present(files, file), [Append(("allow",), _item(named, before.mesh))])
    except CannotEdit as error:
        raise NotGranted(str(error)) from error
    with_it = {**files, file: content}
    loaded = load(with_it)
    if loaded.policy is None:
        raise NotGranted("the grant is no valid rule", loaded.errors, with_it)
    return Granted(content, loaded.policy, _the_one(before, loaded.policy, named))


def _present(files: Files, file: str) -> bytes:
    content = files.get(file, _NEW)
    if isinstance(content, OSError):
        raise NotGranted(f"{file} cannot be read: {content.strerror or content}")
    return content


def _the_one(before: Policy, after: Policy, grant: Grant) -> Rule:
    """The rule that is new, if it is what was asked for and all else is as before."""
    others = tuple(rule for rule in after.rules if rule.id != grant.name)
    made = [rule for rule in after.rules if rule.id == grant.name]
    same = (after.mesh, others, after.guarantees) == (before.mesh, before.rules, before.guarantees)
    if not same or [_asked(rule) for rule in made] != [(grant.callers, grant.targets, grant.window, grant.because)]:
        raise NotGranted("the policy would say something else than it did and this grant; write it by hand")
    return made[0]


def _asked(rule: Rule) -> tuple[object, ...]:
    return tuple(rule.callers_text.split(",")), tuple(rule.targets_text.split(",")), rule.window, rule.because


def _name(grant: Grant, policy: Policy) -> str:
    """A name that no rule has: `grant-support-tool-orders`, with a number where that is taken."""
    plain = "-".join(["grant", *(word.removeprefix("segment:") for word in (*grant.callers, *grant.targets))])
    taken = {rule.id for rule in policy.rules}
    numbered = (f"{plain}-{number}" for number in count(2))
    return next(name for name in chain([plain], numbered) if name not in taken)


def _item(grant: Grant, mesh: Mesh) -> str:
    return "\n".join(_lines(grant, mesh))


def _lines(grant: Grant, mesh: Mesh) -> Iterator[str]:
    yield f"name: {as_written(grant.name, flow=False)}"
    yield f"from: {_words(grant.callers)}"
    yield f"to: {_words(grant.targets)}"
    if (key := _key(grant, mesh)) is not None:
        yield f"{key}:"
        yield from (f"  - {as_written(operation, flow=False)}" for operation in grant.operations)
    if grant.claims:
        yield from ("when:", "  claims:", *(f"    {claim}" for claim in grant.claims))
    for name, moment in (("from_time", grant.window.from_time), ("until", grant.window.until)):
        if moment is not None:
            yield f"{name}: {time_text(moment)}"
    yield f"because: {as_written(grant.because, flow=False)}"


def _words(words: tuple[str, ...]) -> str:
    written = [as_written(word, flow=True) for word in words]
    return written[0] if len(written) == 1 else f"[{', '.join(written)}]"


def _key(grant: Grant, mesh: Mesh) -> str | None:
    """The key for the operations, by what the targets speak; None for sessions. Where nothing is known, as it looks."""
    if grant.operations == ("connect",):
        return None
    spoken = {mesh.targets[name].protocol for name in _members(grant.targets, mesh)} - {Protocol.TCP}
    if len(spoken) == 1:
        return str(*spoken)
    return str(Protocol.HTTP if " " in grant.operations[0] else Protocol.GRPC)


def _members(targets: Iterable[str], mesh: Mesh) -> Iterator[str]:
    for word in targets:
        if word.startswith("segment:") and (segment := word.removeprefix("segment:")) in mesh.segments:
            yield from mesh.members(segment)
        elif word in mesh.targets:
            yield word
