"""Edits of a file that keep its comments and its layout. Each is proven: what was edited is read, and says just that.

A change names what it is about by its path in the file's tree, such as `("allow", 3, "http")`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import assert_never

from septum.policy.source import Mapping, Node, Scalar, Sequence, read
from septum.policy.text import text_of
from septum.policy.upkeep.alike import alike
from septum.policy.upkeep.comments import block_lines, comments, is_block_scalar, is_flow, lines_of, trivia
from septum.policy.upkeep.printing import STEP

Path = tuple[str | int, ...]


class CannotEdit(Exception):
    """The file cannot be edited without a risk to the rest of it; the text says where, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Remove:
    """These items of a list go, with the comments that stand right above, beside and inside them."""

    at: Path
    indexes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Append:
    """An item is added to a list, after its last one. `item` is YAML without indentation and without its `- `."""

    at: Path
    item: str


@dataclass(frozen=True, slots=True)
class Put:
    """A single value is replaced. `text` is YAML, on one line."""

    at: Path
    text: str


Change = Remove | Append | Put


def edited(file: str, content: bytes, changes: Iterable[Change]) -> bytes:
    """The file with these changes and no others. Raises CannotEdit.

    No two changes may be about one place, or about a place inside of one that goes.
    """
    editor = _Editor(file, content)
    for change in changes:
        editor.make(change)
    return editor.result()


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the text, by offsets, and what takes its place."""

    start: int
    end: int
    text: str = ""


class _Editor:
    """One file while it is edited: stretches of its text, and the tree that should come of them."""

    def __init__(self, file: str, content: bytes) -> None:
        self._file = file
        self._text, self._root = _understood(file, content)
        self._lines = lines_of(self._text)
        self._raw = self._text.split("\n")
        self._starts = [0]
        for line in self._raw:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._trivia = {one.line: one for one in trivia(self._text, self._root)}
        self._end = "\r\n" if "\r\n" in self._text else "\n"
        self._stretches: list[_Stretch] = []
        self._changes: list[Change] = []

    def make(self, change: Change) -> None:
        node = _at(self._root, change.at)
        match change:
            case Remove(indexes=indexes) if isinstance(node, Sequence) and indexes:
                self._remove(node, change.at, sorted(indexes))
            case Append(item=item):
                self._append(node, change.at, item)
            case Put(text=text) if isinstance(node, Scalar):
                self._put(node, text)
            case _:
                raise CannotEdit(f"{self._file}: there is nothing of that kind at {_shown(change.at)}")
        self._changes.append(change)

    def result(self) -> bytes:
        """The edited text, once it has been read and says what it should."""
        text = self._text
        ordered = sorted(self._stretches, key=lambda stretch: stretch.start)
        if any(one.end > other.start for one, other in pairwise(ordered)):
            raise CannotEdit(f"{self._file}: two changes are about one place")
        for stretch in reversed(ordered):
            text = text[: stretch.start] + stretch.text + text[stretch.end :]
        content = text.encode()
        again, root = _understood(self._file, content)
        added = Counter(word for change in self._changes for word in _words_of(change))
        had, has = Counter(_words(self._text, self._root)) + added, Counter(_words(again, root))
        if not alike(root, self._intended()) or has - had:
            raise CannotEdit(f"{self._file}: edited, it would say something else than intended; edit it by hand")
        return content

    def _intended(self) -> Node | None:
        """The tree that should come of it: what is inside of a list is changed before its items move."""
        wanted = self._root
        for change in sorted(self._changes, key=lambda change: -len(change.at)):
            wanted = _replaced(wanted, change.at, _changed(_at(wanted, change.at), change))
        return wanted

    # --- taking items away

    def _remove(self, node: Sequence, at: Path, indexes: list[int]) -> None:
        if any(index >= len(node.items) for index in indexes):
            raise CannotEdit(f"{self._file}: {_shown(at)} has no such item")
        if len(indexes) == len(node.items):
            self._empty(node, at)
        elif is_flow(self._lines, node) and not all(self._owns_lines(node, index) for index in indexes):
            for run in _runs(indexes):
                self._remove_within(node, run[0], run[-1])
        else:
            for run in _runs(indexes):
                self._remove_lines(node, run[0], run[-1])

    def _empty(self, node: Sequence, at: Path) -> None:
        """Nothing is left: an empty list says so."""
        if is_flow(self._lines, node):
            self._stretches.append(_Stretch(self._offset(*_start(node)), self._offset(*_end(node)), "[]"))
            return
        key = _key(self._root, at)
        if key is None:
            raise CannotEdit(f"{node.span.place}: the file would be empty; remove it")
        colon = self._text.index(":", self._offset(*_end(key))) + 1
        self._stretches.append(_Stretch(colon, colon, " []"))
        self._remove_lines(node, 0, len(node.items) - 1)

    def _remove_within(self, node: Sequence, first: int, last: int) -> None:
        """Items of a list on one line: with the comma before them, or after them where nothing is before them."""
        if first > 0:
            start, end = _end(node.items[first - 1]), _end(node.items[last])
        else:
            start, end = _start(node.items[first]), _start(node.items[last + 1])
        bound = _start(node.items[last + 1]) if last + 1 < len(node.items) else _end(node)
        if any(start <= place < bound for place in self._comments_between(node.items[first : last + 1])):
            raise CannotEdit(f"{node.items[first].span.place}: comments stand between the items; edit it by hand")
        self._stretches.append(_Stretch(self._offset(*start), self._offset(*end)))

    def _comments_between(self, items: tuple[Node, ...]) -> list[tuple[int, int]]:
        """Where comments stand that are not inside one of these items."""
        places = [(one.line, one.column) for one in self._trivia.values() if one.text]
        return [place for place in places if not any(_start(item) < place < _end(item) for item in items)]

    def _owns_lines(self, node: Sequence, index: int) -> bool:
        """Whether nothing but an item, its comma and a comment is on the lines of the item of a `[...]`."""
        item = node.items[index]
        before = self._lines[item.span.line - 1][: item.span.column - 1]
        after = self._lines[item.span.end_line - 1][item.span.end_column - 1 :].split("#")[0]
        return not before.strip() and after.strip() in ("", ",")

    def _remove_lines(self, node: Sequence, first: int, last: int) -> None:
        """Items that have lines of their own."""
        start = self._own_start(node, first)
        end = self._own_end(node, last)
        # No two blank lines are left one after the other, and none at the start or the end of what is left.
        heads = first == 0 and last + 1 < len(node.items) and not is_flow(self._lines, node)
        above = start == 1 or self._is_blank(start - 1) or heads
        while above and self._is_blank(end + 1):
            end += 1
        while end >= len(self._lines) and start > 1 and self._is_blank(start - 1):
            start -= 1
        self._stretches.append(_Stretch(self._starts[start - 1], min(self._starts[end], len(self._text))))

    def _own_start(self, node: Sequence, index: int) -> int:
        """The first line of an item, with the comments right above it."""
        line = self._dash(node, index)
        least = 0 if index == 0 else self._own_end(node, index - 1)
        while line - 1 > least and (comment := self._trivia.get(line - 1)) and comment.text and comment.alone:
            line -= 1
        return line

    def _dash(self, node: Sequence, index: int) -> int:
        line = node.items[index].span.line
        if is_flow(self._lines, node):
            return line
        while self._lines[line - 1][node.span.column - 1 : node.span.column] != "-":
            line -= 1
        return line

    def _own_end(self, node: Sequence, index: int) -> int:
        """The last line of an item, with the comments below it that are further in than its dash."""
        end = line = _last_line(self._lines, node.items[index])
        while comment := self._trivia.get(line + 1):
            line += 1
            if comment.text and (not comment.alone or comment.column <= node.span.column):
                break
            end = line if comment.text else end
        return end

    def _is_blank(self, line: int) -> bool:
        return line <= len(self._lines) and not self._lines[line - 1].strip()

    # --- adding an item, replacing a value

    def _append(self, node: Node | None, at: Path, item: str) -> None:
        if isinstance(node, Sequence) and node.items:
            if is_flow(self._lines, node):
                self._append_within(node, item)
            else:
                self._append_lines(node, item)
        elif node is None and len(at) == 1:
            self._append_key(str(at[0]), item)
        elif isinstance(node, Sequence) and (key := _key(self._root, at)) is not None:
            self._append_first(node, key, item)
        else:
            raise CannotEdit(f"{self._file}: {_shown(at)} is not a list")

    def _append_first(self, node: Sequence, key: Scalar, item: str) -> None:
        """The first item of what was `[]`."""
        line = self._lines[key.span.line - 1]
        if node.span.end_line != key.span.line or line[node.span.end_column - 1 :].split("#")[0].strip():
            raise CannotEdit(f"{node.span.place}: the empty list does not stand on a line of its own")
        colon = self._text.index(":", self._offset(*_end(key))) + 1
        self._stretches.append(_Stretch(colon, self._offset(*_end(node))))
        self._insert_after(key.span.line, list(_indented(item, len(line) - len(line.lstrip()) + STEP)))

    def _append_within(self, node: Sequence, item: str) -> None:
        if "\n" in item.rstrip("\n"):
            raise CannotEdit(f"{node.span.place}: the list is on one line; write it as `- item` lines")
        end = self._offset(*_end(node.items[-1]))
        self._stretches.append(_Stretch(end, end, f", {item.strip()}"))

    def _append_lines(self, node: Sequence, item: str) -> None:
        last = len(node.items) - 1
        end = self._own_end(node, last)
        apart = last > 0 and self._is_blank(self._own_start(node, last) - 1)
        lines = [*([""] if apart else []), *_indented(item, node.span.column - 1)]
        self._insert_after(end, lines)

    def _append_key(self, key: str, item: str) -> None:
        if self._root is not None and (not isinstance(self._root, Mapping) or is_flow(self._lines, self._root)):
            raise CannotEdit(f"{self._file}: there is no place for `{key}:`; write the file as `key: value` lines")
        self._insert_after(len(self._lines), [f"{key}:", *_indented(item, STEP)])

    def _insert_after(self, line: int, lines: list[str]) -> None:
        offset = min(self._starts[line], len(self._text))
        text = "".join(f"{one}{self._end}" for one in lines)
        ended = offset == 0 or self._text[offset - 1] == "\n"
        self._stretches.append(_Stretch(offset, offset, text if ended else self._end + text))

    def _put(self, node: Scalar, text: str) -> None:
        if is_block_scalar(self._lines, node) or "\n" in text:
            raise CannotEdit(f"{node.span.place}: this is not one line")
        start = self._offset(*_start(node))
        end = self._offset(*_end(node))
        space = " " if start == end and not self._text[:start].endswith(" ") else ""
        self._stretches.append(_Stretch(start, end, space + text))

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column - 1


def _understood(file: str, content: bytes) -> tuple[str, Node | None]:
    text, source = text_of(file, content), read(file, content)
    if not isinstance(text, str) or source.diagnostics:
        first = source.diagnostics[0]
        raise CannotEdit(f"{first.span.place}: it cannot be read: {first.message}")
    return text, source.root


def _changed(node: Node | None, change: Change) -> Node:
    """A node after a change of it."""
    items = node.items if isinstance(node, Sequence) else ()
    match change:
        case Remove(indexes=indexes):
            assert node is not None  # it has been edited
            return Sequence(tuple(item for index, item in enumerate(items) if index not in indexes), node.span)
        case Append(item=item):
            added = _fragment(item)[1]
            return Sequence((*items, added), added.span)
        case Put(text=text):
            return _fragment(text)[1]
        case _:
            assert_never(change)


def _fragment(item: str) -> tuple[str, Node]:
    """A piece of YAML by itself."""
    text, root = _understood("the new text", item.encode())
    if root is None:
        raise CannotEdit("there is nothing to add")
    return text, root


def _words_of(change: Change) -> tuple[str, ...]:
    """The comments that a change brings with it."""
    return (
        ()
        if isinstance(change, Remove)
        else _words(*_fragment(change.item if isinstance(change, Append) else change.text))
    )


def _words(text: str, root: Node | None) -> tuple[str, ...]:
    return tuple(comment.text for comment in comments(text, root))


def _indented(item: str, indent: int) -> Iterator[str]:
    """An item's lines below a key."""
    for index, line in enumerate(item.rstrip("\n").split("\n")):
        yield " " * indent + ("- " if index == 0 else "  ") + line if line else ""


