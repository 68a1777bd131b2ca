"""`policy/*.yaml` to rules over a mesh. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Mesh, Protocol
from septum.model.operation import METHODS, HttpPattern, PatternError
from septum.model.policy import Rule
from septum.policy.codes import NOTHING_ALLOWED, PATTERN, PROTOCOL, REPEATED, WRONG_VALUE
from septum.policy.names import unknown_name
from septum.policy.source import Mapping, Node, Scalar, Sequence, first, part

_PARSERS: dict[str, tuple[Protocol, Callable[[str], HttpPattern]]] = {
    "http": (Protocol.HTTP, HttpPattern.parse),
    "grpc": (Protocol.GRPC, HttpPattern.parse_grpc),
}
_EVERYTHING = {Protocol.HTTP: '`http: ["* /**"]`', Protocol.GRPC: '`grpc: ["*"]`'}


@dataclass(frozen=True, slots=True)
class Written:
    """A rule as one file has it. An unnamed rule's id is still only `from->to`; `name` is where its name stands."""

    rule: Rule
    name: Span | None


@dataclass
class RulesReader:
    """Reads rules over one mesh, file by file, collecting what is wrong with them."""

    mesh: Mesh
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def read(self, root: Mapping) -> tuple[Written, ...]:
        """The rules of a file, in order."""
        allow = root.get("allow")
        items = allow.items if isinstance(allow, Sequence) else ()
        # What is not a mapping has been said by the shape check, and refuses the file.
        return tuple(self._rule(item) for item in items if isinstance(item, Mapping))

    def _rule(self, node: Mapping) -> Written:
        callers, callers_text = self._selector(node.get("from"))
        targets, targets_text = self._selector(node.get("to"))
        name = node.get("name")
        given = name.text if isinstance(name, Scalar) else ""
        if name is not None and given.startswith("septum."):
            self._add(WRONG_VALUE, "names that start with `septum.` are Septum's own", name.span)
        because = node.get("because")
        rule = Rule(
            id=given or f"{callers_text}->{targets_text}",
            callers=callers,
            targets=targets,
            operations=self._operations(node, targets),
            because=because.text if isinstance(because, Scalar) else "",
            callers_text=callers_text,
            targets_text=targets_text,
            span=first(node),
        )
        return Written(rule, name.span if name is not None and given else None)

    def _selector(self, node: Node | None) -> tuple[tuple[str, ...], str]:
        """The workloads that are selected, by name, and the selector as it is written."""
        words = _scalars(node)
        self._repeated(words)
        members = {name for word in words for name in self._members(word)}
        return tuple(sorted(members)), ",".join(word.text for word in words)

    def _members(self, word: Scalar) -> tuple[str, ...]:
        kind, colon, name = word.text.partition(":")
        if not colon:
            return self._workload(word)
        if kind != "segment":
            help = "name a workload, or write `segment:NAME`"
            self._add(WRONG_VALUE, f"`{kind}:` is not a selector", word.span, help=help)
            return ()
        if name not in self._segments:
            diagnostic = unknown_name("segment", name, word.span, self._spans_of_segments)
            if name in self.mesh.workloads:
                diagnostic = replace(diagnostic, help=f"did you mean the workload `{name}`?")
            self.diagnostics.append(diagnostic)
            return ()
        return self._segments[name]

    def _workload(self, word: Scalar) -> tuple[str, ...]:
        if word.text in self.mesh.workloads:
            return (word.text,)
        if word.text:
            diagnostic = unknown_name("workload", word.text, word.span, self._spans_of_workloads)
            if word.text in self.mesh.segments:
                diagnostic = replace(diagnostic, help=f"did you mean `segment:{word.text}`?")
            self.diagnostics.append(diagnostic)
        return ()

    def _operations(self, node: Mapping, targets: tuple[str, ...]) -> tuple[HttpPattern, ...] | None:
        stated = {key.text: (key, value) for key, value in node.entries if key.text in _PARSERS}
        if len(stated) > 1:
            message = "a rule opens `http:` or `grpc:` operations, not both"
            self._add(PROTOCOL, message, stated["grpc"][0].span, help="write two rules")
        patterns = [pattern for key, (_, value) in stated.items() for pattern in self._patterns(key, value)]
        to = node.get("to")
        if to is not None:
            self._protocols([key for key, _ in stated.values()], targets, to)
        return tuple(patterns) if stated else None

    def _protocols(self, stated: list[Scalar], targets: tuple[str, ...], to: Node) -> None:
        for name in targets:
            protocol = self.mesh.workloads[name].protocol
            if not stated and protocol is not Protocol.TCP:
                message = f"`{name}` speaks {protocol}, and the rule names no `{protocol}:` operation"
                help = f"to allow every operation, write {_EVERYTHING[protocol]}"
                self._add(NOTHING_ALLOWED, message, _on_a_line(to), help=help)
            for key in stated:
                if key.text != protocol:
                    self._add(
                        PROTOCOL, f"`{name}` speaks {protocol}, not {key.text}", key.span, help=_instead(key, protocol)
                    )

    def _patterns(self, key: str, node: Node) -> Iterator[HttpPattern]:
        words = _scalars(node)
        self._repeated(words)
        for word in words:
            try:
                yield _PARSERS[key][1](word.text)
            except PatternError as error:
                if word.text:
                    span = part(word, error.offset, error.length)
                    self._add(PATTERN, error.message, span, help=_split_by_yaml(word) or error.help)

    def _repeated(self, words: tuple[Scalar, ...]) -> None:
        seen: set[str] = set()
        for word in words:
            if word.text in seen:
                message = f"`{word.text}` is written twice"
                self.diagnostics.append(Diagnostic(REPEATED, message, word.span, severity=Severity.WARNING))
            seen.add(word.text)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))

    @cached_property
    def _segments(self) -> dict[str, tuple[str, ...]]:
        return {name: self.mesh.members(name) for name in self.mesh.segments}

    @cached_property
    def _spans_of_segments(self) -> dict[str, Span | None]:
        return {name: segment.span for name, segment in self.mesh.segments.items()}

    @cached_property
    def _spans_of_workloads(self) -> dict[str, Span | None]:
        return {name: workload.span for name, workload in self.mesh.workloads.items()}


def _scalars(node: Node | None) -> tuple[Scalar, ...]:
    """The words of a list, or the one word that stands for a list of one. The shape check has said what is neither."""
    items = node.items if isinstance(node, Sequence) else (node,)
    return tuple(item for item in items if isinstance(item, Scalar))


def _instead(key: Scalar, protocol: Protocol) -> str:
    if protocol is Protocol.TCP:
        return f"leave out `{key.text}:`; a TCP workload is opened as a whole"
    return f"write `{protocol}:` operations for it, in a rule of its own"


def _split_by_yaml(word: Scalar) -> str:
    """The help for `[GET,HEAD /x]`, of which YAML makes two items."""
    return "quote the entry: a comma in a [list] ends an item" if word.plain and word.text in METHODS else ""


def _on_a_line(node: Node) -> Span:
    return node.span if node.span.line == node.span.end_line else first(node)
