"""`guarantees:` of `policy/*.yaml`. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

from dataclasses import dataclass

from septum.model.diagnostic import Diagnostic, Span
from septum.model.guarantee import Guarantee, Kind, Override
from septum.model.mesh import Protocol
from septum.model.operation import HttpPattern
from septum.policy.codes import NO_STATEMENT, PROTOCOL
from septum.policy.rules_file import RulesReader
from septum.policy.source import Mapping, Node, Scalar, Sequence, first, word
from septum.policy.windows import read_time

_OPERATIONS = ("http", "grpc")


@dataclass(frozen=True, slots=True)
class Stated:
    """A guarantee as one file has it; `name` is where its name stands, if it has one."""

    guarantee: Guarantee
    name: Span | None


def read_guarantees(root: Mapping, reader: RulesReader) -> tuple[Stated, ...]:
    """The guarantees of a file, in order. What is wrong with them is added to the reader's diagnostics."""
    written = root.get("guarantees")
    items = written.items if isinstance(written, Sequence) else ()
    stated = (_guarantee(item, reader) for item in items if isinstance(item, Mapping))
    return tuple(one for one in stated if one is not None)


def _guarantee(node: Mapping, reader: RulesReader) -> Stated | None:
    stated = [(key, value) for key, value in node.entries if key.text in tuple(Kind)]
    name, override = node.get("name"), node.get("override")
    if len(stated) != 1:
        what = "nothing" if not stated else " and ".join(f"`{key.text}`" for key, _ in stated)
        message = f"a guarantee states one thing, and this states {what}"
        reader.diagnostics.append(
            Diagnostic(NO_STATEMENT, message, first(node), help="write `never:`, `only:` or `always:`, one in each")
        )
        return None
    if override is not None and name is None:
        message = "a guarantee that may be broken has no name"
        reader.diagnostics.append(Diagnostic(NO_STATEMENT, message, first(node), help="give it a `name`"))
    key, value = stated[0]
    if not isinstance(value, Mapping):
        return None  # the shape check has said so
    callers, callers_text = reader.callers(value.get("from"))
    targets, targets_text = reader.targets(value.get("to"))
    kind = Kind(key.text)
    guarantee = Guarantee(
        name=word(name) or f"{kind}: {callers_text}->{targets_text}",
        kind=kind,
        callers=callers,
        targets=targets,
        operations=_operations(value, kind, targets, reader),
        through=value.get("through") is not None,
        override=_override(override, reader),
        callers_text=callers_text,
        targets_text=targets_text,
        span=first(node),
    )
    return Stated(guarantee, name.span if name is not None else None)


def _operations(
    node: Mapping, kind: Kind, targets: tuple[str, ...], reader: RulesReader
) -> tuple[HttpPattern, ...] | None:
    """The operations that it is about. Those of other protocols than a target speaks would say nothing of it."""
    patterns: list[HttpPattern] = []
    stated = [(key, value) for key, value in node.entries if key.text in _OPERATIONS]
    for key, value in stated:
        patterns += reader.patterns(key.text, value)
        _speaks(key, targets, reader)
    if kind is Kind.ALWAYS:
        _says_what(node, stated, targets, reader)
    return tuple(patterns) if stated else None


def _speaks(key: Scalar, targets: tuple[str, ...], reader: RulesReader) -> None:
    protocols = {reader.mesh.targets[name].protocol for name in targets}
    if targets and Protocol(key.text) not in protocols:
        message = f"none of the targets speaks {key.text}"
        reader.diagnostics.append(Diagnostic(PROTOCOL, message, key.span, help="so it would state nothing"))


def _says_what(node: Mapping, stated: list[tuple[Scalar, Node]], targets: tuple[str, ...], reader: RulesReader) -> None:
    """`always` without operations would ask that everything is open."""
    keys = {key.text for key, _ in stated}
    for name in targets:
        protocol = reader.mesh.targets[name].protocol
        if protocol is not Protocol.TCP and protocol not in keys:
            message = f"`{name}` speaks {protocol}, and nothing says which calls to it must always be open"
            help = f"write `{protocol}:` operations, such as a probe's"
            reader.diagnostics.append(Diagnostic(NO_STATEMENT, message, first(node), help=help))


def _override(node: Node | None, reader: RulesReader) -> Override | None:
    if not isinstance(node, Mapping):
        return None
    until, found = read_time(node.get("until"))
    reader.diagnostics += found
    return Override(word(node.get("name")), word(node.get("because")), until or 0)