def _at(node: Node | None, path: Path) -> Node | None:
    for step in path:
        if isinstance(step, str):
            node = node.get(step) if isinstance(node, Mapping) else None
        else:
            node = node.items[step] if isinstance(node, Sequence) and step < len(node.items) else None
    return node


def _key(root: Node | None, path: Path) -> Scalar | None:
    """The key under which a path's last step stands, or None."""
    above = _at(root, path[:-1]) if path else None
    entries = above.entries if isinstance(above, Mapping) else ()
    return next((key for key, _ in entries if key.text == path[-1]), None)


def _replaced(node: Node | None, path: Path, new: Node) -> Node:
    """The tree with another node at a path; a key that is not there is added."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(step, int) and isinstance(node, Sequence):
        items = (*node.items[:step], _replaced(node.items[step], rest, new), *node.items[step + 1 :])
        return replace(node, items=items)
    entries = node.entries if isinstance(node, Mapping) else ()
    key = next((key for key, _ in entries if key.text == step), Scalar(str(step), new.span))
    value = _replaced(dict(_named(entries)).get(str(step)), rest, new)
    others = tuple((name, value) for name, value in entries if name.text != step)
    return Mapping((*others, (key, value)), new.span)


def _named(entries: Iterable[tuple[Scalar, Node]]) -> Iterator[tuple[str, Node]]:
    return ((key.text, value) for key, value in entries)


def _last_line(lines: list[str], node: Node) -> int:
    """The last line on which a node, or a part of it, stands."""
    if isinstance(node, Scalar):
        if is_block_scalar(lines, node):
            content = [number for number in block_lines(lines, node) if lines[number - 1].strip()]
            return max([node.span.line, *content])
        return node.span.end_line
    if is_flow(lines, node):
        return node.span.end_line
    parts = [part for entry in node.entries for part in entry] if isinstance(node, Mapping) else node.items
    return max(_last_line(lines, part) for part in parts)


def _runs(indexes: list[int]) -> list[list[int]]:
    """Indexes that follow one another, together."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _start(node: Node) -> tuple[int, int]:
    return node.span.line, node.span.column


def _end(node: Node) -> tuple[int, int]:
    return node.span.end_line, node.span.end_column


def _shown(path: Path) -> str:
    return ".".join(map(str, path)) or "the top"
