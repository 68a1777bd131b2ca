"""Bytes to text that is what it looks like. What would show a reviewer something else than what is read is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from septum.model.diagnostic import Diagnostic, Span
from septum.policy.codes import NOT_TEXT, TOO_LARGE

# A policy is written by people; the bound only keeps a wrong file from taking the checker down.
MAX_BYTES = 4 * 1024 * 1024

# Characters that source.py puts in the place of braces.
OPEN, CLOSE = "\ue000", "\ue001"

# Tabs indent differently in every editor; U+0085, U+2028, U+2029 and a lone CR are line breaks to YAML and not to a
# reviewer; bidirectional controls reorder what a reviewer sees.
_HIDDEN = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    + OPEN
    + CLOSE
    + "]|\r(?!\n)"
)
# An escape that would make a stand-in out of quoted text.
_ESCAPED_STAND_IN = re.compile(r"\\(?:u|U0000)[eE]00[01]")


def text_of(file: str, content: bytes) -> str | tuple[Diagnostic, ...]:
    """The text of a file, without a byte order mark, or why it has none."""
    if len(content) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES >> 20} MiB"
        return (Diagnostic(TOO_LARGE, message, whole(file), help="split it"),)
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return (_undecodable(file, content, error),)
    return tuple(_refused(file, text)) or text


def whole(file: str) -> Span:
    """The span of a diagnostic about a file as a whole: empty, at its start."""
    return Span(file, 1, 1, 1, 1)


def hidden(text: str) -> str | None:
    """The first character that is refused, as U+XXXX, or None."""
    match = _HIDDEN.search(text)
    return f"U+{ord(match[0]):04X}" if match else None


def _undecodable(file: str, content: bytes, error: UnicodeDecodeError) -> Diagnostic:
    line_start = content.rfind(b"\n", 0, error.start) + 1
    line = content.count(b"\n", 0, error.start) + 1
    column = len(content[line_start : error.start].decode("utf-8")) + 1
    at = Span(file, line, column, line, column + 1)
    return Diagnostic(
        NOT_TEXT, "the file is not UTF-8", at, f"the byte 0x{content[error.start]:02x} has no meaning here"
    )


def _refused(file: str, text: str) -> Iterator[Diagnostic]:
    """The first place of each kind of character that is refused; a binary file has thousands."""
    seen: set[str] = set()
    for pattern in (_HIDDEN, _ESCAPED_STAND_IN):
        for match in pattern.finditer(text):
            if match[0] not in seen:
                seen.add(match[0])
                yield _refused_character(file, text, match)


def _refused_character(file: str, text: str, match: re.Match[str]) -> Diagnostic:
    line, column = text.count("\n", 0, match.start()) + 1, match.start() - text.rfind("\n", 0, match.start())
    at = Span(file, line, column, line, column + len(match[0]))
    if match[0] == "\t":
        return Diagnostic(NOT_TEXT, "a tab stands here", at, help="use spaces")
    shown = f"U+{ord(match[0]):04X}" if len(match[0]) == 1 else match[0]
    return Diagnostic(NOT_TEXT, f"the character {shown} is not read", at, help="remove it")
