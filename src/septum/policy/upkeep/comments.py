"""The comments and blank lines of a file, which its tree does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from septum.policy.source import Mapping, Node, Scalar, Sequence


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment with its `#`; `alone` is whether nothing stands before it on its line. A blank line is an empty one."""

    text: str
    line: int
    column: int
    alone: bool


def comments(text: str, root: Node | None) -> tuple[Comment, ...]:
    """The comments of a file, in order."""
    return tuple(one for one in trivia(text, root) if one.text)


def trivia(text: str, root: Node | None) -> tuple[Comment, ...]:
    """The comments and the blank lines of a file, in order. `root` is the tree that was read from the text."""
    lines = lines_of(text)
    masked = _masked(lines, root)
    found = (_on_line(line, number, masked.get(number, [])) for number, line in enumerate(lines, start=1))
    return tuple(one for one in found if one is not None)


def lines_of(text: str) -> list[str]:
    """The lines as the front-end counts them, without their ends; a last line that is empty is none."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def character_at(lines: list[str], node: Node) -> str:
    """The character with which a node begins; empty for one that is not written."""
    line = lines[node.span.line - 1] if node.span.line <= len(lines) else ""
    return line[node.span.column - 1 : node.span.column]


def is_block_scalar(lines: list[str], scalar: Scalar) -> bool:
    """Whether the text stands below a header, `|` or `>`."""
    return not scalar.plain and character_at(lines, scalar) in ("|", ">")


def is_flow(lines: list[str], node: Node) -> bool:
    """Whether a list or a mapping stands in `[...]` or `{...}`."""
    return not isinstance(node, Scalar) and character_at(lines, node) in ("{", "[")


def block_lines(lines: list[str], scalar: Scalar) -> range:
    """The numbers of the lines below the header of such a scalar that belong to it."""
    end = scalar.span.end_line + (scalar.span.end_column > 1)
    return range(scalar.span.line + 1, min(end, len(lines) + 1))


def _on_line(line: str, number: int, masked: list[tuple[int, int]]) -> Comment | None:
    """What of a line is a comment. Outside of scalars a `#` can be nothing else: anchors and tags are refused."""
    if not line.strip():
        return None if masked else Comment("", number, 1, alone=True)
    start = line.find("#")
    while start >= 0 and any(begin <= start < end for begin, end in masked):
        start = line.find("#", start + 1)
    if start < 0:
        return None
    return Comment(line[start:].rstrip(), number, start + 1, alone=not line[:start].strip())


_Masks = dict[int, list[tuple[int, int]]]


def _masked(lines: list[str], root: Node | None) -> _Masks:
    """Line → the stretches of it (from 0, end exclusive) that belong to a scalar."""
    found: _Masks = {}
    for scalar in scalars(root):
        if is_block_scalar(lines, scalar):
            for number in block_lines(lines, scalar):
                found.setdefault(number, []).append((0, len(lines[number - 1]) + 1))
            continue
        span = scalar.span
        for number in range(span.line, span.end_line + 1):
            begin = span.column - 1 if number == span.line else 0
            end = span.end_column - 1 if number == span.end_line else len(lines[number - 1]) + 1
            if end > begin:
                found.setdefault(number, []).append((begin, end))
    return found


def scalars(node: Node | None) -> Iterator[Scalar]:
    """Every scalar of a tree, keys too, in the order in which they stand."""
    match node:
        case Scalar():
            yield node
        case Sequence():
            for item in node.items:
                yield from scalars(item)
        case Mapping():
            for key, value in node.entries:
                yield key
                yield from scalars(value)
        case None:
            pass
