"""YAML text to a tree of nodes that know where they stand. Scalars stay the text that was written.

Built from parser events, so that nothing is resolved, merged or dropped behind the author's back: `no` is the text
`no`, a repeated key is an error, and anchors, tags and further documents are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from septum.model.diagnostic import Diagnostic, Span
from septum.policy.codes import (
    ANCHOR,
    DUPLICATE_KEY,
    NOT_TEXT,
    SEVERAL_DOCUMENTS,
    SYNTAX,
    TAG,
    TOO_DEEP,
)
from septum.policy.text import CLOSE, OPEN, hidden, text_of

# libyaml is about ten times faster than the pure parser and gives the same events.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# `[GET /orders/{id}]` is how people write it, but YAML reads a `{` in a flow list as the start of a mapping. Braces
# that follow a slash are put out of its sight, by stand-ins of equal width so that every column stays true.
_PLACEHOLDER = re.compile(r"(?<=/)\{([A-Za-z_][A-Za-z0-9_]*)\}")

# The language nests six levels deep; a file that goes on and on is not a policy.
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Scalar:
    """A word of the file. `plain` is whether it stood without quotes; `raw` is how it was written, if with escapes."""

    text: str
    span: Span
    plain: bool = True
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order in which they were written; a key occurs once."""

    entries: tuple[tuple[Scalar, Node], ...]
    span: Span

    def get(self, key: str) -> Node | None:
        """The value under a key, or None."""
        return next((value for name, value in self.entries if name.text == key), None)


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Source:
    """A file's tree (None when there is nothing in it) and what is wrong with its YAML."""

    root: Node | None
    diagnostics: tuple[Diagnostic, ...]


def read(file: str, content: bytes) -> Source:
    """Read one file. With a diagnostic in it, the tree may be partial; nobody should build on it."""
    text = text_of(file, content)
    return _parsed(file, text) if isinstance(text, str) else Source(None, text)


def child(node: Node | None, key: str) -> Node | None:
    """The value under a key, where the node is a mapping that has it."""
    return node.get(key) if isinstance(node, Mapping) else None


def children(node: Node | None, key: str) -> tuple[tuple[Scalar, Node], ...]:
    """The entries of the mapping under a key; none where there is no such mapping."""
    value = child(node, key)
    return value.entries if isinstance(value, Mapping) else ()


def word(node: Node | None) -> str:
    """The text of a scalar; empty where there is none."""
    return node.text if isinstance(node, Scalar) else ""


def words(node: Node | None) -> tuple[Scalar, ...]:
    """The scalars of a list, or the one that stands for a list of one."""
    items = node.items if isinstance(node, Sequence) else (node,)
    return tuple(item for item in items if isinstance(item, Scalar))


def key_span(root: Mapping, key: str) -> Span:
    """Where a key stands, or the mapping that lacks it."""
    return next((name.span for name, _ in root.entries if name.text == key), root.span)


def first(node: Node) -> Span:
    """A span that fits on a line: the scalar itself, a mapping's first key, or the first character of a list."""
    if isinstance(node, Scalar):
        return node.span
    if isinstance(node, Mapping) and node.entries:
        return node.entries[0][0].span
    return replace(node.span, end_line=node.span.line, end_column=node.span.column + 1)


def part(scalar: Scalar, offset: int, length: int) -> Span:
    """Where a part of a scalar's text stands in the file; the whole scalar when it spans lines."""
    if scalar.span.line != scalar.span.end_line:
        return scalar.span
    starts = _columns(scalar)
    start, end = starts[min(offset, len(starts) - 1)], starts[min(offset + max(1, length), len(starts) - 1)]
    return replace(scalar.span, column=start, end_column=max(end, start + 1))


# One character of a quoted scalar's text, as it is written: doubled in single quotes, escaped in double quotes.
_WRITTEN = {
    "'": re.compile(r"''|."),
    '"': re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)|."),
}


def _columns(scalar: Scalar) -> list[int]:
    """The column at which each character of the text stands, and the one after the last."""
    start = scalar.span.column + (0 if scalar.plain else 1)
    if scalar.raw is None:
        return list(range(start, start + len(scalar.text) + 1))
    written = _WRITTEN[scalar.raw[0]].finditer(scalar.raw, 1, len(scalar.raw) - 1)
    columns = [scalar.span.column + match.start() for match in written]
    return [*columns, scalar.span.end_column - 1]


