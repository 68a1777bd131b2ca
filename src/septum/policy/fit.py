"""Whether a tree fits its shape: everything that does not, each with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from septum.model.diagnostic import Diagnostic, Span
from septum.policy.codes import MISSING_KEY, NOTHING_ALLOWED, UNKNOWN_KEY, WRONG_SHAPE, WRONG_VALUE
from septum.policy.shape import Data, Either, Flag, Keys, Many, Named, Number, Shape, Text, Value
from septum.policy.source import Mapping, Node, Scalar, Sequence, first


def fit(node: Node, shape: Keys | Many, what: str = "") -> tuple[Diagnostic, ...]:
    """Everything in a file's tree that does not fit; `what` is how a message calls the file, if not by its noun."""
    walk = _Walk()
    walk.check(node, shape, what or (shape.noun if isinstance(shape, Keys) else "the file"), first(node))
    return tuple(walk.diagnostics)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped one most likely means, or None."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """A did-you-mean for a word, or what there is when that is little."""
    known = list(known)
    close = nearest(word, known)
    if close is not None:
        return f"did you mean `{close}`?"
    verb = "is" if len(known) == 1 else "are"
    return f"known {verb} {', '.join(f'`{name}`' for name in known)}" if 0 < len(known) <= 12 else ""


@dataclass
class _Walk:
    """Walks a tree along its shape. `what` is how a message calls a node, `at` is where something missing is said."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def check(self, node: Node, shape: Shape, what: str, at: Span) -> None:
        match shape:
            case Keys():
                self._keys(node, shape, what, at)
            case Named():
                self._named(node, shape, what, at)
            case Many():
                self._many(node, shape, what)
            case Either():
                self._either(node, shape, what, at)
            case Data():
                self._data(node, what)
            case Text() | Flag() | Number() | Value():
                self._scalar(node, shape, what)
            case _:
                assert_never(shape)

    def _data(self, node: Node, what: str) -> None:
        match node:
            case Scalar():
                self._value(node, what)
            case Sequence(items):
                for item in items:
                    self._data(item, f"an item of {what}")
            case Mapping(entries):
                for key, value in entries:
                    self._data(value, f"`{key.text}`")
            case _:
                assert_never(node)

    def _keys(self, node: Node, shape: Keys, what: str, at: Span) -> None:
        if not isinstance(node, Mapping):
            self._add(WRONG_SHAPE, f"{what} is a mapping", first(node), help=f"with the keys {', '.join(shape.keys)}")
            return
        for key, value in node.entries:
            if key.text in shape.keys:
                self.check(value, shape.keys[key.text], f"`{key.text}`", key.span)
            else:
                self._add(UNKNOWN_KEY, f"unknown key `{key.text}`", key.span, help=suggestion(key.text, shape.keys))
        self._required(node, shape.required, what, at)

    def _named(self, node: Node, shape: Named, what: str, at: Span) -> None:
        if not isinstance(node, Mapping):
            help = "write `name: value` lines below it, or {} for none"
            self._add(WRONG_SHAPE, f"{what} is a mapping of names", first(node), help=help)
            return
        for key, value in node.entries:
            self.check(value, shape.of, f"`{key.text}`", key.span)
        self._required(node, shape.required, what, at)

    def _either(self, node: Node, shape: Either, what: str, at: Span) -> None:
        if isinstance(node, Sequence):
            self._add(WRONG_SHAPE, f"{what} is a single value or a test", first(node), help=shape.instead)
            return
        if isinstance(node, Scalar):
            self.check(node, shape.value, what, at)
            return
        self.check(node, shape.one_of, what, at)
        if len(node.entries) != 1:
            help = f"write a value, or one of {', '.join(f'`{key}: …`' for key in shape.one_of.keys)}"
            self._add(WRONG_SHAPE, f"{what} has {len(node.entries)} tests, and takes one", first(node), help=help)

    def _required(self, node: Mapping, required: Iterable[str], what: str, at: Span) -> None:
        for key in required:
            if node.get(key) is None:
                self._add(MISSING_KEY, f"{what} has no `{key}`", at)

    def _many(self, node: Node, shape: Many, what: str) -> None:
        if isinstance(node, Sequence):
            if shape.empty and not node.items:
                self._add(NOTHING_ALLOWED, shape.empty, first(node), help=f"name something, or remove {shape.of_what}")
            noun = shape.of.noun if isinstance(shape.of, Keys) else f"an item of {what}"
            for item in node.items:
                self.check(item, shape.of, noun, first(item))
        elif shape.or_one and isinstance(node, Scalar):
            self.check(node, shape.of, what, node.span)
        else:
            help = (
                "write `- item` lines below it, or [] for none" if not shape.empty else "write `- item` lines below it"
            )
            expected = "a single value or a list of them" if shape.or_one else "a list"
            self._add(WRONG_SHAPE, f"{what} is {expected}", first(node), help=help)

    def _scalar(self, node: Node, shape: Text | Flag | Number | Value, what: str) -> None:
        if not isinstance(node, Scalar):
            self._add(WRONG_SHAPE, f"{what} is a single value", first(node))
            return
        match shape:
            case Text():
                self._text(node, shape, what)
            case Flag():
                if not node.plain or node.text not in ("true", "false"):
                    self._wrong(node, f"{what} is `true` or `false`, not `{node.text}`")
            case Number(least=least, most=most):
                if not _whole_number(node) or not least <= int(node.text) <= most:
                    self._wrong(node, f"{what} is a whole number from {least} to {most}, not `{node.text}`")
            case Value():
                self._value(node, what)
            case _:
                assert_never(shape)

    def _value(self, node: Scalar, what: str) -> None:
        if node.text == "" and node.plain:
            self._wrong(node, f"{what} is empty", 'for an empty text, write ""')
        elif isinstance(value_of(node), str) and node.plain and _LIKE_NO_TEXT.fullmatch(node.text):
            self._wrong(node, f"{what} is text, a whole number, `true` or `false`, not `{node.text}`", _QUOTE)

    def _text(self, node: Scalar, shape: Text, what: str) -> None:
        if node.text == "" and not shape.or_nothing:
            self._wrong(node, f"{what} is empty")
        elif shape.choices and node.text not in shape.choices:
            close = nearest(node.text, shape.choices)
            help = f"did you mean `{close}`?" if close is not None else ""
            self._wrong(node, f"{what} is one of {', '.join(shape.choices)}, not `{node.text}`", help)
        elif shape.pattern and not re.fullmatch(shape.pattern.regex, node.text):
            self._wrong(node, f"`{node.text}` is not {shape.pattern.noun}", shape.pattern.help)

    def _wrong(self, node: Scalar, message: str, help: str = "") -> None:
        span = node.span
        if span.line == span.end_line and span.column == span.end_column:
            span = replace(span, end_column=span.column + 1)  # where the value would stand
        self._add(WRONG_VALUE, message, span, help=help)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


# What other readers of YAML take for a number or for nothing. No claim is tested for such a value.
_LIKE_NO_TEXT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?|[-+]?0[box][0-9a-f_]+|[-+]?\.(?:inf|nan)|null|~",
    re.IGNORECASE,
)
_QUOTE = "quote it, if it is text"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")
# RFC 8259, section 6: beyond it, readers of JSON do not agree on a number.
_EXACT = 2**53


def value_of(node: Scalar) -> str | int | bool:
    """What is written: plain `true` and `false`, a plain whole number that JSON holds exactly, or else the text."""
    if node.plain and node.text in ("true", "false"):
        return node.text == "true"
    if node.plain and _INTEGER.fullmatch(node.text) and abs(int(node.text)) < _EXACT:
        return int(node.text)
    return node.text


def _whole_number(node: Scalar) -> bool:
    # Python refuses to read numbers of thousands of digits, and nothing here needs twelve.
    return node.plain and node.text.isascii() and node.text.isdigit() and len(node.text) < 12
