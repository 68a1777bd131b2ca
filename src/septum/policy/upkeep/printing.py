"""A file's tree and its comments to text: two spaces of indentation, one order of a rule's keys, quotes where needed.

What the author wrote in `[...]` and `{...}` stays so where it fits on a line; everything else has a line of its own. A
comment stays with what it stands above or beside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as Lines
from dataclasses import dataclass, field, replace
from itertools import takewhile

from septum.policy.shape import Either, Keys, Many, Named, Shape
from septum.policy.source import Mapping, Node, Scalar, Sequence
from septum.policy.upkeep.comments import Comment, block_lines, is_block_scalar, is_flow
from septum.policy.upkeep.quoting import written

# How wide a line with `[...]` or `{...}` may be, and what stands between a value and the comment beside it.
WIDTH, GAP = 100, 2
STEP = 2
_MARKER = "---"
# What has one order of keys. Workloads and settings stay in the order in which their author thinks of them.
_IN_ORDER = ("a rule", "a guarantee", "a statement", "an override", "a test")

_Position = tuple[int, int]
_END: _Position = (1 << 60, 0)


class CannotPrint(Exception):
    """Something that the printer has no safe layout for; the text says what, and at which line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line to be: `comment` is beside its text, `column` where that stood before. A raw line is part of a scalar."""

    indent: int
    text: str = ""
    comment: str = ""
    column: int = 0
    raw: bool = False

    @property
    def width(self) -> int:
        """How far its text goes."""
        return self.indent + len(self.text)

    @property
    def blank(self) -> bool:
        """Whether there is nothing on it, and that means nothing."""
        return not (self.text or self.comment or self.raw)


@dataclass(slots=True)
class _Chunk:
    """An entry of a mapping or an item of a list: what stands above it, and itself."""

    key: str
    above: list[Line]
    body: list[Line] = field(default_factory=list)


class Printer:
    """Prints one file. Comments are taken from a queue in the order in which they stand, each by what it belongs to."""

    def __init__(self, lines: Lines[str], trivia: Iterable[Comment]) -> None:
        self._lines = list(lines)
        self._queue = deque(sorted([*trivia, *_markers(self._lines)], key=_of_comment))

    def file(self, root: Node | None, shape: Shape | None) -> str:
        """The whole file. Raises CannotPrint."""
        if isinstance(root, Scalar):
            raise CannotPrint(f"{root.span.place}: a file is a mapping or a list")
        lines = [] if root is None else self._root(root, shape)
        return _text_of(lines + self._above(0, _END))

    def _root(self, root: Mapping | Sequence, shape: Shape | None) -> list[Line]:
        chunk = _Chunk("", self._above(0, _start(root)))
        if not (self._is_flow(root) and self._beside(chunk, "", root, 0, shape, _END)):
            chunk.body = self._block(root, 0, shape, _END, root.span.column)
        return [*chunk.above, *chunk.body]

    # --- mappings and lists, an entry or an item a line

    def _block(
        self, node: Mapping | Sequence, indent: int, shape: Shape | None, bound: _Position, least: int
    ) -> list[Line]:
        """A collection below its key. Comments after its last entry are its own from column `least` on."""
        flow = self._is_flow(node)
        bound = _end(node) if flow else bound
        children = [key for key, _ in node.entries] if isinstance(node, Mapping) else list(node.items)
        following = [*map(_start, children[1:]), bound]
        chunks = []
        for index, child in enumerate(children):
            until = following[index]
            chunk = _Chunk(child.text if isinstance(child, Scalar) else "", self._above(indent, _start(child)))
            if isinstance(node, Mapping):
                self._entry(chunk, *node.entries[index], indent, shape, until)
            else:
                self._item(chunk, child, indent, shape, until)
            chunks.append(chunk)
        tail = self._above(indent, bound) if flow else self._tail(indent, bound, least)
        lines = [line for chunk in _in_order(chunks, node, shape) for line in (*chunk.above, *chunk.body)]
        return _without_blank_start(lines) + tail

    def _entry(
        self, chunk: _Chunk, key: Scalar, value: Node, indent: int, shape: Shape | None, until: _Position
    ) -> None:
        if key.span.line != key.span.end_line or self._is_block_scalar(key):
            raise CannotPrint(f"{key.span.place}: a key stands on one line")
        head = self._written(key, flow=False) + ":"
        shape = _below(shape, key.text)
        if self._beside(chunk, f"{head} ", value, indent, shape, until):
            return
        assert not isinstance(value, Scalar)  # they stand beside their key
        beside = self._comment_on(value.span.line if self._is_flow(value) else key.span.line, _first(value))
        same_column = isinstance(value, Sequence) and value.span.column == key.span.column
        body = self._block(value, indent + STEP, shape, until, value.span.column + same_column)
        chunk.body = [_with(Line(indent, head), beside), *body]
        self._after(chunk, value, indent, until)

    def _item(self, chunk: _Chunk, item: Node, indent: int, shape: Shape | None, until: _Position) -> None:
        shape = shape.of if isinstance(shape, Many) else None
        if self._beside(chunk, "- ", item, indent, shape, until):
            return
        if not isinstance(item, Mapping):
            raise CannotPrint(f"{item.span.place}: a list in a list has no layout")
        lines = deque(self._block(item, indent + STEP, shape, until, item.span.column))
        while not lines[0].text:
            chunk.above.append(replace(lines.popleft(), indent=indent))
        first = lines.popleft()
        chunk.body = [replace(first, indent=indent, text=f"- {first.text}"), *lines]
        self._after(chunk, item, indent, until)

    def _beside(
        self, chunk: _Chunk, head: str, value: Node, indent: int, shape: Shape | None, until: _Position
    ) -> bool:
        """Put a value on the line of its key or dash, if it can stand there."""
        if isinstance(value, Scalar):
            lines = self._scalar(head, value, indent)
        else:
            text = self._inline(value, shape) if self._is_flow(value) and not self._has_comments(value) else None
            if text is None or indent + len(head) + len(text) > WIDTH:
                return False
            lines = [Line(indent, head + text)]
        before = [line for line in self._above(indent, _end(value)) if line.comment]
        headed = isinstance(value, Scalar) and self._is_block_scalar(value)
        at = 0 if headed else len(lines) - 1
        beside = self._comment_on(value.span.line if headed else value.span.end_line, until)
        if beside is None and before:
            last = before.pop()
            lines[at] = replace(lines[at], comment=last.comment, column=last.column)
        lines[at] = _with(lines[at], beside)
        chunk.above += before
        chunk.body = lines
        return True

    def _after(self, chunk: _Chunk, value: Mapping | Sequence, indent: int, until: _Position) -> None:
        """A comment beside the end of a `[...]` that is spread over lines goes to its first one, or above it."""
        beside = self._comment_on(value.span.end_line, until) if self._is_flow(value) else None
        if beside is None:
            return
        if chunk.body[0].comment:
            chunk.above.append(Line(indent, comment=beside.text))
        else:
            chunk.body[0] = _with(chunk.body[0], beside)

    # --- comments

    def _above(self, indent: int, until: _Position) -> list[Line]:
        """Everything that stands before a place and is nobody's yet, as lines of their own."""
        lines = []
        while self._queue and _of_comment(self._queue[0]) < until:
            comment = self._queue.popleft()
            lines.append(Line(indent, comment=comment.text, column=comment.column) if comment.text else Line(0))
        return lines

    def _tail(self, indent: int, until: _Position, least: int) -> list[Line]:
        """The comments after the last entry of a block that are as far in as the block; blank lines among them too."""
        own = 0
        for count, comment in enumerate(self._queue, start=1):
            if _of_comment(comment) >= until or (comment.text and comment.column < least):
                break
            own = count if comment.text else own
        return self._above(indent, _of_comment(self._queue[own]) if own < len(self._queue) else until) if own else []

    def _comment_on(self, line: int, until: _Position) -> Comment | None:
        """The comment beside what ends on a line, if it stands before a place."""
        if self._queue and self._queue[0].line == line and not self._queue[0].alone:
            return self._queue.popleft() if _of_comment(self._queue[0]) < until else None
        return None

    def _has_comments(self, node: Node) -> bool:
        inside = takewhile(lambda one: _of_comment(one) < _end(node), self._queue)
        return any(one.text and _of_comment(one) > _start(node) for one in inside)

    # --- scalars, and what stands on one line

    def _inline(self, node: Node, shape: Shape | None) -> str | None:
        """A node in flow style, or None where it cannot be."""
        if isinstance(node, Scalar):
            return None if node.span.line != node.span.end_line or not _stands(node) else self._written(node, flow=True)
        if isinstance(node, Sequence):
            items = [self._inline(item, shape.of if isinstance(shape, Many) else None) for item in node.items]
            return None if None in items else f"[{', '.join(map(str, items))}]"
        parts = []
        for key, value in node.entries:
            name, text = self._inline(key, None), self._inline(value, _below(shape, key.text))
            if name is None or text is None:
                return None
            parts.append(_Chunk(key.text, [], [Line(0, f"{name}: {text}")]))
        return f"{{{', '.join(part.body[0].text for part in _in_order(parts, node, shape))}}}"

    def _scalar(self, head: str, scalar: Scalar, indent: int) -> list[Line]:
        """A scalar after its key or dash: on that line, and on those below it when it was written over several."""
        if self._is_block_scalar(scalar):
            return self._below_header(head, scalar, indent)
        if scalar.span.line == scalar.span.end_line:
            return [Line(indent, (head + (self._written(scalar, flow=False) if _stands(scalar) else "")).rstrip())]
        span = scalar.span
        whole = self._lines[span.line - 1 : span.end_line]
        whole[-1] = whole[-1][: span.end_column - 1]
        whole[0] = whole[0][span.column - 1 :]
        first, *others = (line.strip() for line in whole)
        return [Line(indent, head + first), *(Line(indent + STEP if text else 0, text, raw=True) for text in others)]

    def _below_header(self, head: str, scalar: Scalar, indent: int) -> list[Line]:
        header = self._lines[scalar.span.line - 1][scalar.span.column - 1 :].split("#")[0].strip()
        numbers = block_lines(self._lines, scalar)
        content = [self._lines[number - 1] for number in numbers]
        if any(character.isdigit() for character in header) or not any(line.strip() for line in content):
            raise CannotPrint(f"{scalar.span.place}: a text below `{header}` has no layout")
        margin = next(len(line) - len(line.lstrip(" ")) for line in content if line.strip())
        rest = [line[margin:] for line in content]
        kept = rest if "+" in header else rest[: max(i for i, line in enumerate(rest) if line.strip()) + 1]
        lines = [Line(indent + STEP if text else 0, text, raw=True) for text in kept]
        return [Line(indent, head + header), *lines, *([Line(0)] if len(kept) < len(rest) else [])]

    def _written(self, scalar: Scalar, *, flow: bool) -> str:
        span = scalar.span
        return written(scalar, self._lines[span.line - 1][span.column - 1 : span.end_column - 1], flow=flow)

    def _is_block_scalar(self, scalar: Scalar) -> bool:
        return is_block_scalar(self._lines, scalar)

    def _is_flow(self, node: Node) -> bool:
        return is_flow(self._lines, node)


