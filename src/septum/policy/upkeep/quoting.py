"""How a word is written so that every reader of YAML reads the same: plain where it can be, quoted where it has to."""

from __future__ import annotations

import re

import yaml

from septum.model.diagnostic import Span
from septum.policy.fit import fit, value_of
from septum.policy.shape import Keys, Value
from septum.policy.source import Mapping, Scalar

# YAML 1.2, 7.3.3: what a plain scalar does not begin with; `-`, `?` and `:` may begin one, if something follows them.
_NOT_FIRST = frozenset(",[]{}#&*!|>'\"%@`")
_NOT_INSIDE = re.compile(r":(?:\s|$)|\s#")
_NOT_IN_FLOW = re.compile(r"[,\[\]{}]|:[,\[\]{}]")
_NOWHERE = Span("", 1, 1, 1, 1)
_MARKERS = re.compile(r"(?:---|\.\.\.)(?:\s|$)")


def plain_fits(text: str, *, flow: bool) -> bool:
    """Whether a text can stand without quotes: in a `[list]` or `{mapping}` with `flow`, else on a line of its own."""
    if not text or text != text.strip() or not text.isprintable() or text[0] in _NOT_FIRST:
        return False
    if text[0] in "-?:" and (len(text) == 1 or text[1] == " " or (flow and text[1] in ",[]{}")):
        return False
    if _NOT_INSIDE.search(text) or _MARKERS.match(text):
        return False
    return not (flow and _NOT_IN_FLOW.search(text))


def written(scalar: Scalar, raw: str, *, flow: bool) -> str:
    """A scalar of one line as it is best written; `raw` is how it stands in the file."""
    if plain_fits(scalar.text, flow=flow) and (scalar.plain or _is_text_everywhere(scalar.text)):
        return scalar.text
    # What cannot be seen was written with an escape, and stays so.
    return quoted(scalar.text) if scalar.text.isprintable() else raw


def quoted(text: str) -> str:
    """A printable text in quotes: double ones, unless an escape would be needed."""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def as_written(text: str, *, flow: bool) -> str:
    """A printable text as it is best written where no file has it yet."""
    return text if plain_fits(text, flow=flow) and _is_text_everywhere(text) else quoted(text)


def _is_text_everywhere(text: str) -> bool:
    """Whether a plain word is text to Septum and to other readers: `no`, `1.5` and `2027-01-31` are not."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    known = [*resolvers.get(text[0], []), *resolvers.get(None, [])]
    if any(pattern.match(text) for _, pattern in known):
        return False
    plain = Scalar(text, _NOWHERE)
    return isinstance(value_of(plain), str) and fit(Mapping(((plain, plain),), _NOWHERE), Keys({text: Value()})) == ()
