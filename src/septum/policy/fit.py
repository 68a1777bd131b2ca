"""Whether a tree fits its shape: everything that does not, each with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from septum.model.diagnostic import Diagnostic, Span
from septum.policy.codes import LATER, MISSING_KEY, NOTHING_ALLOWED, UNKNOWN_KEY, WRONG_SHAPE, WRONG_VALUE
from septum.policy.shape import Flag, Keys, Many, Named, Number, Shape, Text
from septum.policy.source import Mapping, Node, Scalar, Sequence, first


def fit(node: Node, shape: Keys) -> tuple[Diagnostic, ...]:
    """Everything in a file's tree that does not fit."""
    walk = _Walk()
    walk.check(node, shape, shape.noun, first(node))
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
                self._named(node, shape, what)
            case Many():
                self._many(node, shape, what)
            case Text() | Flag() | Number():
                self._scalar(node, shape, what)
            case _:
                assert_never(shape)

    def _keys(self, node: Node, shape: Keys, what: str, at: Span) -> None:
        if not isinstance(node, Mapping):
            self._add(WRONG_SHAPE, f"{what} is a mapping", first(node), help=f"with the keys {', '.join(shape.keys)}")
            return
        for key, value in node.entries:
            if key.text in shape.keys:
                self.check(value, shape.keys[key.text], f"`{key.text}`", key.span)
            elif key.text in shape.later:
                message = f"`{key.text}` ({shape.later[key.text]}) is not in this version of Septum"
                self._add(LATER, message, key.span, help="leave it out; ignoring it would change what the policy says")
            else:
                self._add(UNKNOWN_KEY, f"unknown key `{key.text}`", key.span, help=suggestion(key.text, shape.keys))
        for required in shape.required:
            if node.get(required) is None:
                self._add(MISSING_KEY, f"{what} has no `{required}`", at)

    def _named(self, node: Node, shape: Named, what: str) -> None:
        if not isinstance(node, Mapping):
            help = "write `name: value` lines below it, or {} for none"
            self._add(WRONG_SHAPE, f"{what} is a mapping of names", first(node), help=help)
            return
        for key, value in node.entries:
            self.check(value, shape.of, f"`{key.text}`", key.span)

    def _many(self, node: Node, shape: Many, what: str) -> None:
        if isinstance(node, Sequence):
            if shape.empty and not node.items:
                self._add(NOTHING_ALLOWED, shape.empty, first(node), help="name something, or remove the rule")
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

    def _scalar(self, node: Node, shape: Text | Flag | Number, what: str) -> None:
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
            case _:
                assert_never(shape)

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
        self._add(WRONG_VALUE, message, node.span, help=help)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


def _whole_number(node: Scalar) -> bool:
    # Python refuses to read numbers of thousands of digits, and nothing here needs twelve.
    return node.plain and node.text.isascii() and node.text.isdigit() and len(node.text) < 12
