"""Policy tests in Markdown: fenced code blocks that say so, read at the lines where they stand.

A block is one as CommonMark has it (0.31, section 4.5), also inside a list; a fence that nothing closes goes on to the
end. It holds tests when `septum-test` is a word of its info string: ```` ```yaml septum-test ````.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WORD = b"septum-test"

_OPENS = re.compile(rb" *(?P<fence>`{3,}|~{3,})(?P<info>.*)")


def blocks(page: bytes) -> Iterator[bytes]:
    """The page with nothing left in it but the lines of one block, for each block of tests."""
    if WORD not in page:
        return  # most pages have none
    lines = page.split(b"\n")
    for start, end in _blocks(lines):
        yield b"\n" * start + b"\n".join(lines[start:end]) + b"\n"


def _blocks(lines: list[bytes]) -> Iterator[tuple[int, int]]:
    """Where blocks of tests are: the first line after the fence, and the closing fence."""
    fence, start, wanted = b"", 0, False
    for number, line in enumerate(lines):
        opens = _OPENS.match(line.rstrip(b"\r"))
        if fence:
            if opens and opens["fence"].startswith(fence) and not opens["info"].strip():
                if wanted:
                    yield start, number
                fence = b""
        elif opens and not (opens["fence"].startswith(b"`") and b"`" in opens["info"]):
            fence, start, wanted = opens["fence"], number + 1, WORD in opens["info"].split()
    if fence and wanted:
        yield start, len(lines)
