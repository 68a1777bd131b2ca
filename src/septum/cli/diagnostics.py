"""One Diagnostic, three renderings: text for people, JSON for programs, SARIF 2.1.0 for code hosts."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import click

from septum import __version__
from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.policy.codes import CODES

Sources = Mapping[str, bytes | OSError]
Style = Callable[..., str]

# A line that is longer is shown in part, around what is marked.
_WIDEST = 160


def as_text(diagnostics: Sequence[Diagnostic], sources: Sources, *, colour: bool, before: str = "") -> str:
    """Every finding with the line it is about, the place marked, and what to do.

    `before` is put before each file's name, so that a terminal opens it.
    """
    style: Style = click.style if colour else _plain
    return "\n\n".join(_block(diagnostic, sources, style, before) for diagnostic in diagnostics)


def _plain(text: str, **_: Any) -> str:
    return text


def _block(diagnostic: Diagnostic, sources: Sources, style: Style, before: str) -> str:
    severity, span = diagnostic.severity, diagnostic.span
    tone = "red" if severity is Severity.ERROR else "yellow"
    head = style(f"{severity}[{diagnostic.code}]", fg=tone, bold=True)
    lines = [head + style(f": {visible(diagnostic.message)}", bold=True)]
    margin = " " * len(str(span.line))
    place = span.file if _is_whole(span) else str(span)
    lines.append(f"{margin}{style('-->', fg='blue')} {visible(before + place)}")
    text = None if _is_whole(span) else _line(sources, span)
    if text is not None:
        lines += _excerpt(text, span, diagnostic.label, lambda part: style(part, fg=tone), style)
    elif diagnostic.label:
        first, *further = map(visible, diagnostic.label.split("\n"))
        lines += [f"{margin} = {first}", *(f"{margin}   {line}" for line in further)]
    if diagnostic.help:
        lines.append(f"{margin} {style('=', fg='blue')} help: {visible(diagnostic.help)}")
    return "\n".join(lines)


def _excerpt(text: str, span: Span, label: str, marked: Callable[[str], str], style: Style) -> list[str]:
    """The line, and below it the marks, in step also where a character takes two cells; a label may have lines."""
    end = span.end_column if span.end_line == span.line else len(text) + 1
    start, end = span.column - 1, max(span.column, min(end, len(text) + 1) - 1)
    cut = max(0, start - _WIDEST // 2) if len(text) > _WIDEST else 0
    shown, start, end = text[cut : cut + _WIDEST], start - cut, min(end - cut, _WIDEST)
    count, before = max(1, _cells(shown[start:end])), " " * _cells(shown[:start])
    margin, bar = " " * len(str(span.line)), style("|", fg="blue")
    first, *further = map(visible, label.split("\n"))
    return [
        f"{margin} {bar}",
        f"{style(str(span.line), fg='blue')} {bar} {shown}",
        f"{margin} {bar} {before}{marked('^' * count)} {first}".rstrip(),
        *(f"{margin} {bar} {before}{' ' * count} {line}" for line in further),
    ]


def _is_whole(span: Span) -> bool:
    return (span.line, span.column) == (span.end_line, span.end_column)


def _line(sources: Sources, span: Span) -> str | None:
    content = sources.get(span.file)
    if not isinstance(content, bytes):
        return None
    # Lines as the front-end counts them, which is by LF alone.
    lines = content.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    return visible(lines[span.line - 1].removesuffix("\r")) if span.line <= len(lines) else None


def visible(text: str) -> str:
    """The text with one visible character for each that a terminal would act on or hide."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in text)


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))


def as_json(diagnostics: Iterable[Diagnostic]) -> str:
    """A list of objects."""
    return json.dumps([asdict(diagnostic) for diagnostic in diagnostics], indent=2)


def as_sarif(diagnostics: Iterable[Diagnostic], *, before: str = "") -> str:
    """A SARIF log (OASIS SARIF 2.1.0); `before` is put before each file's name."""
    found = list(diagnostics)
    codes = sorted({diagnostic.code for diagnostic in found})
    driver = {"name": "septum", "version": __version__, "rules": [_rule(code) for code in codes]}
    results = [_result(diagnostic, codes.index(diagnostic.code), before) for diagnostic in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, Any]:
    return {
        "id": code,
        "shortDescription": {"text": CODES[code].title},
        "fullDescription": {"text": CODES[code].text},
    }


def _result(diagnostic: Diagnostic, rule: int, before: str) -> dict[str, Any]:
    text = ". ".join(part for part in (diagnostic.message, diagnostic.label, diagnostic.help) if part)
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": str(diagnostic.severity),
        "message": {"text": text},
        "locations": [{"physicalLocation": _location(diagnostic.span, before)}],
    }


def _location(span: Span, before: str) -> dict[str, Any]:
    artifact = {"artifactLocation": {"uri": quote(before + span.file)}}
    if _is_whole(span):
        return artifact
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    return artifact | {"region": region}


def from_json(value: Mapping[str, Any]) -> Diagnostic:
    """A diagnostic that crossed the control socket."""
    return Diagnostic(
        value["code"],
        value["message"],
        Span(**value["span"]),
        value["label"],
        value["help"],
        Severity(value["severity"]),
    )


def count(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    found = list(diagnostics)
    numbers = {severity: sum(d.severity is severity for d in found) for severity in Severity}
    return ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in numbers.items() if n) or "no findings"