def _markers(lines: Lines[str]) -> list[Comment]:
    """The mark that begins a document, where there is one. No scalar holds such a line (YAML 1.2, 9.1.2)."""
    found = []
    for number, line in enumerate(lines, start=1):
        if line.split("#")[0].rstrip() == _MARKER:
            found.append(Comment(_MARKER, number, 1, alone=True))
        elif line.startswith((f"{_MARKER} ", "...")):
            raise CannotPrint(f"line {number}: a document's mark has a line of its own")
    return found


def _stands(scalar: Scalar) -> bool:
    """Whether anything is written where the scalar is."""
    return not (scalar.plain and scalar.text == "")


def _start(node: Node) -> _Position:
    return node.span.line, node.span.column


def _end(node: Node) -> _Position:
    return node.span.end_line, node.span.end_column


def _first(node: Mapping | Sequence) -> _Position:
    """Where the first entry or item of a collection begins."""
    children = [key for key, _ in node.entries] if isinstance(node, Mapping) else list(node.items)
    return _start(children[0]) if children else _end(node)


def _of_comment(comment: Comment) -> _Position:
    return comment.line, comment.column


def _with(line: Line, comment: Comment | None) -> Line:
    return line if comment is None else replace(line, comment=comment.text, column=comment.column)


def _below(shape: Shape | None, key: str) -> Shape | None:
    """The shape of the value under a key."""
    if isinstance(shape, Either):
        shape = shape.one_of
    if isinstance(shape, Keys):
        return shape.keys.get(key)
    return shape.of if isinstance(shape, Named) else None