def _parsed(file: str, text: str) -> Source:
    reader = _Reader(file, text)
    try:
        root = reader.document(yaml.parse(_PLACEHOLDER.sub(rf"{OPEN}\1{CLOSE}", text), Loader=_Loader))
        return Source(root, tuple(reader.diagnostics))
    except _TooDeepError:
        return Source(None, tuple(reader.diagnostics))
    except yaml.MarkedYAMLError as error:
        return Source(None, (*reader.diagnostics, _syntax(file, text, error)))


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    # At the end of a file the parser stands on a line that is not there.
    lines = text.split("\n")
    while line > 1 and (line > len(lines) or not lines[line - 1]):
        line, column = line - 1, len(lines[min(line - 1, len(lines)) - 1]) + 1
    here = lines[line - 1][: column + 1] if line <= len(lines) else ""
    help = "quote a pattern that holds braces, commas or `*` at its start" if re.search(r"[{}*,]", here) else ""
    at = Span(file, line, column, line, column + 1)
    return Diagnostic(
        SYNTAX, f"this is not YAML: {error.problem or 'nothing more is known'}", at, _context(error, line), help
    )


def _context(error: yaml.MarkedYAMLError, line: int) -> str:
    """What was being read, and where that began."""
    began = error.context_mark.line + 1 if error.context_mark else line
    return (error.context or "") + (f" that begins on line {began}" if error.context and began != line else "")


class _TooDeepError(Exception):
    """Ends the reading of a file that nests without end; the diagnostic is in the reader."""


class _Reader:
    """Turns the events of one file into nodes, collecting what is refused."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.diagnostics: list[Diagnostic] = []

    def document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                self._document(event, documents)
            elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent, yaml.AliasEvent)):
                node = self.node(event, events, 0)
                root = node if documents == 1 else root
        if isinstance(root, Scalar) and root.plain and root.text == "":
            return None
        return root

    def _document(self, event: Any, number: int) -> None:
        if number == 2:
            help = "move the rest into a file of its own"
            self._refuse(SEVERAL_DOCUMENTS, "a file holds one document", event, help=help)
        if event.version or event.tags:
            self._refuse(TAG, "directives are not read", event, help="leave them out")

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if depth == MAX_DEPTH:
            self._refuse(TOO_DEEP, f"nested more than {MAX_DEPTH} levels deep", event)
            raise _TooDeepError
        if isinstance(event, yaml.AliasEvent):
            self._refuse(ANCHOR, "aliases are not read", event, help="write the value out, where it is used")
            return Scalar("", self.span(event))
        if event.anchor is not None:
            self._refuse(ANCHOR, "anchors are not read", event, help="write the value out, where it is used")
        if event.tag is not None:
            self._refuse(TAG, f"the tag `{_tag(event.tag)}` is not read", event, help="leave it out")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, events, depth)
        return self._mapping(event, events, depth)

    def _scalar(self, event: Any) -> Scalar:
        span, text = self.span(event), _shown(event.value)
        character = hidden(text)
        if character is not None:
            at = replace(span, end_line=span.line, end_column=span.column + 1) if span.line != span.end_line else span
            message = f"an escape makes the character {character}, which is not read"
            self.diagnostics.append(Diagnostic(NOT_TEXT, message, at, help="remove it"))
        return Scalar(text, span, plain=not event.style, raw=self._raw(event, span, text))

    def _raw(self, event: Any, span: Span, text: str) -> str | None:
        """What stood between quotes, where escapes put its columns out of step with the text."""
        if event.style not in ("'", '"') or span.line != span.end_line:
            return None
        if span.end_column - span.column == len(text) + 2:
            return None
        return self.text.split("\n")[span.line - 1][span.column - 1 : span.end_column - 1]

    def _sequence(self, start: Any, events: Iterator[Any], depth: int) -> Sequence:
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self.node(event, events, depth + 1))
        return Sequence(tuple(items), self.span(start, event))

    def _mapping(self, start: Any, events: Iterator[Any], depth: int) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.node(event, events, depth + 1)
            value = self.node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                self.diagnostics.append(Diagnostic(SYNTAX, "a key is a word", first(key)))
            elif key.text == "<<" and key.plain:
                help = "write the keys out, where they are used"
                self.diagnostics.append(Diagnostic(ANCHOR, "merge keys are not read", key.span, help=help))
            elif key.text in entries:
                where = f"the first is at line {entries[key.text][0].span.line}"
                self.diagnostics.append(Diagnostic(DUPLICATE_KEY, f"`{key.text}` stands here twice", key.span, where))
            else:
                entries[key.text] = (key, value)
        return Mapping(tuple(entries.values()), self.span(start, event))

    def span(self, event: Any, end: Any = None) -> Span:
        first, last = event.start_mark, (end or event).end_mark
        return Span(self.file, first.line + 1, first.column + 1, last.line + 1, last.column + 1)

    def _refuse(self, code: str, message: str, event: Any, help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, self.span(event), help=help))


def _tag(tag: str) -> str:
    return _shown(tag.replace("tag:yaml.org,2002:", "!!"))


def _shown(text: str) -> str:
    """The text as it was written, with its braces."""
    return text.replace(OPEN, "{").replace(CLOSE, "}")
