"""Comments that say that a finding is meant so: `# septum: ignore SEP603`, with a reason after it if there is one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from septum.model.diagnostic import Span
from septum.policy.source import Node
from septum.policy.upkeep.comments import Comment, trivia

_CODE = r"SEP[0-9]{3}"
_IGNORE = re.compile(rf"#\s*septum:\s*ignore\s+({_CODE}(?:\s*,\s*{_CODE})*)(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Ignore:
    """One code that is ignored on one line of a file; `span` is where the comment says so."""

    code: str
    line: int
    span: Span


def ignores(file: str, text: str, root: Node | None) -> tuple[Ignore, ...]:
    """Everything that a file's comments ignore. A comment that stands alone is about the next line that is none."""
    found = trivia(text, root)
    alone = {comment.line: comment for comment in found if comment.alone}
    return tuple(one for comment in found for one in _of(file, comment, alone))


def _of(file: str, comment: Comment, alone: Collection[int]) -> Iterator[Ignore]:
    match = _IGNORE.search(comment.text)
    if match is None:
        return
    line = comment.line
    while line in alone:
        line += 1
    start = comment.column + match.start(1)
    for code in re.finditer(_CODE, match[1]):
        span = Span(file, comment.line, start + code.start(), comment.line, start + code.end())
        yield Ignore(code[0], line, span)
