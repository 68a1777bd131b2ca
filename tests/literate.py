"""Reads the literate cases of tests/policy: Markdown in which meshes, policies and what is expected stand in prose.

A `##` heading begins a case. A fenced block whose info string is `yaml FILE` (or `json FILE`, `pem FILE`) is a file of
the mesh; those before the first heading belong to every case of the page, unless the case has the file itself. A block
`text quarantined` holds names, and one `text now` the moment from which guarantees are to hold. What is expected is a
table of requests (from, to, operation, claims, time, decision, rule, reason; each column by its head, and claims as
JSON), or a block `text findings` with the output of `septum check`, or a block `text lint` with that of `septum lint`,
and then one `yaml fixed policy/rules.yaml` with what `septum lint --fix` makes of that file, if it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)
_FIELDS = {"from": "caller", "to": "target"}
# The moment of a case that names none.
NOW = "2026-11-24T17:04:00Z"


@dataclass(frozen=True, slots=True)
class Asked:
    """A row of a table: a request, and what is expected of it. `rule` allows it, or came nearest."""

    caller: str
    target: str
    operation: str
    decision: str
    rule: str = ""
    reason: str = ""
    claims: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a page."""

    page: str
    title: str
    files: Mapping[str, bytes]
    asked: tuple[Asked, ...]
    findings: str | None
    quarantined: frozenset[str] = frozenset()
    now: str = NOW
    lint: str | None = None
    fixed: str | None = None

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def cases() -> Iterator[Case]:
    """Every case of every page in tests/policy."""
    for page in sorted((Path(__file__).parent / "policy").glob("*.md")):
        head, *sections = _HEADING.split(page.read_text(encoding="utf-8"))
        shared = _files(head)
        for title, body in zip(sections[::2], sections[1::2], strict=True):
            shut = frozenset((_block(body, "text quarantined") or "").split())
            findings = _block(body, "text findings")
            now = (_block(body, "text now") or NOW).strip()
            lint, fixed = _block(body, "text lint"), _block(body, "yaml fixed policy/rules.yaml")
            files, asked = shared | _files(body), tuple(_asked(body))
            yield Case(page.stem, title, files, asked, findings, shut, now, lint, fixed)


def _files(text: str) -> dict[str, bytes]:
    kinds = ("yaml ", "json ", "pem ")
    blocks = [(info.split(), body) for info, body in _BLOCK.findall(text) if info.startswith(kinds)]
    return {words[1]: body.encode() for words, body in blocks if words[1] != "fixed"}


def _block(text: str, wanted: str) -> str | None:
    return next((body for info, body in _BLOCK.findall(text) if info == wanted), None)


def _asked(text: str) -> Iterator[Asked]:
    rows = [[cell.strip() for cell in row.split("|")] for row in _ROW.findall(_BLOCK.sub("", text))]
    for row in rows[2:]:  # after the head of the table, and the rule below it
        cells = {_FIELDS.get(head, head): cell for head, cell in zip(rows[0], row, strict=True)}
        yield Asked(**cells | {key: cells.get(key, "").strip("`") for key in ("operation", "claims")})