def _in_order(chunks: list[_Chunk], node: Node, shape: Shape | None) -> list[_Chunk]:
    """The entries of a rule and its like in the order of its shape; others as they stand."""
    if not isinstance(node, Mapping) or not isinstance(shape, Keys) or shape.noun not in _IN_ORDER:
        return chunks
    keys = list(shape.keys)
    return sorted(chunks, key=lambda chunk: keys.index(chunk.key) if chunk.key in keys else len(keys))


def _without_blank_start(lines: list[Line]) -> list[Line]:
    start = next((index for index, line in enumerate(lines) if not line.blank), len(lines))
    return lines[start:]


def _text_of(lines: list[Line]) -> str:
    kept: list[Line] = []
    for line in lines:
        if not line.blank or (kept and not kept[-1].blank):
            kept.append(line)
    while kept and kept[-1].blank:
        kept.pop()
    return "".join(f"{text}\n" for run in _runs(kept) for text in _aligned(run))


def _runs(lines: list[Line]) -> list[list[Line]]:
    """Lines next to each other whose comments stood in one column belong together."""
    runs: list[list[Line]] = []
    for line in lines:
        if runs and _same_column(runs[-1][-1], line):
            runs[-1].append(line)
        else:
            runs.append([line])
    return runs


def _aligned(run: list[Line]) -> list[str]:
    edge = max(line.width for line in run) + GAP
    return [_drawn(line, edge) for line in run]


def _same_column(one: Line, other: Line) -> bool:
    return bool(one.text and one.comment and other.text and other.comment) and one.column == other.column


def _drawn(line: Line, edge: int) -> str:
    text = " " * line.indent + line.text
    if not line.comment:
        return text if line.text else ""
    return text.ljust(edge) + line.comment if line.text else text + line.comment
