"""One layout for the files of a mesh. What a file says and its comments stay; that is checked each time."""

from __future__ import annotations

from collections import Counter

from septum.policy.shape import Keys, Many
from septum.policy.source import Node, read
from septum.policy.text import text_of
from septum.policy.upkeep.alike import alike
from septum.policy.upkeep.comments import comments, lines_of, trivia
from septum.policy.upkeep.printing import CannotPrint, Printer


class NotFormatted(Exception):
    """The file cannot be laid out without a risk to what it says; the text says why, and at which line."""


def formatted(file: str, content: bytes, shape: Keys | Many | None) -> bytes:
    """The file in the one layout. `shape` is what the file has, where that is known. Raises NotFormatted."""
    text, root = _read(file, content)
    laid_out = _printed(text, root, shape)
    again, same = _read(file, laid_out.encode())
    if not alike(root, same) or _words_of(text, root) != _words_of(again, same):
        raise NotFormatted(f"{file}: laid out, it would not say the same; please report this file")
    if _printed(again, same, shape) != laid_out:
        raise NotFormatted(f"{file}: laid out twice, it would not stay the same; please report this file")
    return laid_out.encode()


def _read(file: str, content: bytes) -> tuple[str, Node | None]:
    text = text_of(file, content)
    source = read(file, content)
    if not isinstance(text, str) or source.diagnostics:
        first = source.diagnostics[0]
        raise NotFormatted(f"{first.span.place}: it cannot be read: {first.message}")
    return text, source.root


def _printed(text: str, root: Node | None, shape: Keys | Many | None) -> str:
    try:
        return Printer(lines_of(text), trivia(text, root)).file(root, shape)
    except CannotPrint as error:
        raise NotFormatted(str(error)) from None


def _words_of(text: str, root: Node | None) -> Counter[str]:
    return Counter(comment.text for comment in comments(text, root))
