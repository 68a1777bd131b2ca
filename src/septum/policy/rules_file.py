"""`policy/*.yaml` to rules over a mesh. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from septum.model.claims import When
from septum.model.diagnostic import Diagnostic, Span
from septum.model.mesh import Mesh, Protocol
from septum.model.operation import METHODS, HttpPattern, PatternError
from septum.model.policy import Rule
from septum.policy.codes import NOT_A_CALLER, NOTHING_ALLOWED, PATTERN, PROTOCOL, WRONG_VALUE
from septum.policy.conditions import read_when
from septum.policy.names import repeated, unknown_name
from septum.policy.source import Mapping, Node, Scalar, Sequence, first, part, word, words
from septum.policy.windows import read_window

_PARSERS: dict[str, tuple[Protocol, Callable[[str], HttpPattern]]] = {
    "http": (Protocol.HTTP, HttpPattern.parse),
    "grpc": (Protocol.GRPC, HttpPattern.parse_grpc),
}
# Reads a plain name of a selector: what it selects.
_Named = Callable[[Scalar], tuple[str, ...]]
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
        callers, callers_text = self.callers(node.get("from"))
        targets, targets_text = self.targets(node.get("to"))
        window, out_of_time = read_window(node)
        self.diagnostics += out_of_time
        name = node.get("name")
        given = word(name)
        if name is not None and given.startswith("septum."):
            self._add(WRONG_VALUE, "names that start with `septum.` are Septum's own", name.span)
        rule = Rule(
            id=given or f"{callers_text}->{targets_text}",
            callers=callers,
            targets=targets,
            operations=self._operations(node, targets),
            because=word(node.get("because")),
            callers_text=callers_text,
            targets_text=targets_text,
            when=self._when(node, targets),
            window=window,
            span=first(node),
        )
        return Written(rule, name.span if name is not None and given else None)

    def callers(self, node: Node | None) -> tuple[tuple[str, ...], str]:
        """The workloads that a selector names, and the selector as it is written."""
        return self._selector(node, self._caller)

    def targets(self, node: Node | None) -> tuple[tuple[str, ...], str]:
        """The workloads and places outside that a selector names, and the selector as it is written."""
        return self._selector(node, self._target)

    def _selector(self, node: Node | None, named: _Named) -> tuple[tuple[str, ...], str]:
        """Those who are selected, by name, and the selector as it is written. `named` reads a plain name."""
        written = words(node)
        self._repeated(written)
        members = {name for one in written for name in self._members(one, named)}
        return tuple(sorted(members)), ",".join(one.text for one in written)

    def _members(self, written: Scalar, named: _Named) -> tuple[str, ...]:
        kind, colon, name = written.text.partition(":")
        if not colon:
            return named(written)
        if kind != "segment":
            help = "name a workload, or write `segment:NAME`"
            self._add(WRONG_VALUE, f"`{kind}:` is not a selector", written.span, help=help)
            return ()
        if name not in self._segments:
            diagnostic = unknown_name("segment", name, written.span, self._spans_of_segments)
            if name in self.mesh.workloads:
                diagnostic = replace(diagnostic, help=f"did you mean the workload `{name}`?")
            self.diagnostics.append(diagnostic)
            return ()
        return self._segments[name]

    def _caller(self, written: Scalar) -> tuple[str, ...]:
        if written.text in self.mesh.workloads:
            return (written.text,)
        if written.text in self.mesh.targets:
            message = f"`{written.text}` is a place outside, and nobody there calls anyone here"
            help = "a rule is from a workload; what comes from outside comes through one"
            self._add(NOT_A_CALLER, message, written.span, help=help)
        else:
            self._unknown("workload", written, self._spans_of_workloads)
        return ()

    def _target(self, written: Scalar) -> tuple[str, ...]:
        if written.text in self.mesh.targets:
            return (written.text,)
        kind = "workload or place outside" if self.mesh.external else "workload"
        self._unknown(kind, written, self._spans_of_targets)
        return ()

    def _unknown(self, kind: str, written: Scalar, known: dict[str, Span | None]) -> None:
        if written.text:
            diagnostic = unknown_name(kind, written.text, written.span, known)
            if written.text in self.mesh.segments:
                diagnostic = replace(diagnostic, help=f"did you mean `segment:{written.text}`?")
            self.diagnostics.append(diagnostic)

    def _when(self, node: Mapping, targets: tuple[str, ...]) -> When | None:
        stated = next(((key, value) for key, value in node.entries if key.text == "when"), None)
        if stated is None:
            return None
        key, value = stated
        # A rule about an empty segment opens sessions, unless it names operations.
        sessions = [name for name in targets if self.mesh.targets[name].protocol is Protocol.TCP]
        if sessions or not (targets or node.get("http") or node.get("grpc")):
            message = "a TCP session carries no token, so no condition on one can hold"
            self._add(PROTOCOL, message, key.span, help="leave `when` out, or put it on `http:` or `grpc:` operations")
        when, found = read_when(value, self.mesh)
        self.diagnostics += found
        return when

    def _operations(self, node: Mapping, targets: tuple[str, ...]) -> tuple[HttpPattern, ...] | None:
        stated = {key.text: (key, value) for key, value in node.entries if key.text in _PARSERS}
        if len(stated) > 1:
            message = "a rule opens `http:` or `grpc:` operations, not both"
            self._add(PROTOCOL, message, stated["grpc"][0].span, help="write two rules")
        patterns = [pattern for key, (_, value) in stated.items() for pattern in self.patterns(key, value)]
        to = node.get("to")
        if to is not None:
            self._protocols([key for key, _ in stated.values()], targets, to)
        return tuple(patterns) if stated else None

    def _protocols(self, stated: list[Scalar], targets: tuple[str, ...], to: Node) -> None:
        for name in targets:
            protocol = self.mesh.targets[name].protocol
            if not stated and protocol is not Protocol.TCP:
                message = f"`{name}` speaks {protocol}, and the rule names no `{protocol}:` operation"
                help = f"to allow every operation, write {_EVERYTHING[protocol]}"
                self._add(NOTHING_ALLOWED, message, _on_a_line(to), help=help)
            for key in stated:
                if key.text != protocol:
                    self._add(
                        PROTOCOL, f"`{name}` speaks {protocol}, not {key.text}", key.span, help=_instead(key, protocol)
                    )

    def patterns(self, key: str, node: Node) -> Iterator[HttpPattern]:
        """The operations of an `http:` or `grpc:` key."""
        written = words(node)
        self._repeated(written)
        for one in written:
            try:
                yield _PARSERS[key][1](one.text)
            except PatternError as error:
                if one.text:
                    span = part(one, error.offset, error.length)
                    self._add(PATTERN, error.message, span, help=_split_by_yaml(one) or error.help)

    def _repeated(self, written: tuple[Scalar, ...]) -> None:
        self.diagnostics += repeated(written, lambda one: one.text)

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

    @cached_property
    def _spans_of_targets(self) -> dict[str, Span | None]:
        return {name: target.span for name, target in self.mesh.targets.items()}


def _instead(key: Scalar, protocol: Protocol) -> str:
    if protocol is Protocol.TCP:
        return f"leave out `{key.text}:`; a TCP workload is opened as a whole"
    return f"write `{protocol}:` operations for it, in a rule of its own"


def _split_by_yaml(written: Scalar) -> str:
    """The help for `[GET,HEAD /x]`, of which YAML makes two items."""
    return "quote the entry: a comma in a [list] ends an item" if written.plain and written.text in METHODS else ""


def _on_a_line(node: Node) -> Span:
    return node.span if node.span.line == node.span.end_line else first(node)
