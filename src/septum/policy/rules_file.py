"""`policy/*.yaml` to rules over a mesh. Runs on a tree whose shape has been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Mesh, Protocol
from septum.model.operation import HttpPattern, PatternError
from septum.model.policy import Rule
from septum.policy.codes import NOTHING_ALLOWED, PATTERN, PROTOCOL, REPEATED, WRONG_SHAPE, WRONG_VALUE
from septum.policy.mesh_file import unknown_name
from septum.policy.source import Mapping, Node, Scalar, Sequence

_PARSERS: dict[str, tuple[Protocol, Callable[[str], HttpPattern]]] = {
    "http": (Protocol.HTTP, HttpPattern.parse),
    "grpc": (Protocol.GRPC, HttpPattern.parse_grpc),
}


@dataclass
class RulesReader:
    """Reads the rules of one file, collecting what is wrong with them."""

    mesh: Mesh
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def read(self, root: Mapping) -> tuple[Rule, ...]:
        """The rules, in order. An unnamed rule's id is still only `from->to`; `number` makes ids unique."""
        allow = root.get("allow")
        items = allow.items if isinstance(allow, Sequence) else ()
        return tuple(self._rule(item) for item in items if isinstance(item, Mapping))

    def _rule(self, node: Mapping) -> Rule:
        callers, callers_text = self._selector(node.get("from"))
        targets, targets_text = self._selector(node.get("to"))
        operations = self._operations(node, targets)
        name = node.get("name")
        given = name.text if isinstance(name, Scalar) else ""
        if given.startswith("septum."):
            self._add(WRONG_VALUE, "names that start with `septum.` are Septum's own", name.span if name else node.span)
        because = node.get("because")
        return Rule(
            id=given or f"{callers_text}->{targets_text}",
            callers=callers,
            targets=targets,
            operations=operations,
            because=because.text if isinstance(because, Scalar) else "",
            callers_text=callers_text,
            targets_text=targets_text,
            span=name.span
            if name
            else Span(node.span.file, node.span.line, node.span.column, node.span.line, node.span.column + 1),
        )

    def _selector(self, node: Node | None) -> tuple[tuple[str, ...], str]:
        items = node.items if isinstance(node, Sequence) else (node,) if node is not None else ()
        if isinstance(node, Sequence) and not items:
            self._add(
                NOTHING_ALLOWED,
                "the list is empty, so the rule is about nobody",
                node.span,
                help="name a workload, or remove the rule",
            )
        names: dict[str, None] = {}
        words = []
        for item in items:
            if isinstance(item, Scalar):
                words.append(item.text)
                names |= dict.fromkeys(self._members(item))
        self._repeated(items)
        return tuple(names), ",".join(words)

    def _members(self, item: Scalar) -> tuple[str, ...]:
        kind, colon, name = item.text.partition(":")
        if not colon:
            if item.text not in self.mesh.workloads:
                known = {name: workload.span for name, workload in self.mesh.workloads.items()}
                diagnostic = unknown_name("workload", item.text, item.span, known)
                if item.text in self.mesh.segments:
                    diagnostic = replace(diagnostic, help=f"did you mean `segment:{item.text}`?")
                self.diagnostics.append(diagnostic)
            return (item.text,) if item.text in self.mesh.workloads else ()
        if kind != "segment":
            self._add(
                WRONG_VALUE, f"`{kind}:` is not a selector", item.span, help="name a workload, or write `segment:NAME`"
            )
            return ()
        if name not in self.mesh.segments:
            known = {name: segment.span for name, segment in self.mesh.segments.items()}
            self.diagnostics.append(unknown_name("segment", name, item.span, known))
        return self.mesh.members(name)

    def _operations(self, node: Mapping, targets: tuple[str, ...]) -> tuple[HttpPattern, ...] | None:
        patterns: list[HttpPattern] = []
        stated = {key: value for key in _PARSERS if (value := node.get(key)) is not None}
        for key, value in stated.items():
            patterns += self._patterns(value, _PARSERS[key][1])
        if len(stated) > 1:
            self._add(
                PROTOCOL,
                "a rule opens `http:` or `grpc:` operations, not both",
                stated["grpc"].span,
                help="write two rules",
            )
        self._protocols(node, stated, targets)
        return tuple(patterns) if stated else None

    def _protocols(self, node: Mapping, stated: dict[str, Node], targets: tuple[str, ...]) -> None:
        to = node.get("to")
        for name in targets if to is not None else ():
            protocol = self.mesh.workloads[name].protocol
            own = str(protocol)
            if not stated and protocol is not Protocol.TCP:
                everything = 'http: ["* /**"]' if protocol is Protocol.HTTP else 'grpc: ["*"]'
                message = f"`{name}` speaks {own}, and the rule names no `{own}:` operation"
                self._add(
                    NOTHING_ALLOWED,
                    message,
                    to.span if to else node.span,
                    help=f"to allow every operation, write `{everything}`",
                )
            for key, value in stated.items():
                if key != own:
                    help = (
                        f"leave out `{key}:`; TCP is allowed as a whole"
                        if protocol is Protocol.TCP
                        else f"write `{own}:` operations for it"
                    )
                    self._add(PROTOCOL, f"`{name}` speaks {own}, not {key}", _key_span(node, key), help=help)

    def _patterns(self, node: Node, parse: Callable[[str], HttpPattern]) -> list[HttpPattern]:
        items = node.items if isinstance(node, Sequence) else (node,)
        if not items:
            self._add(
                NOTHING_ALLOWED,
                "the list is empty, so the rule allows nothing",
                node.span,
                help="name an operation, or remove the rule",
            )
        found = []
        for item in items:
            if not isinstance(item, Scalar):
                continue
            try:
                found.append(parse(item.text))
            except PatternError as error:
                self.diagnostics.append(Diagnostic(PATTERN, error.message, _part(item, error), help=error.help))
        self._repeated(items)
        return found

    def _repeated(self, items: tuple[Node, ...]) -> None:
        seen: set[str] = set()
        for item in items:
            if isinstance(item, Scalar):
                if item.text in seen:
                    self.diagnostics.append(
                        Diagnostic(REPEATED, f"`{item.text}` is written twice", item.span, severity=Severity.WARNING)
                    )
                seen.add(item.text)
            elif not isinstance(item, (Scalar, Sequence, Mapping)):
                self._add(WRONG_SHAPE, "an item is a single value", item.span)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


def _part(item: Scalar, error: PatternError) -> Span:
    """Where inside the scalar a pattern goes wrong; the whole of it when it spans lines."""
    if item.span.line != item.span.end_line:
        return item.span
    column = item.span.column + error.offset + (0 if item.plain else 1)
    return replace(item.span, column=column, end_column=column + max(1, error.length))


def _key_span(node: Mapping, key: str) -> Span:
    return next(name.span for name, _ in node.entries if name.text == key)
