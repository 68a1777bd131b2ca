"""YAML text to a tree of nodes that know where they stand. Scalars stay the text that was written.

Built from parser events, so that nothing is resolved, merged or dropped behind the author's back: `no` is the text
`no`, a repeated key is an error, and anchors, tags and further documents are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
    TOO_LARGE,
)

# libyaml is about ten times faster than the pure parser and gives the same events.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# `[GET /orders/{id}]` is how people write it, but YAML reads a `{` in a flow list as the start of a mapping. Braces that
# follow a slash are put out of its sight, by stand-ins of equal width so that every column stays true.
_PLACEHOLDER = re.compile(r"(?<=/)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STAND_INS = ("\ue000", "\ue001")

# A policy is written by people. These bounds only keep a wrong file from taking the checker down.
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Scalar:
    """A word of the file. `plain` is whether it stood without quotes."""

    text: str
    span: Span
    plain: bool = True


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
    start = Span(file, 1, 1, 1, 1)
    if len(content) > MAX_BYTES:
        return Source(None, (Diagnostic(TOO_LARGE, f"the file is larger than {MAX_BYTES >> 20} MiB", start),))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = content.count(b"\n", 0, error.start) + 1, error.start - content.rfind(b"\n", 0, error.start)
        at = Span(file, line, column, line, column + 1)
        return Source(None, (Diagnostic(NOT_TEXT, "the file is not UTF-8", at, "this byte has no meaning in UTF-8"),))
    if any(stand_in in text for stand_in in _STAND_INS):
        return Source(None, (Diagnostic(NOT_TEXT, "the file holds a private-use character (U+E000, U+E001)", start),))
    hidden = _PLACEHOLDER.sub(rf"{_STAND_INS[0]}\1{_STAND_INS[1]}", text)
    reader = _Reader(file)
    try:
        return Source(reader.document(yaml.parse(hidden, Loader=_Loader)), tuple(reader.diagnostics))
    except yaml.MarkedYAMLError as error:
        return Source(None, (*reader.diagnostics, _syntax(file, error)))
    except yaml.reader.ReaderError as error:
        return Source(
            None, (Diagnostic(NOT_TEXT, f"the file holds a character that YAML forbids: {error.reason}", start),)
        )


def _syntax(file: str, error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = error.problem or "this is not YAML"
    if "\\t" in what or "'\t'" in what:
        what = "a tab cannot indent; use spaces"
    return Diagnostic(SYNTAX, what, Span(file, line, column, line, column + 1), error.context or "")


class _Reader:
    """Turns the events of one file into nodes, collecting what is refused."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.diagnostics: list[Diagnostic] = []

    def document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents == 2:
                    self._refuse(
                        SEVERAL_DOCUMENTS,
                        "a file holds one document",
                        event,
                        help="move the rest into a file of its own",
                    )
            elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent, yaml.AliasEvent)):
                node = self.node(event, events, 0)
                root = node if documents == 1 else root
        if isinstance(root, Scalar) and root.plain and root.text == "":
            return None
        return root

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if depth == MAX_DEPTH:
            self._refuse(TOO_DEEP, f"nested more than {MAX_DEPTH} levels deep", event)
        if isinstance(event, yaml.AliasEvent):
            self._refuse(
                ANCHOR, "aliases are not read", event, help="write the value out: a rule should be read where it stands"
            )
            return Scalar("", self.span(event))
        if event.anchor is not None:
            self._refuse(
                ANCHOR, "anchors are not read", event, help="write the value out: a rule should be read where it stands"
            )
        if event.tag is not None:
            self._refuse(TAG, f"the tag `{event.tag}` is not read", event, help="leave it out")
        if isinstance(event, yaml.ScalarEvent):
            text = event.value.replace(_STAND_INS[0], "{").replace(_STAND_INS[1], "}")
            return Scalar(text, self.span(event), plain=event.style is None)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, events, depth)
        return self._mapping(event, events, depth)

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
                self.diagnostics.append(Diagnostic(SYNTAX, "a key is a word", key.span))
            elif key.text in entries:
                first = entries[key.text][0].span
                self.diagnostics.append(
                    Diagnostic(
                        DUPLICATE_KEY, f"`{key.text}` stands here twice", key.span, f"first at line {first.line}"
                    )
                )
            else:
                entries[key.text] = (key, value)
        return Mapping(tuple(entries.values()), self.span(start, event))

    def span(self, event: Any, end: Any = None) -> Span:
        first, last = event.start_mark, (end or event).end_mark
        return Span(self.file, first.line + 1, first.column + 1, last.line + 1, last.column + 1)

    def _refuse(self, code: str, message: str, event: Any, help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, self.span(event), help=help))
